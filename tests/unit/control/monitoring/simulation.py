"""Windows in which nothing drifted, and windows in which something did."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidegate.control.monitoring import drift, measures
from tidegate.control.monitoring.columns import Column
from tidegate.control.monitoring.drift import Sides
from tidegate.control.monitoring.profiles import Profile, fold, make_profile
from tidegate.control.monitoring.records import Method
from tidegate.monitor_plan import DriftPlan

Floats = NDArray[np.float64]
Table = dict[str, Any]

ALPHA = 0.01
WINDOWS = 1000
REFERENCE_ROWS = 10_000
NUMBER_METHODS: tuple[Method, ...] = ("psi", "ks", "js", "wasserstein", "chi2", "linf")
CATEGORY_METHODS: tuple[Method, ...] = ("psi", "js", "chi2", "linf")
HEAVY = "heavy"


def allowed(alpha: float = ALPHA, windows: int = WINDOWS) -> float:
    """Share of windows that may alarm: three standard errors above alpha."""
    return alpha + 3 * math.sqrt(alpha * (1 - alpha) / windows)


def null_numbers(rng: np.random.Generator, n: int, m: int = REFERENCE_ROWS, windows: int = WINDOWS) -> Sides:
    """Bins are quantiles of the reference: its counts are equal, and what the bins hold in truth is not."""
    truth = rng.dirichlet(np.full(100, m / 100), windows)
    now = rng.multinomial(n, truth).astype(np.float64)
    missing = rng.binomial(n, 0.01, (windows, 1)).astype(np.float64)
    then = np.full((windows, 100), m / 100)
    return Sides(np.hstack((now, missing)), np.hstack((then, rng.binomial(m, 0.01, (windows, 1)))))


def null_categories(
    rng: np.random.Generator, n: int, categories: int, m: int = REFERENCE_ROWS, windows: int = WINDOWS
) -> Sides:
    """Zipf's law, none new; other ones and missing ones are rare."""
    p = 1 / np.arange(1, categories + 1)
    p = np.concatenate((0.99 * p / p.sum(), [0.004, 0.0, 0.006]))
    return Sides(rng.multinomial(n, p, windows).astype(np.float64), rng.multinomial(m, p, windows).astype(np.float64))


def column_with(values: Floats) -> Column:
    """A reference with a hundredth of ``values`` in each bin."""
    centers = np.sort(values).reshape(100, -1).mean(axis=1)
    return Column(
        kind="number", centers=tuple(centers.tolist()), mean=float(values.mean()), finite=len(values),
        m2=float(values.var() * len(values)),
    )  # fmt: skip


def alarms(method: Method, kind: Any, sides: Sides, reference: Column | None = None) -> tuple[float, float]:
    """Share of the windows with a p-value of at most alpha, and of those whose effect is above the floor as well."""
    found = drift.measured(method, kind, sides, reference)
    evident = found.p_value <= ALPHA
    return float(evident.mean()), float((evident & (found.statistic > drift.FLOORS[method])).mean())


def bare_psi(sides: Sides) -> float:
    """The broken variant: ten bins and the rule of thumb, whatever the number of rows."""
    grouped = drift.groups_of("number", sides)
    return float((measures.psi(*grouped) > 0.1).mean())


def moving_bins(rng: np.random.Generator, n: int, windows: int = 200) -> float:
    """The other one: bins of equal width over window and reference together, empty ones filled with 0.0001."""
    reference, found = rng.lognormal(0, 1, REFERENCE_ROWS), 0
    for _ in range(windows):
        window = rng.lognormal(0, 1, n)
        edges = np.histogram_bin_edges(np.concatenate((reference, window)), "sturges")
        q, p = (np.maximum(np.histogram(one, edges)[0] / len(one), 0.0001) for one in (window, reference))
        found += bool(((q - p) * np.log(q / p)).sum() > 0.1)
    return found / windows


COLUMNS = 20


def usual(rng: np.random.Generator, n: int) -> Table:
    """Ten columns of numbers, of which one has heavy tails and two have few values, and ten of categories."""
    table: Table = {f"n{place}": rng.normal(size=n) for place in range(7)}
    table[HEAVY] = rng.lognormal(0, 2, n)
    table |= {"flag": rng.integers(0, 2, n), "count": rng.poisson(2, n)}
    table |= {f"c{place}": rng.choice(("a", "b", "c", "d"), n, p=(0.4, 0.3, 0.2, 0.1)) for place in range(9)}
    return {**table, "town": rng.zipf(1.5, n).clip(0, 500).astype(str)}


def changed(column: str, change: Callable[[np.random.Generator, Any], Any]) -> Callable[..., Table]:
    def window(rng: np.random.Generator, n: int) -> Table:
        table = usual(rng, n)
        return {**table, column: change(rng, table[column])}

    return window


def _some(rng: np.random.Generator, values: Any, share: float, other: Any) -> list[Any]:
    return [
        other if chosen else value
        for value, chosen in zip(values.tolist(), rng.random(len(values)) < share, strict=True)
    ]


PLANTED: Mapping[str, tuple[str, Callable[..., Table]]] = {
    "mean + 0.5 σ": ("n0", changed("n0", lambda rng, values: values + 0.5)),
    "mean + 1 σ": ("n0", changed("n0", lambda rng, values: values + 1.0)),
    "scale × 1.5": ("n0", changed("n0", lambda rng, values: values * 1.5)),
    "scale × 2": ("n0", changed("n0", lambda rng, values: values * 2)),
    "heavy tail × 2": (HEAVY, changed(HEAVY, lambda rng, values: values * 2)),
    "a category 10 % → 30 %": ("c0", changed("c0", lambda rng, values: _some(rng, values, 0.2222, "d"))),
    "new category in 5 %": ("c0", changed("c0", lambda rng, values: _some(rng, values, 0.05, "new"))),
    "missing in 10 %": ("n0", changed("n0", lambda rng, values: _some(rng, values, 0.1, None))),
    "a flag 50 % → 70 %": ("flag", changed("flag", lambda rng, values: _some(rng, values, 0.4, 1))),
}
"""Column and window of each."""


def reference(seed: int = 0) -> Profile:
    return make_profile(usual(np.random.default_rng(seed), REFERENCE_ROWS), sample=0)


def found(rng: np.random.Generator, frozen: Profile, planted: str, n: int, plan: DriftPlan, windows: int) -> float:
    """Share of the windows in which the column with the drift is found."""
    column, window = PLANTED[planted]
    hits = 0
    for _ in range(windows):
        results = drift.check_drift(frozen, fold(frozen, None, window(rng, n)), plan)
        hits += any(one.drifted for one in results if one.column == column)
    return hits / windows


def false_alarms(rng: np.random.Generator, frozen: Profile, n: int, plan: DriftPlan, windows: int) -> float:
    """Share of checks of all columns in which any alarms, though nothing drifted."""
    hits = 0
    for _ in range(windows):
        results = drift.check_drift(frozen, fold(frozen, None, usual(rng, n)), plan)
        hits += drift.is_drifted(results, plan)
    return hits / windows
