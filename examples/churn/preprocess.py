"""Makes a training table of raw customers: one row a customer, the newest; texts alike; what cannot be is missing.

python -m churn.preprocess data/customers.csv data/train.csv --counts data/preprocess.json
"""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import click

from churn.generator import FEATURES, LABEL, LEFT, NUMBERS, STAYED, TEXTS

POSSIBLE: Mapping[str, tuple[float, float]] = {
    "age": (16, 110),
    "tenure_months": (0, 1200),
    "discount": (0, 1),
    "satisfaction": (1, 10),
}
"""Other numbers are at least 0."""
_OUTCOMES = {"yes": LEFT, "true": LEFT, "1": LEFT, "no": STAYED, "false": STAYED, "0": STAYED}


def clean(rows: Iterable[Mapping[str, str]], counts: Counter[str]) -> Iterator[dict[str, str]]:
    """Rows with ``customer_id``, the features and the outcome; a missing value is an empty text."""
    newest: dict[str, dict[str, str]] = {}
    for row in rows:
        counts["read"] += 1
        outcome = _OUTCOMES.get(str(row.get(LABEL) or "").strip().lower())
        if outcome is None:
            counts["without outcome"] += 1
            continue
        name = str(row.get("customer_id") or "").strip()
        kept = {"customer_id": name, **{column: _text(row.get(column)) for column in TEXTS}}
        for column in NUMBERS:
            kept[column] = _number(column, row.get(column), counts)
        kept[LABEL], kept["seen_on"] = outcome, str(row.get("seen_on") or "")
        before = newest.get(name)
        counts["older rows of a customer"] += before is not None
        if before is None or before["seen_on"] <= kept["seen_on"]:
            newest[name] = kept
    for kept in newest.values():
        counts["kept"] += 1
        yield {column: kept[column] for column in ("customer_id", *FEATURES, LABEL)}


def write(rows: Iterable[Mapping[str, str]], target: Path) -> None:
    """The file appears whole, or stays as it was."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_suffix(".new")
    with fresh.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ("customer_id", *FEATURES, LABEL))
        writer.writeheader()
        writer.writerows(rows)
    fresh.replace(target)


def _text(value: str | None) -> str:
    return (value or "").strip().lower().replace(" ", "_")


def _number(column: str, value: str | None, counts: Counter[str]) -> str:
    text = (value or "").strip()
    if not text:
        return ""
    least, most = POSSIBLE.get(column, (0.0, math.inf))
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (least <= number <= most and math.isfinite(number)):
        counts[f"impossible {column}"] += 1
        return ""
    return f"{number:.0f}" if number.is_integer() else repr(number)


@click.command(help=__doc__)
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--counts", "told", type=click.Path(dir_okay=False, path_type=Path), help="JSON file of what was done.")
def main(source: Path, target: Path, told: Path | None) -> None:
    counts: Counter[str] = Counter()
    with source.open(encoding="utf-8-sig", newline="") as raw:
        write(clean(csv.DictReader(raw), counts), target)
    if told is not None:
        told.write_text(json.dumps(dict(sorted(counts.items())), indent=2) + "\n", "utf-8")
    click.echo(f"{target}: {counts['kept']} customers of {counts['read']} rows")


if __name__ == "__main__":
    main()
