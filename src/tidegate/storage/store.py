"""The store: transactions over SQLite or PostgreSQL. ``Unit`` names everything that can be kept.

    with store.begin() as unit:
        unit.releases.save(row, event, expected=3)
        unit.audit.append(...)

A unit is one transaction of one thread; it commits when its block ends, and is undone when the block raises. Reads in
one ``read()`` see one state of the store.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, text

from tidegate.clock import Clock, SystemClock
from tidegate.errors import Conflict, StoreAway
from tidegate.storage import engines, schema
from tidegate.storage.alerts import Alerts
from tidegate.storage.audit import Audit
from tidegate.storage.baselines import Baselines
from tidegate.storage.documents import Documents
from tidegate.storage.events import Events
from tidegate.storage.experiments import Experiments
from tidegate.storage.exposures import Exposures
from tidegate.storage.faults import translated
from tidegate.storage.feedback import FeedbackRepository
from tidegate.storage.instances import Instances
from tidegate.storage.jobs import Jobs
from tidegate.storage.keys import Keys
from tidegate.storage.leases import Leases
from tidegate.storage.listener import Listener, PostgresListener, SqliteListener
from tidegate.storage.monitors import Monitors
from tidegate.storage.once import Deliveries, Idempotency
from tidegate.storage.releases import Releases
from tidegate.storage.retrainings import Retrainings
from tidegate.storage.sessions import Sessions
from tidegate.storage.snapshots import Snapshots
from tidegate.storage.windows import Windows

LISTENER_PATIENCE = 5.0


class Unit:
    """One transaction. ``connection`` is there for what no repository offers."""

    def __init__(self, connection: Connection, writes: bool) -> None:
        self.connection = connection
        self.writes = writes

    @cached_property
    def snapshots(self) -> Snapshots:
        return Snapshots(self.connection, self.writes)

    @cached_property
    def instances(self) -> Instances:
        return Instances(self.connection, self.writes)

    @cached_property
    def windows(self) -> Windows:
        return Windows(self.connection, self.writes)

    @cached_property
    def events(self) -> Events:
        return Events(self.connection, self.writes)

    @cached_property
    def exposures(self) -> Exposures:
        return Exposures(self.connection, self.writes)

    @cached_property
    def feedback(self) -> FeedbackRepository:
        return FeedbackRepository(self.connection, self.writes)

    @cached_property
    def releases(self) -> Releases:
        return Releases(self.connection, self.writes)

    @cached_property
    def experiments(self) -> Experiments:
        return Experiments(self.connection, self.writes)

    @cached_property
    def baselines(self) -> Baselines:
        return Baselines(self.connection, self.writes)

    @cached_property
    def monitors(self) -> Monitors:
        return Monitors(self.connection, self.writes)

    @cached_property
    def alerts(self) -> Alerts:
        return Alerts(self.connection, self.writes)

    @cached_property
    def documents(self) -> Documents:
        return Documents(self.connection, self.writes)

    @cached_property
    def jobs(self) -> Jobs:
        return Jobs(self.connection, self.writes)

    @cached_property
    def retrainings(self) -> Retrainings:
        return Retrainings(self.connection, self.writes)

    @cached_property
    def keys(self) -> Keys:
        return Keys(self.connection, self.writes)

    @cached_property
    def sessions(self) -> Sessions:
        return Sessions(self.connection, self.writes)

    @cached_property
    def audit(self) -> Audit:
        return Audit(self.connection, self.writes)

    @cached_property
    def idempotency(self) -> Idempotency:
        return Idempotency(self.connection, self.writes)

    @cached_property
    def deliveries(self) -> Deliveries:
        return Deliveries(self.connection, self.writes)

    @cached_property
    def leases(self) -> Leases:
        return Leases(self.connection, self.writes)


class Store:
    """Safe to share between threads, not between processes: each opens its own.

    Everything raises StoreAway while the database cannot be reached or written, and goes on by itself afterwards.
    """

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self.clock = clock
        self.engine = engine
        self.is_postgres = engine.dialect.name == "postgresql"
        self._reading = engines.reading(engine)
        self._writing = engines.writing(engine, durable=True)
        self._hasty = engines.writing(engine, durable=False)
        self._checked = False
        self._turn = None if self.is_postgres else threading.Lock()

    @contextlib.contextmanager
    def read(self) -> Iterator[Unit]:
        with translated(), self._reading.connect() as connection:
            connection.begin()
            self._check(connection)
            yield Unit(connection, writes=False)

    @contextlib.contextmanager
    def begin(self, durable: bool = True) -> Iterator[Unit]:
        """With ``durable`` the unit is on the disk when its block ends, and survives a crash of the machine. Without, it
        survives the end of any process of ours, but a machine or server that crashes may lose the last second:
        enough for windows, events and signs of life, and cheaper.
        """
        engine = self._writing if durable else self._hasty
        with self._taking_turns(), translated(), engine.begin() as connection:
            self._check(connection)
            yield Unit(connection, writes=True)
            if self.is_postgres:
                _refuse_half(connection)

    def listen(self) -> Listener:
        """Tells of published snapshots; each listener is of one thread."""
        if not self.is_postgres:
            return SqliteListener(self.read, Path(str(self.engine.url.database)))
        from tidegate.storage import postgres

        return PostgresListener(lambda: postgres.connect(self.engine, LISTENER_PATIENCE))

    def ping(self) -> None:
        """Raises StoreAway when the database does not answer, UserError when it is not migrated."""
        with self.read() as unit:
            unit.connection.execute(text("SELECT 1"))

    def migrate(self) -> None:
        """Brings the tables up to date; does nothing when they are. Any number of processes may do it at once."""
        with self._taking_turns(), translated():
            schema.migrate(self._writing)
        self._checked = True

    def close(self) -> None:
        self.engine.dispose()

    def _check(self, connection: Connection) -> None:
        if not self._checked:
            schema.check(connection)
            self._checked = True

    @contextlib.contextmanager
    def _taking_turns(self) -> Iterator[None]:
        """SQLite has one writer, and those who wait for it poll; threads of one process queue here instead."""
        if self._turn is None:
            yield
            return
        if not self._turn.acquire(timeout=engines.BUSY_SECONDS):
            raise StoreAway("the store is busy: another thread has been writing for too long")
        try:
            yield
        finally:
            self._turn.release()


def _refuse_half(connection: Connection) -> None:
    """After an error that a caller swallowed PostgreSQL takes COMMIT for ROLLBACK, and says nothing."""
    from psycopg.pq import TransactionStatus

    driver: Any = connection.connection.driver_connection
    if driver.info.transaction_status == TransactionStatus.INERROR:
        raise Conflict("a part of the change failed; nothing of it was kept")


def open_store(url: str, clock: Clock | None = None, migrate: bool = False) -> Store:
    """A store at ``sqlite:///file`` or ``postgresql://…``. Without ``migrate`` nothing is connected before it is used, so
    that a store that is away does not keep a server from starting.

    Raises ConfigError for another URL, MissingExtra without the PostgreSQL driver, and with ``migrate`` StoreAway.
    """
    store = Store(engines.make(url, create=migrate), clock or SystemClock())
    if migrate:
        try:
            store.migrate()
        except BaseException:
            store.close()
            raise
    return store
