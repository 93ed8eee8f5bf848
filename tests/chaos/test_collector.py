"""R8: the OTLP collector is away, slow, cuts connections, comes back: predictions go on, buffers stay bounded."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest

from tests.caller import Load, sum_of_row
from tests.collector import Mood, Spans, http_collector
from tests.process import Server, free_port, serving, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def config(endpoint: str) -> dict[str, Any]:
    return {"tracing": {"endpoint": endpoint}, "endpoints": {"sum": {"model": "fake:", "options": {"inline": True}}}}


def load(server: Server, requests: int = 3000) -> float:
    """All answered and right; the median time of some of them, in ms."""
    with Load(server.port, sum_of_row(0.0), clients=4, most=requests) as clients:
        clients.join(90).assert_clean(at_least=requests)
    with server.caller() as caller:
        times = [caller.call("POST", "/predict", {"features": [[1, 2, 3, 4]]}).seconds for _ in range(100)]
    return statistics.median(times) * 1000


@pytest.mark.parametrize("mood", ["slow", "reset"])
def test_a_collector_that_misbehaves_slows_nobody(tmp_path: Path, mood: Mood) -> None:
    spans = Spans()
    with http_collector(spans) as endpoint, serving(tmp_path, config(endpoint)) as server:
        well = load(server)
        until(lambda: len(spans.named("predict")) > 100, "spans")
        spans.mood = mood
        load(server)
        resident = server.resident()
        ill = load(server, 6000)
        assert server.resident() < resident + 15e6, "what waits for the collector is bounded"
        assert ill < 10 * well + 5, (ill, well)
        assert server.is_ready()
        spans.mood = "well"
        spans.hurry.set()
        before = len(spans.named("predict"))

        def again() -> bool:
            assert server.predict([1, 2, 3, 4]).status == 200
            return len(spans.named("predict")) > before + 10

        until(again, "spans again, by itself", 60)


def test_a_collector_that_is_away_and_comes(tmp_path: Path) -> None:
    port = free_port()
    with serving(tmp_path, config(f"http://127.0.0.1:{port}")) as server:
        load(server)
        resident = server.resident()
        load(server, 6000)
        assert server.resident() < resident + 15e6
        spans = Spans()
        with http_collector(spans, port):

            def again() -> bool:
                assert server.predict([1, 2, 3, 4]).status == 200
                return len(spans.named("predict")) > 10

            until(again, "spans, by itself", 60)
        assert len(server.log.splitlines()) < 200, "the log is not flooded"


def test_a_collector_that_never_answers_does_not_keep_the_server_from_ending(tmp_path: Path) -> None:
    spans = Spans()
    spans.mood = "slow"
    with http_collector(spans) as endpoint, serving(tmp_path, config(endpoint)) as server:
        load(server, 200)
        server.process.terminate()
        assert server.wait_end(10) == 0
