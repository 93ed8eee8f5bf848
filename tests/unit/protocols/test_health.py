from __future__ import annotations

import contextlib

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.protocols.http import send
from tests.unit.serving.plane import failing, serving, times
from tidegate.metrics import Metrics
from tidegate.protocols.health import Health
from tidegate.serving.live import Live
from tidegate.serving.runtimes.base import LoadedModel
from tidegate.settings import EndpointSettings
from tidegate.types import Variant


def nothing(variant: Variant, settings: EndpointSettings) -> LoadedModel:
    raise AssertionError


@pytest.mark.parametrize("path", ["/healthz", "/health"])
async def test_a_process_lives_before_it_is_ready(path: str) -> None:
    routes = Health(Live(nothing, Metrics()), Metrics()).routes()
    answer = await send(routes, "GET", path)
    assert (answer.status, msgspec.json.decode(answer.body)) == (200, {"status": "alive"})


@pytest.mark.parametrize("path", ["/readyz", "/ready"])
async def test_not_ready_says_why_and_when_to_ask_again(path: str) -> None:
    routes = Health(Live(nothing, Metrics()), Metrics()).routes()
    answer = await send(routes, "GET", path)
    assert answer.status == 503
    assert msgspec.json.decode(answer.body) == {"status": "not ready", "reasons": ["no snapshot in force yet"]}
    assert (b"retry-after", b"1") in answer.headers


async def test_ready_when_every_endpoint_answers() -> None:
    """Lightning-AI/LitServe#663, #660, #347: ready while the model could not answer."""
    broken = False
    async with serving({"baseline": lambda inputs: (failing if broken else times(1))(inputs)}) as plane:
        routes = Health(plane.live, plane.metrics).routes()
        assert (await send(routes, "GET", "/readyz")).status == 200
        broken = True
        for _ in range(5):
            with contextlib.suppress(Exception):
                await plane.ask(1)
        for _ in range(2):  # and it stays so for as long as the model fails
            answer = await send(routes, "GET", "/readyz")
            assert answer.status == 503
            assert b"e: the model does not answer" in answer.body
            assert b"the model fails" not in answer.body
        broken = False
        assert (await send(routes, "GET", "/readyz")).status == 200
        plane.live.draining = True
        answer = await send(routes, "GET", "/readyz")
        assert (answer.status, b"draining" in answer.body) == (503, True)
        assert (await send(routes, "GET", "/healthz")).status == 200


async def test_answers_are_not_kept_by_proxies() -> None:
    async with serving({"baseline": times(1)}) as plane:
        routes = Health(plane.live, plane.metrics).routes()
        for path in ("/healthz", "/readyz"):
            assert (b"cache-control", b"no-store") in (await send(routes, "GET", path)).headers


async def test_metrics_are_what_prometheus_reads() -> None:
    async with serving({"baseline": times(1)}) as plane:
        for _ in range(3):
            await plane.ask(1)
        answer = await send(Health(plane.live, plane.metrics).routes(), "GET", "/metrics")
        families = {family.name: family for family in text_string_to_metric_families(answer.body.decode())}
        (sample,) = [s for s in families["tidegate_requests"].samples if s.name.endswith("_total")]
        assert sample.value == 3
        assert sample.labels == {"endpoint": "e", "variant": "baseline", "protocol": "native", "outcome": "ok"}
        assert dict(answer.headers)[b"content-type"].startswith(b"text/plain; version=")


def test_health_needs_no_key_and_metrics_by_configuration() -> None:
    roles = {route.path: route.role for route in Health(Live(nothing, Metrics()), Metrics()).routes()}
    assert roles.pop("/metrics") == "metrics"
    assert set(roles.values()) == {"none"}
