"""Evidently's side of a report, and the only place that loads it: prepared columns in, its page and its figures out.

Nothing leaves the process: Evidently's reports send nothing themselves, and what of its packages would is told not to.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec

from tidegate.control.monitoring.frames import Prepared
from tidegate.errors import MissingExtra, UserError

QUIET = {"DO_NOT_TRACK": "1", "EVIDENTLY_DISABLE_TELEMETRY": "1"}
PURPOSE = "reports"


class Compared(msgspec.Struct, frozen=True):
    """Evidently's drift of one column: a p-value or a distance, as ``method`` says."""

    column: str
    method: str
    value: float
    threshold: float

    @property
    def drifted(self) -> bool:
        return self.value < self.threshold if "p_value" in self.method else self.value >= self.threshold


class Page(msgspec.Struct, frozen=True):
    html: str
    metrics: tuple[dict[str, Any], ...]
    compared: tuple[Compared, ...]
    left_out: tuple[str, ...] = ()
    """Columns that Evidently could not cope with, and why."""


def check_installed(find: Callable[[str], str] = version) -> None:
    """Before anything is read: raises MissingExtra, or UserError for pandas 3, which Evidently 0.7 breaks with."""
    try:
        evidently, pandas = find("evidently"), find("pandas")
    except PackageNotFoundError:
        raise MissingExtra("reports", PURPOSE) from None
    if _major(pandas) >= 3 and evidently.startswith("0.7."):
        raise UserError(
            f"evidently {evidently} does not work with pandas {pandas}: "
            'pip install "tidegate[reports]" takes a pandas before 3'
        )


def draw(prepared: Prepared, *, drift: bool, quality: bool) -> Page:
    """The page and the figures. A column that Evidently fails on is left out, and named. Raises UserError."""
    check_installed()
    os.environ.update(QUIET)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = list(prepared.kinds)
        try:
            return _drawn(prepared, names, drift, quality)
        except Exception as error:  # noqa: BLE001 - it fails in many ways; then it is asked about each column alone
            first = error
        good: list[str] = []
        bad: list[str] = []
        for name in names:
            try:
                _run(prepared, [name], drift, quality)
                good.append(name)
            except Exception as error:  # noqa: BLE001
                bad.append(f"{name}: Evidently fails on it: {_line(error)}")
        if not good or not bad:
            raise UserError(f"Evidently cannot report on these rows: {_line(first)}") from first
        page = _drawn(prepared, good, drift, quality)
        return msgspec.structs.replace(page, left_out=tuple(bad))


def _drawn(prepared: Prepared, names: Sequence[str], drift: bool, quality: bool) -> Page:
    snapshot = _run(prepared, names, drift, quality)
    # Python's own reader: what has no value is NaN there, which is no JSON.
    metrics = tuple(_plain(one) for one in json.loads(snapshot.json())["metrics"])
    return Page(snapshot.get_html_str(as_iframe=False), metrics, tuple(_compared(metrics)))


def _run(prepared: Prepared, names: Sequence[str], drift: bool, quality: bool) -> Any:
    try:
        from evidently import DataDefinition, Dataset, Report
        from evidently.presets import DataDriftPreset, DataSummaryPreset
    except ImportError as error:
        raise MissingExtra("reports", PURPOSE) from error
    definition = DataDefinition(
        numerical_columns=[name for name in names if prepared.kinds[name] == "number"],
        categorical_columns=[name for name in names if prepared.kinds[name] == "category"],
    )

    def dataset(columns: Mapping[str, Any]) -> Any:
        import pandas

        frame = pandas.DataFrame({name: columns[name] for name in names})
        return Dataset.from_pandas(frame, data_definition=definition)

    parts = [*([DataDriftPreset()] if drift else []), *([DataSummaryPreset()] if quality else [])]
    reference = dataset(prepared.reference) if prepared.reference else None
    return Report(parts).run(dataset(prepared.production), reference)


def _compared(metrics: Sequence[Mapping[str, Any]]) -> list[Compared]:
    found = []
    for metric in metrics:
        config, value = metric["config"], metric["value"]
        if config["type"].endswith(":ValueDrift") and isinstance(value, int | float):
            found.append(Compared(config["column"], config["method"], float(value), float(config["threshold"])))
    return found


def _plain(metric: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": metric["metric_name"], "config": metric["config"], "value": finite(metric["value"])}


def finite(value: Any) -> Any:
    """With None for numbers that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): finite(one) for name, one in value.items()}
    return [finite(one) for one in value] if isinstance(value, list | tuple) else value


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _major(text: str) -> int:
    head = text.partition(".")[0]
    return int(head) if head.isdigit() else 0
