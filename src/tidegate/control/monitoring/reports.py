"""Reports to read: Evidently's pages beside our own verdicts, of two tables or of an endpoint's stored predictions."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from tidegate.control.monitoring import profiles, report_page, rows
from tidegate.control.monitoring.classifier import Domain, domain_auc
from tidegate.control.monitoring.evidently_page import Compared, check_installed, draw, finite
from tidegate.control.monitoring.frames import MOST_ROWS, Table, numbers_among, prepare, safe
from tidegate.control.monitoring.profiles import Profile
from tidegate.control.monitoring.records import Alert, ColumnResult, Finding
from tidegate.errors import UserError
from tidegate.monitor_plan import MonitorPlan

ReportKind = Literal["drift", "quality", "summary"]
MEDIA = "text/html; charset=utf-8"
MOST_SHOWN_ALERTS = 50
STEPS = 5

Tell = Callable[[int, int, str], None]


class ColumnVerdict(msgspec.Struct, frozen=True):
    """One verdict on one column. ``statistic`` is compared with ``threshold`` as ``method`` says."""

    method: str
    statistic: float | None
    threshold: float | None
    drifted: bool


class SideBySide(msgspec.Struct, frozen=True, kw_only=True):
    """Of both on one column; None where one of them looked at no such column."""

    column: str
    tidegate: ColumnVerdict | None = None
    evidently: ColumnVerdict | None = None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a report says, in short."""

    id: str = ""
    kind: ReportKind
    title: str
    endpoint: str = ""
    variant: str = ""
    version: str = ""
    baseline: str = ""
    start: float = 0.0
    end: float = 0.0
    created: float
    reference_rows: int = 0
    rows: int
    columns: tuple[SideBySide, ...] = ()
    drifted: tuple[str, ...] = ()
    """Columns that have drifted by our own verdict."""
    findings: tuple[Finding, ...] = ()
    """Checks of quality that are broken."""
    domain: Domain | None = None
    """Of a summary: whether the rows can be told from the reference's as a whole, and by which columns."""
    alerts: tuple[Alert, ...] = ()
    notes: tuple[str, ...] = ()


class Made(msgspec.Struct, frozen=True):
    """``evidently`` are its figures as it names them."""

    summary: Summary
    html: str
    evidently: tuple[dict[str, Any], ...]


class Stored(msgspec.Struct, frozen=True):
    """The body of a document: what people read, and what programs do."""

    html: str
    evidently: msgspec.Raw


def of_tables(
    kind: ReportKind,
    reference: Table | None,
    production: Table,
    *,
    now: float,
    title: str = "",
    most_rows: int = MOST_ROWS,
    seed: int = 0,
    tell: Tell = lambda *_: None,
) -> Made:
    """Of files. Raises UserError for tables that cannot be compared, MissingExtra."""
    check_installed()
    about = Summary(kind=kind, title=title or f"{kind} report", created=now, rows=rows.rows_in(production))
    if reference is None:
        return compose(
            about, None, numbers_among(rows.flat(production, {})), None, MonitorPlan(), most_rows, seed, tell
        )
    tell(0, STEPS, "profiling the reference")
    known = numbers_among(rows.flat(reference, {}))
    _some(known, "reference")
    profile = profiles.make_profile(known, sample=most_rows, seed=seed)
    return of_profile(
        about, profile, numbers_among(rows.flat(production, {})), most_rows=most_rows, seed=seed, tell=tell
    )


def of_profile(
    about: Summary,
    profile: Profile,
    production: Table,
    *,
    plan: MonitorPlan | None = None,
    most_rows: int = MOST_ROWS,
    seed: int = 0,
    tell: Tell = lambda *_: None,
) -> Made:
    """Against the rows that the reference kept; our own verdicts are by all that it counted."""
    check_installed()
    _some(production, "production")
    ready = dict(profiles.aligned(profile, production))
    about = msgspec.structs.replace(about, reference_rows=profile.rows)
    if profile.rows > len(next(iter(profile.sample.values()), ())):
        kept = len(next(iter(profile.sample.values()), ()))
        note = (
            f"reference: a random sample of {kept:,} of {profile.rows:,} rows; Tidegate's own verdicts count them all"
        )
        about = msgspec.structs.replace(about, notes=(*about.notes, note))
    sample = {name: _array(values) for name, values in profile.sample.items()}
    return compose(about, sample, ready, (profile, production), plan or MonitorPlan(), most_rows, seed, tell)


