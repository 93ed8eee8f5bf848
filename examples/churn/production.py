"""The production set: what customers answered, what was predicted, and whether they left. One table of SQLite or PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sql
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError

from churn.generator import FEATURES, LABEL, LEFT, STAYED

_TABLES = sql.MetaData()
_ROWS = sql.Table(
    "survey_rows",
    _TABLES,
    sql.Column("request_id", sql.String(128), primary_key=True),
    sql.Column("customer_id", sql.String(128), nullable=False),
    sql.Column("submitted", sql.Float, nullable=False),
    sql.Column("answers", sql.JSON, nullable=False),
    sql.Column("prediction", sql.String(64), nullable=False),
    sql.Column("variant", sql.String(64), nullable=False),
    sql.Column("version", sql.String(64), nullable=False),
    sql.Column("churn", sql.String(8)),
    sql.Column("labelled", sql.Float, index=True),
)


class Submission(NamedTuple):
    request_id: str
    customer_id: str
    answers: Mapping[str, float | str | None]
    prediction: str
    variant: str
    version: str


class Counts(NamedTuple):
    rows: int
    """With a known outcome: what a training can use."""
    waiting: int


class ProductionRows:
    """``url`` as in DATABASE_URL."""

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            Path(parsed.database or "").absolute().parent.mkdir(parents=True, exist_ok=True)
            parsed = parsed.update_query_dict({"timeout": "10"})
        else:
            parsed = parsed.set(drivername="postgresql+psycopg")
        self._engine = sql.create_engine(parsed, pool_pre_ping=True)
        _TABLES.create_all(self._engine)

    def close(self) -> None:
        self._engine.dispose()

    def keep(self, submission: Submission) -> None:
        """The same request a second time changes nothing."""
        with self._changing() as connection:
            try:
                with connection.begin_nested():
                    connection.execute(_ROWS.insert().values(**submission._asdict(), submitted=time.time()))
            except IntegrityError:
                return

    def knows(self, request_id: str) -> bool:
        with self._engine.connect() as connection:
            return (
                connection.execute(sql.select(_ROWS.c.request_id).filter_by(request_id=request_id)).first() is not None
            )

    def label(self, request_id: str, left: bool) -> None:
        outcome = {"churn": LEFT if left else STAYED, "labelled": time.time()}
        with self._changing() as connection:
            connection.execute(_ROWS.update().where(_ROWS.c.request_id == request_id).values(**outcome))

    def counts(self) -> Counts:
        with self._engine.connect() as connection:
            query = sql.select(sql.func.count(_ROWS.c.labelled), sql.func.count())
            labelled, everything = connection.execute(query).one()
        return Counts(labelled, everything - labelled)

    def labelled(self, since: float = 0.0) -> Iterator[dict[str, Any]]:
        """Features and outcome, in the order in which the outcomes became known."""
        query = sql.select(_ROWS).where(_ROWS.c.labelled >= since).order_by(_ROWS.c.labelled, _ROWS.c.request_id)
        with self._engine.connect() as connection:
            for row in connection.execution_options(yield_per=1000).execute(query):
                features = {name: row.answers.get(name) for name in FEATURES}
                yield {"customer_id": row.customer_id, **features, LABEL: row.churn}

    @contextmanager
    def _changing(self) -> Iterator[sql.Connection]:
        with self._engine.begin() as connection:
            yield connection
