"""How stores are opened, and what a SQLite file may go through."""

from __future__ import annotations

import sqlite3
import stat
import sys
import threading
from pathlib import Path

import pytest

from tests.unit.storage.makers import START, a_snapshot, a_window, an_event
from tidegate.errors import ConfigError, StoreAway, UserError
from tidegate.storage.records import SessionRow
from tidegate.storage.store import Store, open_store


@pytest.mark.parametrize(
    "url", ["", "mysql://host/db", "sqlite://", "sqlite:///:memory:", "not a url", "postgresql://host:port/db"]
)
def test_a_url_that_is_no_store(url: str) -> None:
    with pytest.raises(ConfigError, match=r"store\.url"):
        open_store(url)


def test_migrating_makes_the_file_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "store.db"
    opened = open_store(f"sqlite:///{path}", migrate=True)
    opened.ping()
    if sys.platform != "win32":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.with_name("store.db-wal").stat().st_mode) == 0o600
    opened.close()


def test_a_file_that_is_not_there_is_not_made_by_chance(tmp_path: Path) -> None:
    opened = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    with pytest.raises(UserError, match="tidegate store migrate"):
        opened.ping()
    assert list(tmp_path.iterdir()) == []
    open_store(f"sqlite:///{tmp_path / 'store.db'}", migrate=True).close()
    opened.ping()
    opened.close()


def test_an_empty_file_is_not_migrated(tmp_path: Path) -> None:
    (tmp_path / "store.db").touch()
    opened = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    with pytest.raises(UserError, match="run: tidegate store migrate"), opened.begin():
        pytest.fail("the unit began")
    opened.close()


def test_a_file_that_is_something_else(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_bytes(b"x" * 5000)
    with pytest.raises(StoreAway, match="no SQLite database"):
        open_store(f"sqlite:///{tmp_path / 'store.db'}", migrate=True)


def test_a_folder_where_no_file_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreAway, match="cannot be made"):
        open_store(f"sqlite:///{tmp_path / 'file' / 'store.db'}", migrate=True)


def pragma(store: Store, name: str, durable: bool) -> object:
    with store.begin(durable) as unit:
        return unit.connection.exec_driver_sql(f"PRAGMA {name}").scalar()


def test_readers_do_not_wait_for_the_writer(store: Store) -> None:
    assert pragma(store, "journal_mode", durable=True) == "wal"
    with store.begin() as writing:
        writing.events.add([an_event("r1")])
        with store.read() as unit:
            assert unit.events.count() == 0


def test_only_what_is_durable_waits_for_the_disk(store: Store) -> None:
    full, normal = 2, 1
    assert pragma(store, "synchronous", durable=True) == full
    assert pragma(store, "synchronous", durable=False) == normal
    assert pragma(store, "synchronous", durable=True) == full


@pytest.fixture
def full_store(store: Store) -> Store:
    """Its file may not grow any more, as on a full disk."""
    with store.read() as unit:
        pages = unit.connection.exec_driver_sql("PRAGMA page_count").scalar()
        unit.connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    return store


def test_a_full_disk_is_told_and_nothing_is_lost(full_store: Store) -> None:
    with full_store.begin() as unit:
        unit.snapshots.publish(a_snapshot(), reason="r", author="ann", at=START)
    with pytest.raises(StoreAway, match="the disk of the store is full"), full_store.begin() as unit:
        unit.windows.add([a_window(n) for n in range(2000)])
    with full_store.begin() as unit:
        assert unit.snapshots.latest() is not None
        assert unit.windows.after("iris", 0) == []
        unit.connection.exec_driver_sql("PRAGMA max_page_count=1000000")
    with full_store.begin() as unit:
        assert unit.windows.add([a_window(n) for n in range(2000)]) == 2000


def test_another_process_that_never_ends_its_write(url: str, tmp_path: Path) -> None:
    opened = open_store(url.replace("store.db", "store.db?timeout=0.05"))
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreAway, match="busy"), opened.begin():
        pytest.fail("the unit began")
    opened.ping()
    other.execute("ROLLBACK")
    with opened.begin() as unit:
        unit.events.add([an_event("r1")])
    other.close()
    opened.close()


def test_threads_of_one_process_take_turns(store: Store) -> None:
    def write(name: str) -> None:
        for number in range(10):
            with store.begin() as unit:
                unit.events.add([an_event(f"{name}-{number}")])

    threads = [threading.Thread(target=write, args=(f"t{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.read() as unit:
        assert unit.events.count() == 60


def test_a_relative_file_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "store.db").write_bytes(template.read_bytes())
    monkeypatch.chdir(tmp_path / "a")
    opened = open_store("sqlite:///store.db")
    monkeypatch.chdir(tmp_path)
    opened.ping()
    opened.close()
    assert not (tmp_path / "store.db").exists()


def test_a_store_that_is_deleted_or_replaced_is_noticed(tmp_path: Path) -> None:
    """Else who has it open goes on in a file that nobody else sees, and all of it is lost at the end."""
    path, kept = tmp_path / "tidegate.db", tmp_path / "kept.db"
    store = open_store(f"sqlite:///{path}", migrate=True)
    with store.begin() as unit:
        unit.sessions.add(SessionRow("before", "k", 0.0, 9.0, ""))
    with sqlite3.connect(path) as from_, sqlite3.connect(kept) as to:
        from_.backup(to)
    from_.close()
    to.close()
    for file in tmp_path.glob("tidegate.db*"):
        file.rename(tmp_path / f"gone-{file.name}")
    for _ in range(2):  # the connection that was open, and a new one
        with pytest.raises(StoreAway, match="gone"), store.begin() as unit:
            unit.sessions.add(SessionRow("lost", "k", 0.0, 9.0, ""))
    kept.rename(path)
    with store.begin() as unit:
        assert unit.sessions.get("before") is not None
        unit.sessions.add(SessionRow("after", "k", 0.0, 9.0, ""))
    with open_store(f"sqlite:///{path}").read() as unit:
        assert unit.sessions.get("after") is not None
    store.close()
