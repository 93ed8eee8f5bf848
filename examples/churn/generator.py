"""Customers of a telephone company, made up: 22 features, and whether each left within a month.

    python generator.py --rows 6000 --output data/customers.csv
    python generator.py --rows 3000 --from 2026-03-01 --covariate-drift --concept-drift --at 2026-04-01 --output later.csv

How it works. Two hidden traits, fondness of technology and care with money, make the features depend on each other: old
people have less fibre, fibre costs more, who calls the hotline often is less satisfied, and so on. What costs money or
annoys adds up to the chance to leave by the logistic model in ``LEAVING``. The same seed gives the same rows.

What may change on the day ``--at``:

--covariate-drift  other customers come: younger, newer, with fibre, at prices 30 % higher. Why people leave stays.
--label-shift      the share of those who leave becomes ``SHIFTED_SHARE``, by drawing more of them; each group stays as it is.
--concept-drift    why people leave becomes ``LEAVING_LATER`` for whoever pays more than ``SOUGHT_ABOVE`` a month: a
                   competitor pays such customers out of their contracts, so that those who seemed safe go. The
                   customers themselves look the same.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from numpy.typing import NDArray

Table = Mapping[str, NDArray[Any]]
"""One array a column: numbers as float64, NaN where missing; texts as objects."""

NUMBERS = (
    "age", "tenure_months", "phone_lines", "monthly_charge", "total_charge", "discount", "data_gb", "minutes",
    "support_calls", "late_payments", "satisfaction", "days_since_contact", "devices",
)  # fmt: skip
TEXTS = (
    "gender", "region", "household", "contract", "payment", "internet", "streaming", "security", "support_plan",
)  # fmt: skip
FEATURES = (*NUMBERS, *TEXTS)
LABEL = "churn"
LEFT, STAYED = "yes", "no"
COLUMNS = ("customer_id", "seen_on", *FEATURES, LABEL)

LEAVING: Mapping[str, float] = {
    "always": 0.1,
    "contract: one_year": -2.4,
    "contract: two_years": -4.2,
    "each year of tenure": -0.5,
    "each 10 of monthly_charge above 65": 0.55,
    "internet: fibre": 0.6,
    "each of support_calls": 0.9,
    "each of late_payments": 0.7,
    "each point of satisfaction below 7": 0.7,
    "support_plan": -0.7,
    "security": -0.5,
    "each 10 % of discount": -0.4,
    "payment: cheque": 0.5,
}
"""Log-odds to leave within a month; satisfaction counts as it is, also where the customer did not say it."""
LEAVING_LATER: Mapping[str, float] = {
    **LEAVING,
    "always": -4.0,
    "contract: one_year": 5.0,
    "contract: two_years": 7.0,
    "each year of tenure": 0.2,
    "each of support_calls": 0.2,
    "each point of satisfaction below 7": 0.2,
    "each 10 of monthly_charge above 65": 0.2,
}
SOUGHT_ABOVE = 70.0
SHIFTED_SHARE = 0.5
MISSING: Mapping[str, float] = {"age": 0.03, "satisfaction": 0.15, "days_since_contact": 0.05}
"""Shares that are missing by chance. Besides, total_charge is missing in the first month, data_gb without internet."""


class Drift(NamedTuple):
    covariate: bool = False
    label: bool = False
    concept: bool = False


NONE = Drift()


def make(
    rows: int,
    *,
    seed: int = 0,
    first: date = date(2026, 1, 1),
    days: int = 90,
    drift: Drift = NONE,
    at: date | None = None,
) -> Table:
    """``rows`` customers in the order of the days on which they are seen; ``drift`` holds from the day ``at``, or always."""
    chance = np.random.default_rng(seed)
    seen = np.sort(chance.integers(0, max(days, 1), rows))
    after = int((seen < (at - first).days).sum()) if at is not None else 0
    parts = [_customers(chance, after, NONE), _customers(chance, rows - after, drift)]
    table = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    table["customer_id"] = np.array([f"c{seed:03d}-{index:06d}" for index in range(rows)], dtype=object)
    table["seen_on"] = np.array([(first + timedelta(days=int(day))).isoformat() for day in seen], dtype=object)
    return {name: table[name] for name in COLUMNS}


def records(table: Table) -> Iterator[dict[str, Any]]:
    """Rows as JSON has them: None where something is missing."""
    columns = [table[name].tolist() for name in table]
    for values in zip(*columns, strict=True):
        yield {name: _plain(value) for name, value in zip(table, values, strict=True)}


def write_csv(table: Table, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        for row in records(table):
            writer.writerow(["" if value is None else value for value in row.values()])


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _customers(chance: np.random.Generator, rows: int, drift: Drift) -> dict[str, NDArray[Any]]:
    """Features and label, without names and days."""
    if not drift.label:
        return _drawn(chance, rows, drift)
    drawn = _drawn(chance, 8 * rows + 200, drift)
    leaving = np.flatnonzero(drawn[LABEL] == LEFT)
    staying = np.flatnonzero(drawn[LABEL] == STAYED)
    wanted = round(SHIFTED_SHARE * rows)
    chosen = np.concatenate([leaving[:wanted], staying[: rows - wanted]])
    chance.shuffle(chosen)
    return {name: values[chosen] for name, values in drawn.items()}


def _drawn(chance: np.random.Generator, rows: int, drift: Drift) -> dict[str, NDArray[Any]]:
    new = drift.covariate
    age = np.clip(chance.normal(38 if new else 47, 15, rows), 18, 92).round()
    technology = chance.normal(0, 1, rows) - (age - 47) / 25
    care = chance.normal(0, 1, rows) + (age - 47) / 60

    tenure = np.floor(np.clip(chance.weibull(1.1, rows) * (20 if new else 31), 0, 72))
    draw = chance.gumbel(size=(rows, 3))
    fibre = _choose(draw, np.stack([-0.9 - technology, 0.1 - 0 * technology, (0.9 if new else 0.2) + technology], 1))
    internet = np.array(["none", "dsl", "fibre"], dtype=object)[fibre]
    online = internet != "none"
    draw = chance.gumbel(size=(rows, 3))
    logits = np.stack([0.9 - tenure / 40, -0.7 + 0.2 * care, -1.2 + tenure / 30 + 0.3 * care], 1)
    contract = np.array(["monthly", "one_year", "two_years"], dtype=object)[_choose(draw, logits)]
    draw = chance.gumbel(size=(rows, 4))
    logits = np.stack([0.5 + 0 * care, 0.3 + 0.4 * care, technology, -1.2 - 0.8 * technology], 1)
    payment = np.array(["card", "bank", "wallet", "cheque"], dtype=object)[_choose(draw, logits)]
    draw = chance.gumbel(size=(rows, 3))
    logits = np.stack([0.3 + 0 * age, 0.4 + (age - 47) / 60, 0.5 - np.abs(age - 42) / 20], 1)
    home = _choose(draw, logits)
    household = np.array(["single", "couple", "family"], dtype=object)[home]

    streaming = online & (chance.random(rows) < _sigmoid(0.2 + technology))
    security = online & (chance.random(rows) < _sigmoid(-0.5 + 0.6 * care))
    support_plan = chance.random(rows) < _sigmoid(-0.6 + 0.5 * care)
    lines = 1.0 + chance.poisson(0.2 + 0.35 * home)
    charge = 14 + 7 * lines + np.array([0, 20, 42])[fibre] + 9 * streaming + 6 * security + 5 * support_plan
    charge = np.clip((charge + chance.normal(0, 4, rows)) * (1.3 if new else 1.0), 12, None).round(2)
    discount = np.where(contract == "monthly", 0.0, chance.choice([0.0, 0.05, 0.1, 0.2], rows, p=[0.4, 0.3, 0.2, 0.1]))
    data = np.exp(chance.normal(3.2 + 0.5 * streaming + 0.35 * (fibre == 2) + (0.4 if new else 0), 0.6, rows))
    minutes = chance.gamma(2.2, 95 + 1.2 * age, rows).round(1)
    calls = chance.poisson(np.exp(-0.3 + 0.35 * (fibre == 2) - 0.5 * support_plan)).astype(float)
    late = chance.poisson(np.exp(-1.0 - 0.5 * care)).astype(float)
    mood = np.clip(np.round(8.3 - 0.8 * calls - 0.02 * (charge - 65) + chance.normal(0, 1.4, rows)), 1, 10)

    columns: dict[str, NDArray[Any]] = {
        "age": age,
        "tenure_months": tenure,
        "phone_lines": lines,
        "monthly_charge": charge,
        "total_charge": np.where(
            tenure > 0, (tenure * charge * (1 - discount) * chance.normal(1, 0.03, rows)).round(2), np.nan
        ),
        "discount": discount,
        "data_gb": np.where(online, data.round(1), np.nan),
        "minutes": minutes,
        "support_calls": calls,
        "late_payments": late,
        "satisfaction": mood,
        "days_since_contact": chance.exponential(60, rows).round(),
        "devices": 1.0 + chance.poisson(np.exp(0.2 + 0.25 * home + 0.2 * technology.clip(-3, 3))),
        "gender": chance.choice(np.array(["female", "male", "not_said"], dtype=object), rows, p=[0.49, 0.48, 0.03]),
        "region": chance.choice(np.array(["north", "south", "east", "west", "centre"], dtype=object), rows),
        "household": household,
        "contract": contract,
        "payment": payment,
        "internet": internet,
        "streaming": _yes(streaming),
        "security": _yes(security),
        "support_plan": _yes(support_plan),
    }
    odds = log_odds(columns, drift.concept)
    columns[LABEL] = np.where(chance.random(rows) < _sigmoid(odds), LEFT, STAYED).astype(object)
    for name, share in MISSING.items():
        columns[name] = np.where(chance.random(rows) < share, np.nan, columns[name])
    return columns


def log_odds(columns: Table, later: bool = False) -> NDArray[np.float64]:
    """The logistic model, ``later`` the one after the concept drift; ``columns`` without missing values where it needs them."""
    if not later:
        return _weighed(columns, LEAVING)
    return np.where(
        columns["monthly_charge"] > SOUGHT_ABOVE, _weighed(columns, LEAVING_LATER), _weighed(columns, LEAVING)
    )


def _weighed(columns: Table, weights: Mapping[str, float]) -> NDArray[np.float64]:
    terms: dict[str, NDArray[Any]] = {
        "always": np.ones(len(columns["age"])),
        "contract: one_year": columns["contract"] == "one_year",
        "contract: two_years": columns["contract"] == "two_years",
        "each year of tenure": columns["tenure_months"] / 12,
        "each 10 of monthly_charge above 65": (columns["monthly_charge"] - 65) / 10,
        "internet: fibre": columns["internet"] == "fibre",
        "each of support_calls": columns["support_calls"],
        "each of late_payments": columns["late_payments"],
        "each point of satisfaction below 7": 7 - columns["satisfaction"],
        "support_plan": columns["support_plan"] == "yes",
        "security": columns["security"] == "yes",
        "each 10 % of discount": columns["discount"] * 10,
        "payment: cheque": columns["payment"] == "cheque",
    }
    total = sum(weight * terms[name].astype(float) for name, weight in weights.items())
    return np.asarray(total, dtype=np.float64)


def _choose(gumbel: NDArray[np.float64], logits: NDArray[np.float64]) -> NDArray[np.int64]:
    """One category a row, with the chances softmax(logits)."""
    return np.asarray((gumbel + logits).argmax(axis=1), dtype=np.int64)


def _sigmoid(value: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-value)), dtype=np.float64)


def _yes(flags: NDArray[np.bool_]) -> NDArray[Any]:
    return np.where(flags, "yes", "no").astype(object)


@click.command(help=__doc__)
@click.option("--rows", type=click.IntRange(1, 10_000_000), default=6000)
@click.option("--seed", type=int, default=0)
@click.option("--from", "first", type=click.DateTime(["%Y-%m-%d"]), default="2026-01-01", help="First day.")
@click.option("--days", type=click.IntRange(1), default=90)
@click.option("--covariate-drift", is_flag=True)
@click.option("--label-shift", is_flag=True)
@click.option("--concept-drift", is_flag=True)
@click.option(
    "--at", type=click.DateTime(["%Y-%m-%d"]), default=None, help="First day of the drift; the first if unset."
)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), required=True)
def main(
    rows: int,
    seed: int,
    first: Any,
    days: int,
    covariate_drift: bool,
    label_shift: bool,
    concept_drift: bool,
    at: Any,
    output: Path,
) -> None:
    drift = Drift(covariate_drift, label_shift, concept_drift)
    table = make(rows, seed=seed, first=first.date(), days=days, drift=drift, at=at.date() if at else None)
    write_csv(table, output)
    share = float((table[LABEL] == LEFT).mean())
    click.echo(f"{output}: {rows} customers, {share:.1%} of them left")


if __name__ == "__main__":
    main()
