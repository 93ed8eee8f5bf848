"""Whether the columns of a window still look as the reference's did: effect and evidence, column by column.

The alarm's threshold is the greater of the floor (an effect worth a look) and of what chance alone gives at these numbers
of rows; over the columns of a check, Benjamini and Hochberg keep the share of false alarms at alpha.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from tidegate.control.monitoring import measures
from tidegate.control.monitoring.columns import LARGEST, Column
from tidegate.control.monitoring.histogram import Bar, histogram
from tidegate.control.monitoring.profiles import Profile
from tidegate.control.monitoring.records import ColumnResult, Kind, Method
from tidegate.errors import InvalidInput
from tidegate.monitor_plan import ColumnDrift, DriftPlan

Floats = NDArray[np.float64]

FLOORS: Mapping[Method, float] = {"psi": 0.1, "ks": 0.1, "js": 0.1, "wasserstein": 0.1, "chi2": 0.1, "linf": 0.05}
"""Of each method where the plan names none."""
LEAST_ROWS = 30
"""With fewer rows on either side nothing is concluded, and the column does not count among those of the check."""
FEW = 200
"""Rows below which auto takes the measures that need fewer."""
GROUPS = 10
"""Groups of numbers, a tenth of the reference in each."""
LEAST_EXPECTED = 5
"""Rows that chance gives a group on the smaller side; rarer categories are one group."""
MOST_GROUPS = 30
"""With more categories auto looks at the largest difference of one."""
_FOR_CATEGORIES = frozenset({"psi", "js", "chi2", "linf"})


class Sides(NamedTuple):
    """Rows by bin of the window and of the reference; leading axes are windows."""

    now: Floats
    then: Floats


class Found(NamedTuple):
    statistic: Floats
    p_value: Floats
    critical: Callable[[float], float]
    """Statistic whose p-value is alpha; of one window."""


def check_drift(reference: Profile, window: Profile, plan: DriftPlan) -> tuple[ColumnResult, ...]:
    """Results in the order of the reference's columns. A column that the window has not, or whose method is off, has
    none: ``quality`` tells of it."""
    results = []
    for name in sorted(reference.columns):
        own = plan.columns.get(name) or ColumnDrift()
        asked = own.method if own.method != "auto" else plan.method
        if name not in window.columns or asked == "off":
            continue
        floor = own.floor if own.floor is not None else plan.floor
        results.append(_result(name, reference.columns[name], window.columns[name], asked, floor, plan.alpha))
    return _judged(results, plan.alpha)


def is_drifted(results: tuple[ColumnResult, ...], plan: DriftPlan) -> bool:
    """More than the plan's share of the columns that could be judged."""
    judged = [one for one in results if not _too_few(one.rows, one.reference_rows)]
    drifted = sum(one.drifted for one in judged)
    return drifted > 0 and drifted > plan.share * len(judged)


def _result(
    name: str, reference: Column, window: Column, asked: str, floor: float | None, alpha: float
) -> ColumnResult:
    kind = reference.kind
    sides = sides_of(reference, window)
    n, m = int(sides.now.sum()), int(sides.then.sum())
    method, note = chosen(asked, kind, sides)
    least = FLOORS[method] if floor is None else floor
    statistic, threshold, p = 0.0, least, 1.0
    if _too_few(n, m):
        side = "window" if n <= m else "reference"
        note = f"too few rows: {min(n, m)} in the {side}, at least {LEAST_ROWS} are needed"
    else:
        found = measured(method, kind, sides, reference, window)
        statistic, p = _plain(found.statistic, LARGEST), _plain(found.p_value, 1.0)
        threshold = max(least, _plain(found.critical(alpha), LARGEST))
    return ColumnResult(
        column=name, kind=kind, method=method, statistic=statistic, floor=least, threshold=threshold, p_value=p,
        q_value=1.0, drifted=False, reference_rows=m, rows=n, note=note,
    )  # fmt: skip


def _plain(value: Any, otherwise: float) -> float:
    """What is kept as JSON has no NaN: of a reference up to the largest numbers there are, not all can be computed."""
    found = float(value)
    return found if math.isfinite(found) else otherwise


def _too_few(n: int, m: int) -> bool:
    return min(n, m) < LEAST_ROWS


