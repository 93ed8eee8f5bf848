"""What monitoring says: frozen records that checks make, the store keeps as JSON, and API, console and alerts show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

Method = Literal["psi", "ks", "js", "wasserstein", "chi2", "linf"]
Kind = Literal["number", "category"]
Check = Literal["missing", "new_categories", "out_of_range", "wrong_type", "duplicates", "volume", "columns"]
Basis = Literal["prediction", "arrival", "estimated"]
"""Windows of labels by the time of the prediction, or of the label's arrival; or no labels, an estimate from scores."""
AlertState = Literal["ok", "pending", "firing", "resolved"]
Source = Literal["drift", "quality", "performance"]


class ColumnResult(msgspec.Struct, frozen=True, kw_only=True):
    """Drift of one column. It is an alarm only with both: effect (``statistic`` above ``floor``) and evidence."""

    column: str
    kind: Kind
    method: Method
    statistic: float
    floor: float
    """Effect below which nothing is said."""
    threshold: float
    """What ``statistic`` must exceed at these numbers of rows: the greater of ``floor`` and of what chance gives."""
    p_value: float
    """Chance of such a statistic without drift."""
    q_value: float
    """The same after Benjamini and Hochberg, over all columns of the check."""
    drifted: bool
    reference_rows: int
    rows: int
    note: str = ""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One check of the quality of data. ``value`` and ``reference`` are shares from 0 to 1; for volume, rows."""

    check: Check
    column: str = ""
    """Empty for what concerns whole rows."""
    value: float
    reference: float = 0.0
    bound: float
    count: int
    """Rows that are concerned."""
    rows: int
    broken: bool
    examples: tuple[str, ...] = ()
    """Such as new categories; at most five, shortened."""


class DriftReport(msgspec.Struct, frozen=True, kw_only=True):
    """One check of one window of one variant."""

    id: str
    endpoint: str
    variant: str
    version: str
    baseline: str
    """Name of the baseline."""
    start: float
    seconds: float
    created: float
    rows: int
    complete: bool
    """Whether the window is over; a window that is not is checked again."""
    drifted: bool
    columns: tuple[ColumnResult, ...] = ()
    findings: tuple[Finding, ...] = ()
    note: str = ""
    """Why nothing was concluded, such as too few rows."""


class Metric(msgspec.Struct, frozen=True):
    """A value with the interval that holds it."""

    value: float
    low: float
    high: float


class Performance(msgspec.Struct, frozen=True, kw_only=True):
    """Quality of one variant's predictions in one window."""

    endpoint: str
    variant: str
    version: str
    basis: Basis
    start: float
    seconds: float
    labels: int
    predictions: int
    """Sampled predictions in the window, with or without a label."""
    task: Literal["classification", "regression"]
    metrics: Mapping[str, Metric] = {}


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is watched and was not right at least once. ``rule`` is its name within the endpoint, such as
    ``drift:baseline:age`` or ``performance:baseline:accuracy``."""

    id: str
    endpoint: str
    rule: str
    source: Source
    variant: str
    version: str
    column: str = ""
    state: AlertState
    statistic: str
    """Name of what was measured, such as psi, accuracy or missing."""
    value: float
    threshold: float
    rows: int
    reference_rows: int = 0
    window: float
    """Start of the newest window that counted."""
    window_seconds: float
    broken: int = 0
    """Windows in a row that were not right, the newest included; 0 while it is right."""
    right: int = 0
    """Windows in a row that were right again."""
    created: float
    changed: float
    fired: float = 0.0
    resolved: float = 0.0
    notified: float = 0.0
    told: AlertState = "ok"
    """What the newest notification said; ok before the first, and after a silence."""
    silenced_until: float = 0.0
    silenced_by: str = ""
    report: str = ""
    """Id of the drift report that says more."""
    text: str
    """One sentence for people: feature, statistic, threshold, counts."""
    command: str
    """What to run next."""
