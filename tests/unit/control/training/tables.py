"""Tables and configurations for the tests of training."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pandas

from tidegate.control.training.config import TrainingConfig

CHURN: dict[str, Any] = {
    "name": "churn",
    "data": {"csv": "churn.csv"},
    "target": "churned",
    "schema": {
        "age": {"min": 0, "max": 120, "missing": 0.3},
        "charges": {"min": 0},
        "plan": {"type": "category", "categories": ["monthly", "yearly"], "missing": 0.3},
        "churned": {"type": "integer"},
    },
    "families": {"logistic_regression": None},
}


def config(**changes: Any) -> TrainingConfig:
    """The one above, with what differs; ``None`` leaves a key out."""
    given = {name: value for name, value in {**CHURN, **changes}.items() if value is not None}
    return msgspec.convert(given, TrainingConfig)


def churn(rows: int = 200, seed: int = 0) -> pandas.DataFrame:
    """Good rows: whoever pays much by the month goes."""
    random = np.random.default_rng(seed)
    charges = random.uniform(10, 100, rows).round(2)
    plan = random.choice(["monthly", "yearly"], rows)
    chance = 1 / (1 + np.exp(-(charges - 55) / 10 - 2 * (plan == "monthly") + 1))
    frame = pandas.DataFrame({"age": random.integers(18, 80, rows).astype(float), "charges": charges, "plan": plan})
    frame["churned"] = (random.random(rows) < chance).astype(int)
    frame.index = range(1, rows + 1)  # type: ignore[assignment]
    return frame


def as_text(frame: pandas.DataFrame) -> pandas.DataFrame:
    """As a CSV file gives it."""
    return frame.astype(object).where(frame.notna(), None).map(lambda value: None if value is None else str(value))
