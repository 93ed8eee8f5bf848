"""The report of a training: JSON for programs, Markdown and one HTML page for people."""

from __future__ import annotations

import base64
import csv
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import msgspec

from tidegate.control.training.result import Trained
from tidegate.control.training.rows import Rejected

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}td,th{padding:.2rem .8rem .2rem 0;text-align:left}img{max-width:100%}"
    ".yes{color:#0a6b2d}.no{color:#a11}"
)


def write(trained: Trained, pictures: Sequence[Path], folder: Path) -> None:
    """report.json, report.md and report.html."""
    (folder / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(trained), indent=2))
    (folder / "report.md").write_text(markdown(trained), "utf-8")
    (folder / "report.html").write_text(html(trained, pictures), "utf-8")


def write_rejected(rejected: Sequence[Rejected], folder: Path) -> None:
    with (folder / "rejected.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "column", "reason", "value"])
        writer.writerows((one.row, one.column, one.reason, one.value) for one in rejected)


def verdict(trained: Trained) -> str:
    return ("accepted: " if trained.accepted else "refused: ") + trained.gate.reason


def tables(trained: Trained) -> Iterator[tuple[str, tuple[str, ...], Sequence[tuple[str, ...]]]]:
    """Title, head and rows."""
    yield (
        "Hold-out",
        ("metric", "value", "95 % interval"),
        [(name, f"{m.value:.4f}", f"{m.low:.4f} to {m.high:.4f}") for name, m in trained.metrics.items()],
    )
    yield (
        "Families",
        ("family", "parameters", f"{trained.scoring}, cross-validated".removeprefix(", "), "± over folds", "note"),
        [
            (
                one.family,
                ", ".join(f"{name}={value}" for name, value in one.parameters.items()),
                "" if one.mean is None else f"{one.mean:.4f}",
                "" if one.spread is None else f"{one.spread:.4f}",
                one.error or ("chosen" if one == trained.best else ""),
            )
            for one in trained.tried
        ],
    )
    rows = trained.rows
    counts = [(name.replace("_", " "), f"{getattr(rows, name):,}") for name in rows.__struct_fields__]
    yield "Rows", ("rows", "count"), [(name, count) for name, count in counts if count != "0"]
    about = [("data", trained.data_digest), ("configuration", trained.config_digest), ("model", trained.model_digest)]
    about += [
        (origin.kind, " ".join(part for part in (origin.place, origin.revision, origin.md5) if part))
        for origin in trained.origins
    ]
    environment = trained.environment
    about += [("code", environment.code or "not in Git"), ("seed", str(environment.seed))]
    about += [("Python", environment.python), *environment.packages.items()]
    about += [("served as ONNX", f"{'yes' if trained.compiled else 'no'}: {trained.compile_note}")]
    if trained.version:
        about.append(("registered as", f"models:/{trained.name}/{trained.version}"))
    yield "How to do it again", ("what", "which"), about


def markdown(trained: Trained) -> str:
    lines = [f"# Training of {trained.name}", "", f"**{verdict(trained)}**", ""]
    for title, head, rows in tables(trained):
        lines += [f"## {title}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
        lines.append("")
    return "\n".join(lines)


def html(trained: Trained, pictures: Sequence[Path]) -> str:
    """One file, which needs nothing from anywhere."""
    kind = "yes" if trained.accepted else "no"
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(trained.name)}</title><style>{STYLE}</style>",
        f"<h1>Training of {escape(trained.name)}</h1><p class={kind}><strong>{escape(verdict(trained))}</strong></p>",
    ]
    for title, head, rows in tables(trained):
        cells = "".join(f"<th>{escape(name)}" for name in head)
        body = "".join("<tr>" + "".join(f"<td>{escape(cell)}" for cell in row) for row in rows)
        parts.append(f"<h2>{escape(title)}</h2><table><tr>{cells}{body}</table>")
    for picture in pictures:
        data = base64.b64encode(picture.read_bytes()).decode()
        parts.append(
            f'<h2>{escape(picture.stem.replace("_", " "))}</h2><img alt="" src="data:image/png;base64,{data}">'
        )
    return "".join(parts)
