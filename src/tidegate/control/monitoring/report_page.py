"""What stands above Evidently's part of a page: what was compared, what was changed for it, and our own verdicts.

The page loads nothing, whoever opens it: what it may do is said in the page itself, and once more where it is served.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING

from tidegate.errors import UserError

if TYPE_CHECKING:
    from tidegate.control.monitoring.classifier import Domain
    from tidegate.control.monitoring.reports import ColumnVerdict, Summary

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; "
    "base-uri 'none'; form-action 'none'"
)
SERVED = f"sandbox allow-scripts; {POLICY}; frame-ancestors 'self'"
"""A sandbox is an origin of its own: its scripts have no cookie, and can call nothing."""

_STYLE = (
    "<style>.tidegate{font:14px/1.5 system-ui,sans-serif;max-width:1100px;margin:24px auto;padding:0 16px;color:#111}"
    ".tidegate h1{font-size:22px;margin:0 0 4px}.tidegate h2{font-size:16px;margin:20px 0 6px}"
    ".tidegate table{border-collapse:collapse;width:100%}.tidegate td,.tidegate th{padding:4px 8px;text-align:left;"
    "border-bottom:1px solid #ddd}.tidegate .yes{color:#b00020;font-weight:600}.tidegate p,.tidegate ul{margin:4px 0}</style>"
)


def framed(page: str, above: str) -> str:
    """Evidently's page with ours above it. Raises UserError where its form is not the one that is known."""
    head, root = page.find("<head>"), page.find('<div id="root_metric_')
    if head < 0 or root < head:
        raise UserError(
            "Evidently made a page of a form that is not known; tidegate[reports] names the versions that fit"
        )
    meta = f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">'
    start = head + len("<head>")
    return f"{page[:start]}{meta}{_STYLE}{page[start:root]}{above}{page[root:]}".strip() + "\n"


def head(summary: Summary) -> str:
    parts = [f"<h1>{escape(summary.title)}</h1>", f"<p>{escape(_facts(summary))}</p>"]
    if summary.notes:
        parts.append(f"<h2>Notes</h2><ul>{''.join(f'<li>{escape(note)}</li>' for note in summary.notes)}</ul>")
    if summary.alerts:
        lines = ((one.state, one.text) for one in summary.alerts)
        parts.append("<h2>Alerts</h2>" + _table(("state", "what"), lines))
    if summary.findings:
        found = ((one.check, one.column, f"{one.count:,} of {one.rows:,} rows") for one in summary.findings)
        parts.append("<h2>Quality</h2>" + _table(("check", "column", "rows concerned"), found))
    if summary.domain is not None:
        parts.append(f"<h2>All columns together</h2><p>{escape(told_apart(summary.domain))}</p>")
    if summary.columns:
        drift = ((one.column, *_verdict(one.tidegate), *_verdict(one.evidently)) for one in summary.columns)
        names = ("column", "Tidegate", "statistic", "bound", "Evidently", "statistic", "bound")
        parts.append("<h2>Drift, by Tidegate and by Evidently</h2>" + _table(names, drift))
    return f'<div class="tidegate">{"".join(parts)}</div>'


def told_apart(domain: Domain) -> str:
    """What a classifier that tries to tell production from the reference can do."""
    auc = domain.auc
    figures = f"area {auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f}; 0.5 is chance), p {domain.p_value:.2g}"
    by = ", ".join(f"{one.column} ({one.drop:.3f})" for one in domain.columns)
    sides = f"{domain.rows:,} rows and {domain.reference_rows:,} of the reference"
    return f"A classifier tells {sides} apart with an {figures}" + (f"; most by {by}." if by else ".")


def _facts(summary: Summary) -> str:
    about = [f"{summary.rows:,} rows"]
    if summary.reference_rows:
        about.append(f"compared with {summary.reference_rows:,} rows of the reference {summary.baseline}".rstrip())
    if summary.end:
        about.append(f"from {_time(summary.start)} to {_time(summary.end)}")
    if summary.variant:
        about.append(f"{summary.variant} {summary.version}".rstrip())
    about.append(f"made {_time(summary.created)}")
    return "; ".join(about)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _verdict(tested: ColumnVerdict | None) -> tuple[str, str, str]:
    if tested is None:
        return "-", "", ""
    drifted = f"{'drift' if tested.drifted else 'no drift'} ({tested.method})"
    return drifted, _figure(tested.statistic), _figure(tested.threshold)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _table(names: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    header = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(_cell(value) for value in line)}</tr>" for line in lines)
    return f"<table><tr>{header}</tr>{body}</table>"


def _cell(value: str) -> str:
    marked = ' class="yes"' if value.startswith("drift (") or value == "firing" else ""
    return f"<td{marked}>{escape(value)}</td>"