def compose(
    about: Summary,
    reference: Table | None,
    production: Table,
    ours: tuple[Profile, Table] | None,
    plan: MonitorPlan,
    most_rows: int,
    seed: int,
    tell: Tell,
) -> Made:
    kind = about.kind
    if reference is None and kind != "quality":
        raise UserError(f"a {kind} report needs a reference")
    tell(1, STEPS, "preparing the rows")
    prepared = prepare(reference, production, most_rows=most_rows, seed=seed, whole=kind == "quality")
    results: Sequence[ColumnResult] = ()
    findings: Sequence[Finding] = ()
    if ours is not None:
        from tidegate.control.monitoring.drift import check_drift
        from tidegate.control.monitoring.quality import check_quality

        tell(2, STEPS, "comparing with the reference")
        profile, table = ours
        window = profiles.fold(profile, None, table)
        results = check_drift(profile, window, plan.drift) if kind != "quality" else ()
        findings = check_quality(profile, window, plan.quality) if kind != "drift" else ()
    domain, why = None, ""
    if kind == "summary" and reference is not None:
        tell(3, STEPS, "telling production from the reference")
        domain, why = _domain(reference, production, seed)
    tell(4, STEPS, "drawing the page")
    page = draw(prepared, drift=kind != "quality", quality=kind != "drift")
    summary = msgspec.structs.replace(
        about,
        columns=_side_by_side(results, page.compared),
        drifted=tuple(result.column for result in results if result.drifted),
        findings=tuple(one for one in findings if one.broken),
        domain=domain,
        notes=(*about.notes, *prepared.notes, *page.left_out, *([why] if why else [])),
    )
    tell(STEPS, STEPS, "done")
    return Made(summary, report_page.framed(page.html, report_page.head(summary)), page.metrics)


def _domain(reference: Table, production: Table, seed: int) -> tuple[Domain | None, str]:
    """Or why there is none."""
    try:
        return domain_auc(reference, production, seed), ""
    except UserError as error:
        return None, f"no domain classifier: {error}"


def _side_by_side(ours: Sequence[ColumnResult], theirs: Sequence[Compared]) -> tuple[SideBySide, ...]:
    """Ours first, in the order that we give; Evidently knows columns by the names that are safe to show."""
    others = {one.column: _their(one) for one in theirs}
    found = [
        SideBySide(
            column=one.column,
            tidegate=ColumnVerdict(one.method, _number(one.statistic), _number(one.threshold), one.drifted),
            evidently=others.pop(safe(one.column), None),
        )
        for one in ours
    ]
    return (*found, *(SideBySide(column=name, evidently=tested) for name, tested in others.items()))


def _their(one: Compared) -> ColumnVerdict:
    return ColumnVerdict(one.method, _number(one.value), _number(one.threshold), one.drifted)


def _number(value: float) -> float | None:
    found: float | None = finite(float(value))
    return found


def _some(table: Table, which: str) -> None:
    if not rows.rows_in(table):
        raise UserError(f"{which}: no rows")


def _array(values: Sequence[Any]) -> Any:
    """Numbers as an array; None is NaN."""
    if all(value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values):
        return np.array([np.nan if value is None else value for value in values], np.float64)
    return list(values)


def packed(made: Made) -> bytes:
    return zlib.compress(msgspec.json.encode(Stored(made.html, msgspec.Raw(msgspec.json.encode(made.evidently)))), 6)


def unpacked(body: bytes) -> Stored:
    return msgspec.json.decode(zlib.decompress(body), type=Stored)


def data_of(summary: Summary, evidently: Any) -> Mapping[str, Any]:
    """What programs read."""
    return {"report": summary, "evidently": evidently}


def run(task: Any) -> Mapping[str, Any]:
    """The job of kind ``report``."""
    from tidegate.control.monitoring.report_job import work

    return work(task)
