"""Which tables the store has, and how they come up to date.

Migrations are numbered files in ``migrations/versions``, and only add: code of the version before keeps working on the
newer tables, so that processes can be replaced one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, Engine, inspect, text

from tidegate.errors import UserError
from tidegate.storage.base import LOCKS
from tidegate.storage.faults import MIGRATE
from tidegate.storage.tables import metadata

HEAD = "0002"
"""The migration that this code was written for; its tables are those of ``tables.py``."""

FOLDER = Path(__file__).parent / "migrations"
VERSION_TABLE = "alembic_version"

State = Literal["empty", "older", "current", "newer"]


class Status(msgspec.Struct, frozen=True):
    version: str
    """Empty before the first migration."""
    state: State


def status(connection: Connection) -> Status:
    if not inspect(connection).has_table(VERSION_TABLE):
        return Status("", "empty")
    version = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608
    if version is None:
        return Status("", "empty")
    if version == HEAD:
        return Status(HEAD, "current")
    return Status(str(version), "older" if version < HEAD else "newer")


def check(connection: Connection) -> None:
    """Raises UserError when the store was never migrated, or has older tables. Newer ones are fine."""
    state = status(connection).state
    if state == "empty":
        raise UserError(f"the store has no tables yet; {MIGRATE}")
    if state == "older":
        raise UserError(f"the store is older than this version of Tidegate; {MIGRATE}")


def migrate(engine: Engine, folders: Sequence[Path] = (FOLDER / "versions",)) -> None:
    """Runs what is missing in one transaction, one process at a time; leaves a newer store alone."""
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(str(FOLDER), version_locations=[str(folder) for folder in folders])
    known = {found.revision for found in script.walk_revisions()}
    with engine.connect() as connection:
        _take_lock(connection)

        def missing(current: Any, _context: Any) -> Any:
            if not set(current) <= known:
                return []
            return script._upgrade_revs("head", current)

        with EnvironmentContext(Config(), script, fn=missing) as environment:
            environment.configure(connection=connection, target_metadata=metadata, version_table=VERSION_TABLE)
            environment.run_migrations()
        connection.commit()


def _take_lock(connection: Connection) -> None:
    """SQLite's is taken already, with BEGIN IMMEDIATE."""
    if connection.dialect.name == "postgresql":
        from tidegate.storage import postgres

        postgres.be_patient(connection)
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCKS["migration"]})
    else:
        connection.execute(text("SELECT 1"))
