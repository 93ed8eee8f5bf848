"""What reports and measurements say to the alerts: one observation for each rule. Pure.

A window with too few rows or labels says nothing, neither that all is well nor that it is not.
"""

from __future__ import annotations

from collections.abc import Iterator

from tidegate.control.monitoring.alerts import Observation
from tidegate.control.monitoring.bounds import bounds_of, show_command
from tidegate.control.monitoring.records import Alert, ColumnResult, DriftReport, Finding
from tidegate.monitor_plan import MonitorPlan

WHAT = {
    "missing": "missing values",
    "new_categories": "values that the reference never had",
    "out_of_range": "numbers outside of the reference's range",
    "wrong_type": "values of another type",
    "duplicates": "repeated rows",
    "columns": "rows with other columns",
}


def of_report(report: DriftReport, plan: MonitorPlan) -> Iterator[Observation]:
    """Drift of single columns; of the whole window where the plan tolerates a share of them; each finding."""
    if report.columns and plan.drift.share:
        yield _of_window(report, plan)
    else:
        yield from (_of_column(report, one) for one in report.columns)
    yield from (_of_finding(report, one) for one in report.findings)


def of_silence(report: DriftReport, alert: Alert) -> Observation | None:
    """That a check of quality found nothing, where an alert says that it once did."""
    _, _, check = alert.rule.split(":", 2)
    if alert.source != "quality" or check == "volume" or not report.columns:
        return None
    of = f" of {alert.column}" if alert.column else ""
    what = WHAT.get(alert.statistic, alert.statistic)
    return _observation(
        report,
        source="quality",
        rule=alert.rule,
        column=alert.column,
        statistic=alert.statistic,
        value=0.0,
        threshold=alert.threshold,
        broken=False,
        text=f"{what}{of} of {report.endpoint} ({report.variant}, version {report.version}): none in {report.rows:,} rows",
    )


def is_asked(alert: Alert, plan: MonitorPlan) -> bool:
    """Whether the plan still asks for what an alert is about."""
    if alert.source == "performance":
        return any(alert.statistic in bounds for bounds in bounds_of(plan.performance))
    if alert.source == "quality":
        return alert.statistic != "volume" or plan.quality.min_rows > 0
    own = plan.drift.columns.get(alert.column)
    method = plan.drift.method if own is None or own.method == "auto" else own.method
    return method != "off"


def is_dropped(report: DriftReport, alert: Alert) -> bool:
    """Whether an alert is about drift that a whole window was not asked about: another plan, or another baseline."""
    if alert.source != "drift" or not report.complete or not report.columns or alert.window >= report.start:
        return False
    gone = any(finding.check == "columns" and finding.broken for finding in report.findings)
    return not (alert.column and gone)


def _of_column(report: DriftReport, one: ColumnResult) -> Observation:
    than = "more" if one.drifted else "not more"
    text = (
        f"{one.column} of {report.endpoint} ({report.variant}, version {report.version}): {one.method} "
        f"{one.statistic:.3g}, {than} than {one.threshold:.3g}, in {one.rows:,} rows; {one.reference_rows:,} in the "
        f"baseline {report.baseline}"
    )
    return _observation(
        report,
        rule=f"drift:{report.variant}:{one.column}",
        column=one.column,
        statistic=one.method,
        value=one.statistic,
        threshold=one.threshold,
        broken=one.drifted,
        reference_rows=one.reference_rows,
        text=text,
    )


def _of_window(report: DriftReport, plan: MonitorPlan) -> Observation:
    drifted = [one.column for one in report.columns if one.drifted]
    share = len(drifted) / len(report.columns)
    named = f": {', '.join(drifted[:5])}{' …' if len(drifted) > 5 else ''}" if drifted else ""
    text = (
        f"{len(drifted)} of {len(report.columns)} columns of {report.endpoint} ({report.variant}, version "
        f"{report.version}) drifted{named}; {plan.drift.share:.0%} are tolerated, in {report.rows:,} rows"
    )
    return _observation(
        report,
        rule=f"drift:{report.variant}",
        statistic="share",
        value=share,
        threshold=plan.drift.share,
        broken=report.drifted,
        reference_rows=report.columns[0].reference_rows,
        text=text,
    )


def _of_finding(report: DriftReport, one: Finding) -> Observation:
    if one.check == "volume":
        than = "fewer than" if one.broken else "at least"
        text = f"{one.count:,} rows came to {report.endpoint} in the window, {than} {one.bound:,.0f}"
    else:
        of = f" of {one.column}" if one.column else ""
        text = (
            f"{WHAT[one.check]}{of} of {report.endpoint} ({report.variant}, version {report.version}): {one.value:.2%}, "
            f"{'more' if one.broken else 'not shown to be more'} than allowed ({one.bound:.2%}; {one.reference:.2%} in the baseline "
            f"{report.baseline}), {one.count:,} of {one.rows:,} rows"
        )
    return _observation(
        report,
        source="quality",
        rule=f"quality:{report.variant}:{one.check}" + (f":{one.column}" if one.column else ""),
        column=one.column,
        statistic=one.check,
        value=one.value,
        threshold=one.bound,
        broken=one.broken,
        text=text,
    )


def _observation(
    report: DriftReport,
    *,
    rule: str,
    statistic: str,
    value: float,
    threshold: float,
    broken: bool,
    text: str,
    column: str = "",
    source: str = "drift",
    reference_rows: int = 0,
) -> Observation:
    silent = statistic == "volume" and not report.columns  # nothing is kept of a window in which nothing came
    return Observation(
        endpoint=report.endpoint,
        rule=rule,
        source="quality" if source == "quality" else "drift",
        variant=report.variant,
        version=report.version,
        column=column,
        statistic=statistic,
        value=value,
        threshold=threshold,
        broken=broken,
        complete=report.complete,
        rows=report.rows,
        reference_rows=reference_rows,
        window=report.start,
        window_seconds=report.seconds,
        time=report.created,
        report=report.id,
        text=text,
        command=show_command(report.endpoint, report.variant, None if silent else report.start, column),
    )
