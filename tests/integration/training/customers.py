"""A table of customers on a real PostgreSQL server, with types that files do not have, and an address with odd characters."""

from __future__ import annotations

import secrets
from typing import Any

import pandas
import psycopg
from psycopg import sql
from sqlalchemy import URL, select
from sqlalchemy.engine import make_url

from tests.databases import create_database
from tests.unit.control.training.tables import churn
from tidegate.storage.store import Store
from tidegate.storage.tables import metadata

PASSWORD = "p@ss/w:rd %41 #1"
TABLE = """
CREATE TYPE plan AS ENUM ('monthly', 'yearly');
CREATE TABLE customers (
    customer bigint, age smallint, charges numeric(8, 2), plan plan, vip boolean, joined date, seen timestamptz,
    photo bytea, extra jsonb, tags text[], waited interval, churned boolean
);
"""
QUERY = """
SELECT *, '{"a":1}' AS note FROM customers WHERE 'a%' LIKE 'a%' AND seen::date > '2026-01-01 00:00:00'
"""
SCHEMA = {
    "age": {"type": "integer", "min": 0, "max": 120, "missing": 0.3},
    "charges": {"min": 0},
    "plan": {"type": "category", "categories": ["monthly", "yearly"], "missing": 0.3},
    "vip": {"type": "boolean", "missing": 0.3},
    "joined": {"type": "time"},
    "churned": {"type": "boolean"},
}

GIVEN: dict[str, Any] = {
    "schema": SCHEMA,
    "split": {"by": "time", "time": "seen", "unit": "customer"},
    "families": {"decision_tree": {"max_depth": 3}},
}


def table() -> pandas.DataFrame:
    """400 rows, some cells of which are empty; ``seen`` goes through the hour that New York has twice."""
    frame = churn(400).astype({"churned": bool, "age": object, "plan": object})
    ages = [None if place % 11 == 0 else int(age) for place, age in enumerate(frame["age"])]
    frame["age"] = pandas.Series(ages, frame.index, dtype=object)
    frame.loc[::9, "plan"] = None
    frame["vip"] = [[True, False, None][place % 3] if place % 4 == 0 else False for place in range(400)]
    frame["seen"] = pandas.date_range("2026-11-01 00:00", periods=400, freq="10min", tz="UTC")
    frame["joined"] = [(moment - pandas.Timedelta(days=place)).date() for place, moment in enumerate(frame["seen"])]
    frame["customer"] = [9_007_199_254_740_993 + place // 2 for place in range(400)]
    return frame


class Database:
    """``url``: of a reader whose password has every character that addresses give a meaning."""

    def __init__(self, server: str) -> None:
        owned = make_url(create_database(server))
        reader = f"reader {secrets.token_hex(4)}"
        self.url = owned.set(
            username=reader, password=PASSWORD, query={"options": "-c timezone=America/New_York"}
        )  # fmt: skip
        frame = table()
        names = ["customer", "age", "charges", "plan", "vip", "joined", "seen", "churned"]
        with psycopg.connect(owned.render_as_string(hide_password=False), autocommit=True) as connection:
            connection.execute(TABLE)
            with connection.cursor().copy(f"COPY customers ({', '.join(names)}) FROM STDIN") as copy:
                for row in frame[names].itertuples(index=False):
                    copy.write_row(row)
            connection.execute(
                "UPDATE customers SET photo = '\\x00ff', extra = '{\"a\": 1}', tags = '{a}', waited = '1 hour'"
            )
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(reader), sql.Literal(PASSWORD))
            )
            connection.execute(sql.SQL("GRANT SELECT ON customers TO {}").format(sql.Identifier(reader)))

    def source(self, query: str = QUERY, url: URL | None = None) -> dict[str, Any]:
        return {"sql": {"url": shown(url or self.url), "query": query}}


def shown(url: URL) -> str:
    return url.render_as_string(hide_password=False).replace("postgresql+psycopg", "postgresql")


def none_of(url: URL, *texts: str) -> None:
    """No password, as it is or as it is written in an address; no user and no host with it."""
    written = shown(url).partition("://")[2].rpartition("@")[0]
    secrets = [str(url.password), written, written.partition(":")[2], str(url.username)]
    for text in texts:
        assert not [secret for secret in secrets if secret in text]


def everything(store: Store) -> str:
    with store.read() as unit:
        return "\n".join(
            str(tuple(row)) for name in metadata.tables.values() for row in unit.connection.execute(select(name))
        )
