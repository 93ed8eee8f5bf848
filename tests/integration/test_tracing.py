"""Spans, log lines and answers of a real server tell the same story, to a real OTLP receiver."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.collector import Spans, attributes, grpc_collector, http_collector
from tests.process import serving, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def config(endpoint: str, protocol: str, rate: float = 1.0) -> dict[str, Any]:
    return {
        "tracing": {"endpoint": endpoint, "protocol": protocol, "sample_rate": rate, "service_name": "tide"},
        "logs": {"requests": "all", "format": "json"},
        "endpoints": {"sum": {"model": "fake:", "version": "7", "options": {"base_ms": 5, "fail_on": -1.0}}},
    }


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_request_leaves_its_spans_with_all_attributes(tmp_path: Path, protocol: str, workers: int) -> None:
    spans = Spans()
    collector = grpc_collector if protocol == "grpc" else http_collector
    with collector(spans) as endpoint, serving(tmp_path, config(endpoint, protocol), workers=workers) as server:
        sent = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-Id": "mine-1"}
        answer = server.call("POST", "/predict", {"features": [[1, 2, 3, 4], [1, 1, 1, 1]]}, sent)
        assert answer.status == 200
        assert answer.json["request_id"] == answer.headers["x-request-id"] == "mine-1"

        predict = until(lambda: spans.named("predict", "mine-1"), "the span", 15)[0]
        assert predict.trace_id.hex() == TRACE
        assert predict.parent_span_id.hex() == PARENT
        assert attributes(predict) == {
            "ml.model.name": "sum",
            "ml.model.version": "7",
            "ml.model.path": "fake:",
            "ml.variant": "baseline",
            "ml.input.feature_count": 2,
            "ml.input.feature_dim": 4,
            "ml.output.prediction_count": 2,
            "correlation.id": "mine-1",
        }
        children = [span for span in spans.received if span.parent_span_id == predict.span_id]
        assert sorted(span.name for span in children) == ["model_inference", "queue"]
        model = next(span for span in children if span.name == "model_inference")
        assert 4e6 < model.end_time_unix_nano - model.start_time_unix_nano < 5e9
        assert all(
            predict.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
            <= predict.end_time_unix_nano
            for span in children
        )  # fmt: skip
        assert spans.resources[0]["service.name"] == "tide"

        lines = [json.loads(line) for line in server.log.splitlines() if "mine-1" in line]
        assert lines
        assert {(line["correlation_id"], line["trace_id"]) for line in lines} == {("mine-1", TRACE)}


def test_an_unsampled_caller_is_not_traced_and_a_failure_is(tmp_path: Path) -> None:
    spans = Spans()
    with http_collector(spans) as endpoint, serving(tmp_path, config(endpoint, "http/protobuf", rate=0.0)) as server:
        unsampled = {"traceparent": f"00-{TRACE}-{PARENT}-00", "X-Request-Id": "not-me"}
        assert server.call("POST", "/predict", {"features": [[1, 2, 3, 4]]}, unsampled).status == 200
        assert server.call("POST", "/predict", {"features": [[1, 2, 3, 4]]}, {"X-Request-Id": "nor-me"}).status == 200
        sampled = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-Id": "me"}
        assert server.call("POST", "/predict", {"features": [[-1, 2, 3, 4]]}, sampled).status == 500
        failed = until(lambda: spans.named("predict", "me"), "the failed request's span", 15)[0]
        assert failed.status.code == 2
        assert not spans.named("predict", "not-me")
        assert not spans.named("predict", "nor-me")
        assert server.stop() == 0


def test_what_waits_is_sent_before_the_end(tmp_path: Path) -> None:
    spans = Spans()
    with http_collector(spans) as endpoint, serving(tmp_path, config(endpoint, "http/protobuf")) as server:
        with server.caller() as caller:
            for _ in range(50):
                caller.call("POST", "/predict", {"features": [[1, 2, 3, 4]]})
        assert server.stop() == 0
        assert len(spans.named("predict")) == 50
