from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tidegate.config.rules import broken_rules
from tidegate.settings import Settings

INFINITE = float("inf")


def keys(**given: Any) -> list[str]:
    return [key for key, _ in broken_rules(msgspec.convert(given, Settings))]


def endpoint(**given: Any) -> dict[str, Any]:
    return {"endpoints": {"a": {"model": "m.onnx"} | given}}


def test_good_settings_break_no_rule() -> None:
    variants = {"b": {"model": "b", "share": 60}, "c": {"model": "c", "share": 40}, "s": {"model": "s", "shadow": True}}
    assert keys(**endpoint(variants=variants), default_endpoint="a", tracing={"endpoint": "http://o:4318"}) == []


def bounds(task: str = "auto", **given: Any) -> dict[str, Any]:
    return endpoint(monitor={"performance": {"task": task, "bounds": given}})


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"default_endpoint": "x"}, "default_endpoint"),
        ({"server": {"port": 9000, "grpc_port": 9000}}, "server.grpc_port"),
        ({"server": {"correlation_header": "X Y"}}, "server.correlation_header"),
        ({"tracing": {"endpoint": "otel:4317"}}, "tracing.endpoint"),
        ({"access": {"predict_key": "k", "operate_key": "k"}}, "access.operate_key"),
        ({"endpoints": {"a b": {"model": "m"}}}, "endpoints.a b"),
        ({"endpoints": {"a.b": {"model": "m"}}}, "endpoints.a.b"),
        (endpoint(model=" "), "endpoints.a.model"),
        (endpoint(digest="sha256:12"), "endpoints.a.digest"),
        (endpoint(batching={"max_rows": 10, "max_queue_rows": 9}), "endpoints.a.batching.max_queue_rows"),
        (endpoint(routing={"unit_header": "a:b"}), "endpoints.a.routing.unit_header"),
        (endpoint(routing={"unit_header": "x-canary"}), "endpoints.a.routing.force_header"),
        (endpoint(variants={"baseline": {"model": "b"}}), "endpoints.a.variants.baseline"),
        (endpoint(variants={"-": {"model": "b"}}), "endpoints.a.variants.-"),
        (endpoint(variants={"b": {"model": ""}}), "endpoints.a.variants.b.model"),
        (endpoint(variants={"b": {"model": "b", "share": 1, "shadow": True}}), "endpoints.a.variants.b.share"),
        (
            endpoint(timeout_ms=10, variants={"b": {"model": "b", "timeout_ms": 11}}),
            "endpoints.a.variants.b.timeout_ms",
        ),
        (endpoint(variants={n: {"model": n, "share": 50.5} for n in "bc"}), "endpoints.a.variants"),
        (endpoint(release={"steps": [5, 1, 100]}), "endpoints.a.release.steps"),
        (endpoint(release={"steps": [1, 50]}), "endpoints.a.release.steps"),
        (endpoint(release={"step": {"min_seconds": 9, "max_seconds": 8}}), "endpoints.a.release.step.max_seconds"),
        (endpoint(release={"guardrails": [{}]}), "endpoints.a.release.guardrails.0"),
        (endpoint(release={"guardrails": [{"errors": {}, "latency": {}}]}), "endpoints.a.release.guardrails.0"),
        (endpoint(release={"bake_seconds": INFINITE}), "endpoints.a.release.bake_seconds"),
        (
            endpoint(release={"guardrails": [{"errors": {"tolerance": INFINITE}}]}),
            "endpoints.a.release.guardrails.0.errors.tolerance",
        ),
        *(
            (
                endpoint(
                    release={"guardrails": [{"prometheus": {"query": "up", "url": "http://p", "max": float(number)}}]}
                ),
                "endpoints.a.release.guardrails.0.prometheus.max",
            )
            for number in ("inf", "-inf", "nan")
        ),
        (
            endpoint(release={"guardrails": [{"prometheus": {"query": "up", "max": 1}}]}),
            "endpoints.a.release.guardrails.0.prometheus.url",
        ),
        ({"jobs": {"schedules": {"n": {"every": "0s", "kind": "dvc-pull"}}}}, "jobs.schedules.n.every"),
        ({"jobs": {"schedules": {"n": {"every": "1d", "kind": "report"}}}}, "jobs.schedules.n.endpoint"),
        (endpoint(monitor={"window": "0s"}), "endpoints.a.monitor.window"),
        (endpoint(monitor={"every": "10ms"}), "endpoints.a.monitor.every"),
        (
            endpoint(monitor={"drift": {"columns": {"age": {"floor": INFINITE}}}}),
            "endpoints.a.monitor.drift.columns.age.floor",
        ),
        (bounds(acuracy={"min": 0.9}), "endpoints.a.monitor.performance.bounds.acuracy"),
        (bounds(task="regression", accuracy={"min": 0.9}), "endpoints.a.monitor.performance.bounds.accuracy"),
        (bounds(accuracy={}), "endpoints.a.monitor.performance.bounds.accuracy"),
        (bounds(mae={"min": 2, "max": 1}), "endpoints.a.monitor.performance.bounds.mae.min"),
        (endpoint(monitor={"retrain": {"config": " "}}), "endpoints.a.monitor.retrain.config"),
        (endpoint(monitor={"retrain": {"config": "t.yaml", "every": "0s"}}), "endpoints.a.monitor.retrain.every"),
    ],
)
def test_each_rule(given: dict[str, Any], key: str) -> None:
    assert keys(**given) == [key]