def _judged(results: list[ColumnResult], alpha: float) -> tuple[ColumnResult, ...]:
    able = [place for place, one in enumerate(results) if not _too_few(one.rows, one.reference_rows)]
    q_values = measures.benjamini_hochberg([results[place].p_value for place in able])
    for place, q in zip(able, q_values.tolist(), strict=True):
        one = results[place]
        drifted = one.statistic > one.threshold and q <= alpha
        results[place] = msgspec.structs.replace(one, q_value=q, drifted=drifted)
    return tuple(results)


def chosen(asked: str, kind: Kind, sides: Sides) -> tuple[Method, str]:
    """The method, and why it is not the one that was asked for."""
    note = ""
    if asked != "auto":
        if kind == "number" or asked in _FOR_CATEGORIES:
            return asked, ""  # type: ignore[return-value]
        note = f"{asked} needs numbers"
    few = min(sides.now.sum(), sides.then.sum()) < FEW
    occupied = int(((sides.now[..., :-1] > 0) | (sides.then[..., :-1] > 0)).sum())
    if kind == "number":
        return ("ks" if occupied > GROUPS else "chi2") if few else "psi", note
    if occupied > MOST_GROUPS:
        return "linf", note
    return ("chi2" if few else "psi"), note


def sides_of(reference: Column, window: Column) -> Sides:
    """Numbers: bins in their order, then missing. Categories: the known ones, other ones, new ones, then missing.

    New ones count as other ones where the reference has categories that came once: in a long tail the next is always new,
    and how many there will be is known to no better than twice chance.
    """
    # A reference that counted a part of its rows has seen the same part of the missing ones.
    missing = reference.missing * (reference.binned / reference.valid if reference.valid else 1.0)
    now, then = [*window.counts], [*reference.counts]
    if reference.kind == "category":
        tail = reference.open or reference.once > 0
        now += [window.other + window.unseen, 0] if tail else [window.other, window.unseen]
        then += [reference.other, 0]
    return Sides(np.array([*now, window.missing], np.float64), np.array([*then, missing], np.float64))


def measured(
    method: Method, kind: Kind, sides: Sides, reference: Column | None = None, window: Column | None = None
) -> Found:
    """``reference`` and ``window`` are needed for Wasserstein alone."""
    if method in ("psi", "js", "chi2"):
        return _grouped(method, kind, sides)
    if method == "ks":
        return _ks(sides)
    if method == "wasserstein":
        if reference is None:
            raise InvalidInput("the Wasserstein distance needs the reference's bins")
        return _wasserstein(sides, reference, window)
    grouped = groups_of(kind, sides)
    statistic = measures.linf(*grouped)
    return Found(statistic, measures.linf_p(statistic, *grouped), lambda alpha: measures.linf_critical(*grouped, alpha))


def _grouped(method: Method, kind: Kind, sides: Sides) -> Found:
    grouped = groups_of(kind, sides, own_rare=method != "chi2")
    statistic = {"psi": measures.psi, "js": measures.js, "chi2": measures.chi2}[method](*grouped)
    inverse, degrees = measures.inverse_rows(*grouped), measures.freedom(*grouped)
    return Found(
        statistic,
        measures.chi_square_p(method, statistic, inverse, degrees),
        lambda alpha: float(measures.chi_square_critical(method, inverse, degrees, alpha)),
    )


def _ks(sides: Sides) -> Found:
    there = Sides(sides.now[..., :-1], sides.then[..., :-1])
    statistic, inverse = measures.ks(*there), measures.inverse_rows(*there)
    return Found(
        statistic, measures.ks_p(statistic, inverse), lambda alpha: float(measures.ks_critical(inverse, alpha))
    )


def _wasserstein(sides: Sides, reference: Column, window: Column | None) -> Found:
    """The evidence is that of the bins, without the ends that chance seldom reaches: one value far away is no drift. The
    effect also sees values beyond the bins: the distance is at least the difference of the means."""
    there = Sides(sides.now[..., :-1], sides.then[..., :-1])
    centers = np.array(reference.centers, np.float64)
    sigma = reference.sigma or 1.0
    statistic = measures.wasserstein(*there, centers, sigma)
    if window is not None and window.finite:
        statistic = np.maximum(statistic, min(abs(window.mean - reference.mean) / sigma, 1e300))
    inner = _inner(there, centers)
    null = measures.wasserstein_null(*there, inner, sigma)
    p = measures.wasserstein_p(measures.wasserstein(*there, inner, sigma), null)
    return Found(statistic, p, lambda alpha: float(measures.wasserstein_critical(null, alpha)))


