"""Writes docs/performance.md and its picture from the result files. No figure in it is typed by hand."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.harness.machine import ROOT
from benchmarks.harness.measure import Spread, ratio
from benchmarks.harness.results import FOLDER, Result, number, read_rows
from benchmarks.peers.question import PATH

PAGE = ROOT / "docs" / "performance.md"
PICTURE = ROOT / "docs" / "img" / "performance.svg"
OURS = ("floor", "tidegate")

Subjects = dict[str, dict[str, Any]]


def write() -> None:
    document = json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else {"machine": {}, "subjects": {}}
    subjects: Subjects = document["subjects"]
    if subjects:
        rows = Result("peers")
        compare(rows, subjects)
        rows.figures = document.get("figures", {})
        saved = json.loads(rows.save().read_text(encoding="utf-8"))
        # The figures' machine is the one that they were measured on, not the one that writes the page.
        PATH.write_text(json.dumps({**saved, **document, "rows": saved["rows"]}, indent=1) + "\n", encoding="utf-8")
        picture(subjects)
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(text(document["machine"], subjects), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")


def series(entry: dict[str, Any], *path: str) -> list[float]:
    """One value a round, where the round has it."""
    found = []
    for run in entry.get("runs", []):
        value: Any = run
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            found.append(float(value))
    return found


def compare(result: Result, subjects: Subjects) -> None:
    """Adds the rows whose other side is the best peer: the peer with the best median."""
    peers = {name: entry for name, entry in subjects.items() if name not in OURS}
    for which, title, bound in (("lr", "LR", 5), ("rf", "RF", 25)):
        best = _best(peers, (f"{which}_32", "rate"))
        mine = series(subjects["tidegate"], f"{which}_32", "rate")
        if best and mine:
            theirs = series(peers[best], f"{which}_32", "rate")
            shared = min(len(mine), len(theirs))
            result.add(f"{title}, 32 connections: ours / best peer", ratio(mine[:shared], theirs[:shared]),
                       side="at least", bound=bound, note=peers[best]["title"])  # fmt: skip
    best = _best(peers, ("rf_32", "rate"))
    uncompiled = FOLDER / "uncompiled.json"
    if best and uncompiled.exists():
        mine = json.loads(uncompiled.read_text(encoding="utf-8"))["figures"]["tidegate"]
        middle = statistics.median(series(peers[best], "rf_32", "rate"))
        result.add("uncompiled RF: ours / best peer", Spread.of([rate / middle for rate in mine]),
                   side="at least", bound=5, note=peers[best]["title"])  # fmt: skip
    starts = {name: series(entry, "lr_start_seconds") for name, entry in peers.items()}
    starts = {name: values for name, values in starts.items() if values}
    mine = series(subjects["tidegate"], "lr_start_seconds")
    if starts and mine:
        quickest = min(starts, key=lambda name: statistics.median(starts[name]))
        shared = min(len(mine), len(starts[quickest]))
        result.add("cold start: ours / quickest peer", ratio(mine[:shared], starts[quickest][:shared]),
                   side="at most", bound=0.2, note=peers[quickest]["title"])  # fmt: skip


def _best(peers: Subjects, path: tuple[str, ...]) -> str:
    medians = {name: statistics.median(series(entry, *path)) for name, entry in peers.items() if series(entry, *path)}
    return max(medians, key=lambda name: medians[name]) if medians else ""


def text(machine: dict[str, Any], subjects: Subjects) -> str:
    parts = [
        "# Performance\n",
        "This page is written by `make bench-peers` from the files in `benchmarks/results`; nothing in it is typed by"
        " hand. Absolute figures belong to the machine they were measured on. The ratios are what counts: both sides of"
        " a ratio were measured in the same run.\n",
    ]
    if subjects:
        parts += ["## Beside other servers\n", _setting(machine), _peers_table(subjects), _unavailable(subjects)]
        parts += [f"![Predictions a second of each server]({PICTURE.relative_to(PAGE.parent)})\n"]
    parts += ["## Aims\n", _aims(), "## Figures behind them\n", _figures(), "## Run it again\n", AGAIN]
    return "\n".join(part for part in parts if part)


AGAIN = """```sh
make bench         # every question but the peers, about ten minutes
make bench-peers   # installs each peer into an environment of its own, then writes this page: half an hour
python -m benchmarks throughput latency   # some questions only
```

