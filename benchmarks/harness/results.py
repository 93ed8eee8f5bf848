"""What a question found: figures, and rows that hold a measured value against its aim."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks.harness.machine import ROOT, describe
from benchmarks.harness.measure import Spread

FOLDER = ROOT / "benchmarks" / "results"


@dataclass(frozen=True)
class Row:
    """One aim. ``bound`` is compared with the median; a row without a bound only informs."""

    what: str
    measured: Spread
    unit: str = "×"
    side: Literal["at least", "at most", ""] = ""
    bound: float | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        if self.bound is None or not self.side:
            return None
        return self.measured.median >= self.bound if self.side == "at least" else self.measured.median <= self.bound


@dataclass
class Result:
    """A question's answer, written to ``results/<question>.json``."""

    question: str
    rows: list[Row] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    """Every measured series by name, for whoever doubts a median."""
    machine: dict[str, Any] = field(default_factory=describe)

    def add(self, what: str, measured: Spread, **rest: Any) -> None:
        self.rows.append(Row(what, measured, **rest))

    def save(self, folder: Path = FOLDER) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.question}.json"
        document = {
            "question": self.question,
            "machine": self.machine,
            "rows": [{**asdict(row), "met": row.met} for row in self.rows],
            "figures": self.figures,
        }
        path.write_text(json.dumps(document, indent=1, default=_plain) + "\n", encoding="utf-8")
        return path


def read_rows(folder: Path = FOLDER) -> list[dict[str, Any]]:
    """The rows of every result on disk, in the order of the files' names, with their question."""
    rows = []
    for path in sorted(folder.glob("*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        rows += [{**row, "question": document["question"]} for row in document.get("rows", [])]
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Rows for a terminal: what, measured with its range, aim, met or missed."""
    lines = []
    width = max((len(row["what"]) for row in rows), default=10)
    for row in rows:
        measured = row["measured"]
        aim = f"{row['side']} {number(row['bound'])}" if row["bound"] is not None else ""
        verdict = {True: "met", False: "MISSED", None: ""}[row["met"]]
        lines.append(
            f"{row['what']:<{width}}  {number(measured['median']):>9} {row['unit']:<5}"
            f" ({number(measured['low'])} to {number(measured['high'])})".ljust(width + 42)
            + f" {aim:<18} {verdict:<7} {row['note']}".rstrip()
        )
    return "\n".join(lines)


def number(value: float) -> str:
    """Three figures that count, thousands apart."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}"


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)