def _inner(sides: Sides, centers: Floats) -> Floats:
    """Centres with what is beyond the outermost resolved quantiles drawn in to them."""
    p = measures.shares(sides.then).reshape(-1, len(centers)).mean(axis=0)
    least = LEAST_EXPECTED / max(float(min(sides.now.sum(axis=-1).min(), sides.then.sum(axis=-1).min())), 1.0)
    below = np.cumsum(p)
    resolved = np.flatnonzero((below[:-1] >= least) & (1 - below[:-1] >= least))
    if not len(resolved):
        return centers
    return np.clip(centers, centers[resolved[0]], centers[resolved[-1] + 1])


def groups_of(kind: Kind, sides: Sides, own_rare: bool = True) -> Sides:
    """Bins put together by the reference's shares alone, so that groups do not move with the window. ``own_rare``: new
    and missing values keep groups of their own however rare they are."""
    then = sides.then.reshape(-1, sides.then.shape[-1]).mean(axis=0)
    few = float(min(sides.now.sum(axis=-1).min(), sides.then.sum(axis=-1).min()))
    if kind == "number":
        places = _decile_places(then[:-1], few)
        places = np.append(places, places.max(initial=-1) + 1)
        tails = 1
    else:
        places = _category_places(then, few)
        tails = 2
        if sides.then.ndim == 1:
            sides = Sides(sides.now, _without_luck(sides.then, few))
    if not own_rare:
        places = _drawn_in(places, then, few, tails)
    which = np.zeros((len(then), int(places.max()) + 1))
    which[np.arange(len(then)), places] = 1
    return Sides(sides.now @ which, sides.then @ which)


def _decile_places(then: Floats, few: float) -> NDArray[np.intp]:
    groups = int(np.clip(few // LEAST_EXPECTED, 2, GROUPS))
    p = measures.shares(then)
    middle = np.cumsum(p) - p / 2
    return _dense(np.minimum((middle * groups).astype(np.intp), groups - 1))


def _category_places(then: Floats, few: float) -> NDArray[np.intp]:
    """Frequent categories one by one, the rare and other ones together, then new ones and missing ones."""
    p = measures.shares(then)
    frequent = p * few >= LEAST_EXPECTED
    frequent[-3:] = False
    places = np.where(frequent, np.arange(len(p)), len(p))
    places[-2:] = len(p) + 1, len(p) + 2
    return _dense(places)


def _without_luck(then: Floats, few: float) -> Floats:
    """Categories that only just are frequent owe it to luck, and will be rarer. Without one of its rows, one at the bound
    would be among the rare: so many rows are moved there, from all that are near the bound."""
    bound = LEAST_EXPECTED * float(then.sum()) / few
    known = then[:-3]
    moved = float(known[(known >= bound) & (known < bound + 1)].sum())
    near = (known >= bound) & (known < bound + 1 + 2 * np.sqrt(bound))
    if not moved or near.sum() < 2:
        return then
    moved = min(moved, float(known[near].sum()) / 2)
    fair = then.copy()
    fair[:-3][near] *= 1 - moved / float(known[near].sum())
    fair[-3] += moved
    return fair


def _drawn_in(places: NDArray[np.intp], then: Floats, few: float, tails: int) -> NDArray[np.intp]:
    """Groups that chance gives fewer than LEAST_EXPECTED rows become one, or with too few for one go into the smallest."""
    sizes = np.bincount(places, weights=measures.shares(then)) * few
    rare = sizes < LEAST_EXPECTED
    if not rare.any() or rare.all():
        return places
    into = int(np.flatnonzero(rare)[0])
    if sizes[rare].sum() < LEAST_EXPECTED:
        into = int(np.argmin(np.where(rare, np.inf, sizes)))
    return _dense(np.where(rare[places], into, places))


def _dense(places: NDArray[Any]) -> NDArray[np.intp]:
    return np.unique(places, return_inverse=True)[1].astype(np.intp)


__all__ = ["Bar", "check_drift", "histogram", "is_drifted"]
