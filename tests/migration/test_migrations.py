"""A store comes up to date in one step, whoever does it, and however often."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from tests.migration import newer
from tests.unit.storage.makers import START, a_snapshot
from tidegate.errors import UserError
from tidegate.storage import engines, schema
from tidegate.storage.schema import Status, status
from tidegate.storage.store import open_store
from tidegate.storage.tables import metadata


def shape(connection: Connection) -> object:
    """Everything that the database itself says about its tables."""
    seen = inspect(connection)
    return {
        table: (
            [{**column, "type": str(column["type"])} for column in seen.get_columns(table)],
            {str(index["name"]): _plain(index) for index in seen.get_indexes(table)},
            seen.get_pk_constraint(table),
        )
        for table in sorted(seen.get_table_names())
        if table != schema.VERSION_TABLE
    }


def _plain(index: Mapping[str, Any]) -> dict[str, Any]:
    options = {name: str(value) for name, value in index.get("dialect_options", {}).items()}
    return {**index, "dialect_options": options}


def test_fresh_is_migrated(empty: str) -> None:
    """What the migrations make is what ``tables.py`` says: for Alembic, and column by column for the database."""
    migrated = open_store(empty, migrate=True)
    with migrated.read() as unit:
        context = MigrationContext.configure(unit.connection, opts={"compare_type": True, "target_metadata": metadata})
        assert compare_metadata(context, metadata) == []
        by_migrations = shape(unit.connection)
    with migrated.begin() as unit:
        metadata.drop_all(unit.connection)
        metadata.create_all(unit.connection)
    with migrated.read() as unit:
        assert shape(unit.connection) == by_migrations
    migrated.close()


def test_the_head_is_the_newest_file() -> None:
    script = ScriptDirectory(str(schema.FOLDER), version_locations=[str(schema.FOLDER / "versions")])
    assert script.get_heads() == [schema.HEAD]


def test_migrating_again_changes_nothing(empty: str) -> None:
    first = open_store(empty, migrate=True)
    with first.begin() as unit:
        unit.snapshots.publish(a_snapshot(), reason="r", author="ann", at=START)
    second = open_store(empty, migrate=True)
    with second.read() as unit:
        assert status(unit.connection) == Status(schema.HEAD, "current")
        assert unit.snapshots.latest() is not None
    first.close()
    second.close()


def test_threads_that_migrate_at_once(empty: str) -> None:
    failures: list[BaseException] = []
    start = threading.Barrier(4)

    def migrate() -> None:
        start.wait()
        try:
            open_store(empty, migrate=True).close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=migrate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    opened = open_store(empty)
    opened.ping()
    opened.close()


@pytest.mark.slow
def test_those_that_open_a_new_file_at_once_wait_for_each_other(tmp_path: Path) -> None:
    """Of four in fourteen starts one was told that the file is locked, after hundredths of a second."""
    failures: list[BaseException] = []

    def open_it(url: str, start: threading.Barrier) -> None:
        start.wait()
        try:
            open_store(url, migrate=True).close()
        except BaseException as error:
            failures.append(error)

    for number in range(25):
        start = threading.Barrier(8)
        threads = [
            threading.Thread(target=open_it, args=(f"sqlite:///{tmp_path}/{number}.db", start)) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []


@pytest.mark.slow
def test_processes_that_migrate_at_once(empty: str) -> None:
    program = f"from tidegate.storage.store import open_store; open_store({empty!r}, migrate=True).ping()"
    running = [subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [(process.communicate(timeout=120)[1], process.returncode) for process in running] == [("", 0)] * 4


def test_a_migration_that_fails_leaves_the_store_as_it_was(empty: str, tmp_path: Path) -> None:
    open_store(empty, migrate=True).close()
    folders = newer.folders(tmp_path)
    broken = folders[1] / "v9001.py"
    broken.write_text(broken.read_text() + "    raise ValueError('broken')\n")
    engine = engines.make(empty)
    with pytest.raises(ValueError, match="broken"):
        schema.migrate(engines.writing(engine, durable=True), folders)
    with engines.reading(engine).connect() as connection:
        assert status(connection).state == "current"
        assert not inspect(connection).has_table("later_things")
    engine.dispose()


def test_older_tables_say_what_to_do(empty: str) -> None:
    opened = open_store(empty, migrate=True)
    with opened.begin() as unit:
        unit.connection.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    again = open_store(empty)
    with pytest.raises(UserError, match=r"older than this version of Tidegate; run: tidegate store migrate"):
        again.ping()
    opened.close()
    again.close()


def test_no_tables_say_what_to_do(empty: str) -> None:
    opened = open_store(empty)
    with pytest.raises(UserError, match="run: tidegate store migrate"):
        opened.ping()
    opened.close()
