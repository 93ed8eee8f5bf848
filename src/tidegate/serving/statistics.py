"""What a variant of an endpoint has done so far, in the figures of the statistics call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tidegate.metrics import quantile
from tidegate.serving.version import Version
from tidegate.telemetry import BATCH_ROWS, MODEL_SECONDS, QUEUE_SECONDS, REQUEST_SECONDS, REQUESTS

if TYPE_CHECKING:
    from tidegate.serving.live import Endpoint


def statistics_of(
    read: Mapping[tuple[str, ...], list[float]], endpoint: Endpoint, variant: str, version: Version
) -> Mapping[str, float]:
    """Since the start and over all processes: ``read`` is what ``Metrics.read`` gives."""
    outcomes: dict[str, float] = {}
    for key, cells in read.items():
        if key[0] == REQUESTS.name and key[1:3] == (endpoint.name, variant):
            outcomes[key[4]] = outcomes.get(key[4], 0.0) + cells[0]
    empty = [0.0]
    latency = read.get((REQUEST_SECONDS.name, endpoint.name, variant), empty)
    names = (endpoint.name, version.ref.version)
    queue, run, rows = (read.get((metric.name, *names), empty) for metric in (QUEUE_SECONDS, MODEL_SECONDS, BATCH_ROWS))
    return {
        "success": outcomes.get("ok", 0.0),
        "fail": sum(count for outcome, count in outcomes.items() if outcome in ("failed", "deadline", "refused")),
        "invalid": outcomes.get("invalid", 0.0),
        "shadow_agree": outcomes.get("agree", 0.0),
        "shadow_differ": outcomes.get("differ", 0.0),
        "queue_seconds": queue[-1],
        "run_seconds": run[-1],
        "executions": sum(run[:-1]),
        "rows": rows[-1],
        "p50_ms": quantile(latency[:-1], 0.5) * 1000,
        "p99_ms": quantile(latency[:-1], 0.99) * 1000,
    }
