"""Observations for tests, with what they do not care about filled in."""

from __future__ import annotations

from typing import Any

from tidegate.control.monitoring.alerts import Observation
from tidegate.section import seconds_of

HOUR = 3600.0
START = 1_699_999_200.0


def an_observation(window: int = 0, broken: bool = True, **fields: Any) -> Observation:
    """Of the window of that number, of an hour each, looked at when it is over."""
    start = START + window * HOUR
    values: dict[str, Any] = {
        "endpoint": "churn",
        "rule": "drift:baseline:age",
        "source": "drift",
        "variant": "baseline",
        "version": "1",
        "column": "age",
        "statistic": "psi",
        "value": 0.31 if broken else 0.02,
        "threshold": 0.12,
        "complete": True,
        "rows": 420,
        "reference_rows": 1000,
        "window": start,
        "window_seconds": seconds_of("1h"),
        "time": start + HOUR + 5,
        "text": "churn baseline: age drifted",
        "command": "tidegate monitor show churn --column age",
    }
    return Observation(broken=broken, **values | fields)
