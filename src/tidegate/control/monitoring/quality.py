"""Whether the rows of a window are as they should be. A share above its bound must be so beyond chance: two rows of ten say
little of the next thousand."""

from __future__ import annotations

from scipy import special

from tidegate.control.monitoring.columns import Column
from tidegate.control.monitoring.profiles import Profile
from tidegate.control.monitoring.records import Check, Finding
from tidegate.monitor_plan import QualityPlan

ALPHA = 0.01
"""Chance that a share at its bound is called broken; over all columns of a check, Bonferroni."""


def check_quality(reference: Profile, window: Profile, plan: QualityPlan, share: float = 1.0) -> tuple[Finding, ...]:
    """Whole rows first, then each column: what is broken, and what is there at all. ``share`` of ALPHA is for this look."""
    known = [name for name in sorted(reference.columns) if name in window.columns]
    found = [*_rows(reference, window, plan, ALPHA * share)]
    for name in known:
        then, now = reference.columns[name], window.columns[name]
        alpha = ALPHA * share / max(len(known), 1)
        found += [one for one in _column(name, then, now, plan, alpha) if one.count or one.broken]
    return tuple(found)


def _rows(reference: Profile, window: Profile, plan: QualityPlan, alpha: float) -> list[Finding]:
    found = [
        Finding(
            check="volume", value=window.rows, reference=reference.rows, bound=plan.min_rows, count=window.rows,
            rows=window.rows, broken=window.rows < plan.min_rows,
        )
    ]  # fmt: skip
    missing = sorted(set(reference.columns) - set(window.columns))
    if window.rows and (missing or window.extra):
        names = (*(f"missing: {name}" for name in missing), *(f"new: {name}" for name in window.extra))
        found.append(
            Finding(
                check="columns", value=len(missing) / max(len(reference.columns), 1), bound=0.0, count=len(names),
                rows=window.rows, broken=bool(missing), examples=tuple(_short(name) for name in names[:5]),
            )
        )  # fmt: skip
    if window.unreadable:
        found.append(unreadable(window, plan, alpha / ALPHA))
    repeated = _duplicates(reference, window, plan, alpha)
    return [*found, repeated] if repeated.count else found


def unreadable(window: Profile, plan: QualityPlan, share: float = 1.0) -> Finding:
    """Of rows whose event has no text that can be read."""
    rows = window.rows + window.unreadable
    return _finding("wrong_type", "", window.unreadable, rows, 0.0, plan.max_wrong_type, 0.0, ALPHA * share)


def _duplicates(reference: Profile, window: Profile, plan: QualityPlan, alpha: float) -> Finding:
    """The share is of the rows that the sketch looked at: evidence has the size of that sample."""
    seen, distinct = window.repeats.seen, window.repeats.distinct
    then = reference.repeats.share
    bound = min(then + plan.max_duplicates, 1.0)
    value = window.repeats.share
    return Finding(
        check="duplicates", value=value, reference=then, bound=bound, count=round(value * window.rows), rows=window.rows,
        broken=_beyond(seen - distinct, seen, bound, alpha),
    )  # fmt: skip


def _column(name: str, then: Column, now: Column, plan: QualityPlan, alpha: float) -> list[Finding]:
    missing = then.missing / then.rows if then.rows else 0.0
    wrong = then.wrong / then.rows if then.rows else 0.0
    likely = _upper(then.missing, then.rows, alpha / 2) - missing
    found = [
        _finding("missing", name, now.missing, now.rows, missing, missing + plan.max_missing, likely, alpha / 2),
        _finding(
            "wrong_type", name, now.wrong, now.rows, wrong, wrong + plan.max_wrong_type,
            _upper(then.wrong, then.rows, alpha / 2) - wrong if then.wrong else 0.0, alpha / 2,
        ),
    ]  # fmt: skip
    if then.kind == "category":
        # What chance brings of categories that were never seen: as often as some came once (Good and Turing).
        new = 1.0 if then.open else _upper(then.once, then.binned, alpha / 2)
        one = _finding("new_categories", name, now.unseen, now.valid, 0.0, plan.max_new_categories, new, alpha / 2)
        found.append(_with_examples(one, now.examples))
    elif then.low is not None:
        # What is beyond the largest and the smallest of m values has a Beta(2, m − 1) share, whatever their distribution.
        beyond = _upper(1, then.valid, alpha / 2)
        one = _finding("out_of_range", name, now.outside, now.valid, 0.0, plan.max_out_of_range, beyond, alpha / 2)
        found.append(one)
    return found


def _with_examples(one: Finding, examples: tuple[str, ...]) -> Finding:
    return Finding(
        check=one.check, column=one.column, value=one.value, reference=one.reference, bound=one.bound, count=one.count,
        rows=one.rows, broken=one.broken, examples=examples,
    )  # fmt: skip


def _finding(
    check: Check, column: str, count: int, rows: int, reference: float, bound: float, slack: float, alpha: float
) -> Finding:
    """``slack``: what the reference itself leaves open."""
    return Finding(
        check=check, column=column, value=count / rows if rows else 0.0, reference=reference, bound=min(bound, 1.0),
        count=count, rows=rows, broken=_beyond(count, rows, min(bound + slack, 1.0), alpha),
    )  # fmt: skip


def _beyond(count: int, rows: int, bound: float, alpha: float) -> bool:
    """Whether the share is above the bound, and a binomial count at the bound is so large with a chance below alpha."""
    if not rows or count <= bound * rows:
        return False
    return float(special.betainc(count, rows - count + 1, bound)) < alpha


def _upper(count: int, rows: int, alpha: float) -> float:
    """Clopper and Pearson's upper end for a share."""
    if not rows or count >= rows:
        return 1.0
    return float(special.betaincinv(count + 1, rows - count, 1 - alpha))


def _short(name: str) -> str:
    return name if len(name) <= 120 else name[:119] + "…"
