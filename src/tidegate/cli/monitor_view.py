"""How monitoring looks in a terminal."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Mapping, Sequence
from typing import Any

BAR = 24
WIDTH = 160
MAIN = ("accuracy", "rmse")
Found = Mapping[str, Any]


def console() -> Any:
    from rich.console import Console

    # What a program reads, or a file keeps, is not broken into narrow columns.
    width = None if sys.stdout.isatty() else WIDTH
    return Console(markup=False, highlight=False, width=width)


def moment(time: float) -> str:
    """UTC, as reports and alerts say it."""
    return datetime.datetime.fromtimestamp(time, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")


def ago(seconds: float) -> str:
    for length, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"


def print_list(monitors: Sequence[Found], now: float) -> None:
    from rich.table import Table

    table = Table(
        "endpoint", "variant", "baseline", "window", "rows now", "drifted, broken", "quality", "alerts", "looked"
    )
    for monitor in monitors:
        looked = ago(now - monitor["looked"]) if monitor["looked"] else "never"
        for one in monitor["variants"] or [{}]:
            table.add_row(
                monitor["endpoint"],
                f"{one['variant']} {one['version']}" if one else "-",
                one.get("baseline") or "none",
                moment(one["start"]) if one.get("start") else "-",
                f"{one.get('rows', 0):,}",
                _verdict(one),
                quality(one),
                str(monitor["firing"]),
                looked,
            )
    console().print(table)
    for monitor in monitors:
        if monitor["note"]:
            console().print(f"{monitor['endpoint']}: {monitor['note']}")


def _verdict(one: Found) -> str:
    if not one.get("report"):
        return "-"
    wrong = [*one["drifted"], *one["broken"]]
    return ", ".join(wrong) or ("too few rows" if one["said"] else "nothing")


def quality(one: Found) -> str:
    """The measure that says most: accuracy of classes, rmse of numbers."""
    for key, mark in (("performance", ""), ("estimated", " estimated")):
        metrics = (one.get(key) or {}).get("metrics", {})
        for name in MAIN:
            if found := metrics.get(name):
                return f"{name} {_interval(found)}{mark}"
    return "-"


def _interval(metric: Found) -> str:
    return f"{metric['value']:.4g} ({metric['low']:.4g} to {metric['high']:.4g})"


def print_head(monitor: Found, now: float) -> None:
    out = console()
    looked = ago(now - monitor["looked"]) if monitor["looked"] else "never"
    out.print(
        f"{monitor['endpoint']}: windows of {monitor['window_seconds']:g} s, compared with {monitor['reference']}; "
        f"looked at {looked}, {monitor['read']:,} rows read, {monitor['firing']} alerts firing"
    )
    for one in monitor["variants"]:
        with_what = f"compared with {one['baseline']}" if one["baseline"] else f"compared with nothing: {one['note']}"
        out.print(
            f"  {one['variant']} (version {one['version']}): {one['rows']:,} rows in the running window, {with_what}"
        )
        for line in _measured(one):
            out.print(f"    {line}")
    if monitor["note"]:
        out.print(monitor["note"])


def _measured(one: Found) -> list[str]:
    """All measures of the newest window with labels; an estimate only where there is none."""
    found = one.get("performance")
    if not found or not found["metrics"]:
        said = quality(one)
        return [] if said == "-" else [said]
    told = "; ".join(f"{name} {_interval(metric)}" for name, metric in found["metrics"].items())
    return [f"{told}, from {found['labels']:,} labels of the window from {moment(found['start'])} UTC"]


def print_window(window: Found) -> None:
    """``window`` as the API gives it; of files there is no time."""
    from rich.table import Table
    from rich.text import Text

    out = console()
    when = f" from {moment(window['start'])} UTC" if window.get("start") else ""
    over = "" if window["complete"] else ", which is not over"
    version = f", version {window['version']}" if window["version"] else ""
    out.print(
        f"{window['endpoint']} ({window['variant']}{version}): the window{when}{over} has {window['rows']:,} rows, "
        f"the baseline {window['baseline']} {window['reference_rows']:,}"
    )
    table = Table("column", "then", "now", "drift", "threshold", "p", "")
    for one in window["columns"]:
        result = one["result"]
        verdict = Text("not checked", "dim")
        if result is not None:
            verdict = Text("drifted", "bold red") if result["drifted"] else Text(result["note"] or "as before", "green")
        table.add_row(
            one["then"]["name"],
            _told(one["then"]),
            _told(one["now"]),
            f"{result['method']} {result['statistic']:.3g}" if result else "-",
            f"{result['threshold']:.3g}" if result else "-",
            f"{result['p_value']:.2g}" if result else "-",
            verdict,
        )
    out.print(table)
    for finding in window["findings"]:
        word = "broken" if finding["broken"] else "passed"
        out.print(f"{word}: {_finding(finding)}", style="bold red" if finding["broken"] else "dim")
    for line in _measured(window):
        out.print(line)
    out.print(window["note"] or ("drifted" if window["drifted"] else "not drifted"))


def _told(facts: Found) -> str:
    missing = f", {facts['missing'] / facts['rows']:.1%} missing" if facts["rows"] and facts["missing"] else ""
    if facts["kind"] == "number":
        if facts["mean"] is None:
            return "nothing"
        return f"{facts['mean']:.4g} ({facts['low']:.4g} to {facts['high']:.4g}){missing}"
    named = ", ".join(f"{text} {share:.0%}" for text, share in list(facts["most"].items())[:3])
    return f"{named or ('others only' if facts['rows'] > facts['missing'] else 'nothing')}{missing}"


def _finding(one: Found) -> str:
    of = f" of {one['column']}" if one["column"] else ""
    examples = f": {', '.join(one['examples'])}" if one["examples"] else ""
    what = one["check"].replace("_", " ")
    if one["check"] == "volume":
        return f"volume: {one['count']:,} rows, {one['bound']:,.0f} are wanted"
    return (
        f"{what}{of}: {one['value']:.2%} ({one['reference']:.2%} in the baseline, {one['bound']:.2%} allowed){examples}"
    )


def print_distribution(found: Found) -> None:
    from rich.table import Table

    out = console()
    when = f" of the window from {moment(found['start'])} UTC" if found.get("start") else ""
    out.print(
        f"{found['column']}{when}: {found['rows']:,} rows now, {found['reference_rows']:,} in the baseline "
        f"{found['baseline']}"
    )
    most = max((max(bar["then"], bar["now"]) for bar in found["bars"]), default=0.0) or 1.0
    table = Table(found["column"], "then", "", "now", "")
    for bar in found["bars"]:
        table.add_row(
            bar["label"], _bar(bar["then"] / most), f"{bar['then']:.1%}", _bar(bar["now"] / most), f"{bar['now']:.1%}"
        )
    out.print(table)
    if result := found["result"]:
        verdict = "drifted" if result["drifted"] else "not drifted"
        out.print(f"{result['method']} {result['statistic']:.3g}, threshold {result['threshold']:.3g}: {verdict}")


def _bar(share: float) -> str:
    return "█" * round(BAR * share)
