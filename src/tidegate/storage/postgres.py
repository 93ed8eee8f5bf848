"""Connections to PostgreSQL that give up: a server that is paused, or behind a broken network, holds nobody for ever."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL

CONNECT_SECONDS = 5
STATEMENT_SECONDS = 15
"""Longest that one statement may run; the server ends it."""
LOCK_SECONDS = 5
PATIENCE_SECONDS = 20.0
"""Longest wait for a word from the server, which may not be able to end anything itself."""


class PatientConnection(psycopg.Connection[Any]):
    """Closed, with an OperationalError, when the server says nothing for ``patience`` seconds."""

    patience: float = PATIENCE_SECONDS

    def wait(self, gen: Any, *arguments: Any, **named: Any) -> Any:
        return super().wait(self._bounded(gen), *arguments, **named)

    def _bounded(self, steps: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """``steps``, asked again for the time whenever the driver looks up from waiting (every tenth of a second)."""
        ready: Any = None
        while True:
            try:
                wanted = steps.send(ready)
            except StopIteration as end:
                return end.value
            if ready is None or ready:  # it has just begun, or heard something
                deadline = time.monotonic() + self.patience
            elif time.monotonic() > deadline:
                self.pgconn.finish()
                raise psycopg.OperationalError("the server is silent")
            ready = yield wanted


def make(url: URL, **pool: Any) -> Engine:
    engine = create_engine(
        url,
        pool_pre_ping=True,
        pool_recycle=1800,
        pool_use_lifo=True,
        use_native_hstore=False,
        connect_args={
            "connect_timeout": CONNECT_SECONDS,
            "application_name": "tidegate",
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            **_options(url),
        },
        **pool,
    )

    def connect(_dialect: Any, _record: Any, arguments: list[Any], named: dict[str, Any]) -> PatientConnection:
        return PatientConnection.connect(*arguments, **named)

    def begin(connection: Connection) -> None:
        if connection.get_execution_options().get("tidegate") == "hasty":
            connection.exec_driver_sql("SET LOCAL synchronous_commit = off")

    event.listen(engine, "do_connect", connect)
    event.listen(engine, "begin", begin)
    return engine


def connect(engine: Engine, patience: float) -> PatientConnection:
    """A connection beside the pool, without transactions. Raises psycopg.OperationalError."""
    _, named = engine.dialect.create_connect_args(engine.url)
    named.update(connect_timeout=CONNECT_SECONDS, application_name="tidegate listener", **_options(engine.url))
    connection = PatientConnection.connect(autocommit=True, **named)
    connection.patience = patience
    return connection


def be_patient(connection: Connection) -> None:
    """For the rest of this transaction statements and locks may take as long as they need."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, PatientConnection)
    driver.patience = float("inf")
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
    connection.exec_driver_sql("SET LOCAL lock_timeout = 0")


def _options(url: URL) -> dict[str, str]:
    if "options" in url.query:  # the operator's own
        return {}
    return {"options": f"-c statement_timeout={STATEMENT_SECONDS}s -c lock_timeout={LOCK_SECONDS}s -c jit=off"}