Both need Linux (servers are pinned to a core) and `wrk` (`apt-get install wrk`). Each question's folder below
[`benchmarks/`](../benchmarks) says in one paragraph what is measured and how.
"""


def _setting(machine: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine.get("versions", {}).items())
    return (
        f"Iris, one row a request, JSON, connections kept alive. Each server with all its processes has one core, `wrk`"
        f" another. Medians of alternating rounds, after a warm-up that lasts until the rate no longer grows. The peers"
        f" answer with the predicted class alone, Tidegate and the floor with class, scores, model and timing.\n\n"
        f"{machine.get('processor')}, {machine.get('cores')} cores, {machine.get('memory_gb')} GB,"
        f" {machine.get('system')}, Python {machine.get('python')}, {versions}, commit {machine.get('commit')},"
        f" {machine.get('when')}, {100 * machine.get('busy_before', 0):.0f} % busy with something else before the start.\n"
    )


COLUMNS = (
    ("RF req/s, 32 conn.", ("rf_32", "rate"), 1.0),
    ("LR req/s, 32 conn.", ("lr_32", "rate"), 1.0),
    ("LR p99 ms, 32 conn.", ("lr_32", "p99_ms"), 1.0),
    ("LR p50 ms, 1 conn.", ("lr_1", "p50_ms"), 1.0),
    ("first answer s", ("lr_start_seconds",), 1.0),
    ("memory MB", ("lr_memory_mb", "total"), 1.0),
)


def _peers_table(subjects: Subjects) -> str:
    lines = ["| server | " + " | ".join(title for title, *_ in COLUMNS) + " | settings |"]
    lines.append("|---|" + "---:|" * len(COLUMNS) + "---|")
    for name, entry in _ordered(subjects):
        if not entry.get("runs"):
            continue
        cells = []
        for _, path, _ in COLUMNS:
            values = series(entry, *path)
            cells.append(number(statistics.median(values)) if values else "–")
        title = f"{entry['title']} {entry.get('version', '')}".strip()
        strong = "**" if name == "tidegate" else ""
        lines.append(f"| {strong}{title}{strong} | " + " | ".join(cells) + f" | {entry['settings']} |")
    return "\n".join(lines) + "\n"


def _ordered(subjects: Subjects) -> list[tuple[str, dict[str, Any]]]:
    def rank(item: tuple[str, dict[str, Any]]) -> tuple[int, float]:
        rates = series(item[1], "lr_32", "rate")
        return OURS.index(item[0]) if item[0] in OURS else len(OURS), -(statistics.median(rates) if rates else 0)

    return sorted(subjects.items(), key=rank)


def _unavailable(subjects: Subjects) -> str:
    lines = []
    for _, entry in _ordered(subjects):
        if "reason" in entry:
            reason = " ".join(entry["reason"].split())[-400:]
            lines.append(f"- {entry['title']} was not measured{' to the end' if entry['runs'] else ''}: `{reason}`")
    return "\n".join(lines) + "\n" if lines else ""


def _aims() -> str:
    """Rows that have an aim, question by question, with what their README says in the heading's link."""
    rows = [row for row in read_rows() if row["bound"] is not None]
    if not rows:
        return "Not measured yet.\n"
    met = sum(row["met"] for row in rows)
    lines = [f"{met} of {len(rows)} are met.\n"]
    lines += ["| question | what | measured | lowest to highest round | aim | |", "|---|---|---:|---|---|---|"]
    for row in rows:
        folder = ROOT / "benchmarks" / row["question"]
        question = f"[{folder.name}](../benchmarks/{folder.name})"
        verdict = "met" if row["met"] else "**missed**"
        lines.append(f"| {question} | {_figure(row)} | {row['side']} {number(row['bound'])} | {verdict} |")
    return "\n".join(lines) + "\n"


def _figures() -> str:
    """The other rows: what the ratios were taken from."""
    rows = [row for row in read_rows() if row["bound"] is None]
    if not rows:
        return "Not measured yet.\n"
    lines = ["| what | measured | lowest to highest round |", "|---|---:|---|"]
    lines += [f"| {_figure(row)} |" for row in rows]
    found = [_machine(path) for path in sorted(FOLDER.glob("*.json")) if path != PATH]
    commits = ", ".join(sorted({machine["commit"] for machine in found}))
    processors = ", ".join(sorted({machine["processor"] for machine in found}))
    busiest = max((machine.get("busy_before", 0.0) for machine in found), default=0.0)
    noise = f"Before a question began the machine was at most {100 * busiest:.0f} % busy with something else."
    return "\n".join(lines) + f"\n\nMeasured at commit {commits} on {processors}. {noise}\n"


def _figure(row: dict[str, Any]) -> str:
    measured = row["measured"]
    note = f" ({row['note']})" if row["note"] else ""
    spread = f"{number(measured['low'])} to {number(measured['high'])}" if measured["rounds"] > 1 else ""
    return f"{row['what']}{note} | {number(measured['median'])} {row['unit']} | {spread}"


def _machine(path: Path) -> dict[str, Any]:
    machine: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["machine"]
    return machine


def picture(subjects: Subjects) -> None:
    """Bars on a logarithmic scale: the servers lie three orders of magnitude apart."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "tidegate"
    from matplotlib import pyplot

    measured = [(name, entry) for name, entry in _ordered(subjects) if entry.get("runs")][::-1]
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 0.42 * len(measured) + 1.4), sharey=True)
    for axis, (which, title) in zip(axes, (("rf", "random forest"), ("lr", "logistic regression")), strict=True):
        for place, (name, entry) in enumerate(measured):
            rates = series(entry, f"{which}_32", "rate")
            if not rates:
                continue
            colour = {"tidegate": "#0b6e8f", "floor": "#9aa5ab"}.get(name, "#d3a03c")
            middle = statistics.median(rates)
            axis.barh(place, middle, color=colour, xerr=[[middle - min(rates)], [max(rates) - middle]], ecolor="#444")
            axis.text(max(rates) * 1.08, place, number(middle), va="center", fontsize=8)
        axis.set_xscale("log")
        axis.set_xlim(10, 200_000)
        axis.set_title(f"{title}, 32 connections, one core", fontsize=10)
        axis.set_xlabel("predictions a second")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(measured)), [entry["title"] for _, entry in measured])
    figure.tight_layout()
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, metadata={"Date": None})
    pyplot.close(figure)
