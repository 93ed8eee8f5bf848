"""Which tables the store has, and how they come up to date."""

from __future__ import annotations

from sqlalchemy import Connection, Engine, inspect

from tidegate.errors import UserError
from tidegate.storage.faults import MIGRATE
from tidegate.storage.tables import metadata


def migrate(engine: Engine) -> None:
    with engine.connect() as connection:
        metadata.create_all(connection)
        connection.commit()


def check(connection: Connection) -> None:
    """Raises UserError when the store was never migrated."""
    if not inspect(connection).has_table("snapshots"):
        raise UserError(f"the store has no tables yet; {MIGRATE}")
