"""Processes that are killed or paused while they write, on both databases."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.process import until
from tests.unit.storage.makers import START
from tidegate.storage.audit import hash_of
from tidegate.storage.store import open_store

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a migrated, empty store."""
    if request.param == "postgresql":
        found: str = request.getfixturevalue("url")
        return found
    return sqlite_in(tmp_path)


def sqlite_in(folder: Path) -> str:
    url = f"sqlite:///{folder / 'store.db'}"
    open_store(url, migrate=True).close()
    return url


@contextmanager
def writing(url: str, what: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.integration.storage.writer", url, what]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ}
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=60)


def test_what_was_taken_survives_the_death_of_the_writer(place: str) -> None:
    """R7: exposures, feedback and decisions are there after ``kill -9``, whole, and the chain of the audit log holds."""
    with writing(place, "write_for_ever") as process:
        assert process.stdout is not None
        told = [int(process.stdout.readline()) for _ in range(30)]
        process.kill()
        told += [int(line) for line in process.stdout]
    opened = open_store(place)
    with opened.read() as unit:
        kept = unit.exposures.counts("colours")["baseline"]
        assert kept % 3 == 0
        batches = kept // 3
        assert told[-1] <= batches <= told[-1] + 1
        rows = unit.audit.rows()
        assert [int(row.target) for row in rows] == list(range(1, batches + 1))
        assert all(hash_of(row) == row.hash for row in rows)
        assert len(unit.feedback.outcomes("colours", "bought")) == 0
        if not opened.is_postgres:
            assert unit.connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
    with opened.begin() as unit:  # no lock is left behind
        unit.audit.append("test", "write", "x", "{}", START)
    opened.close()


def test_a_leader_that_was_paused_cannot_write(place: str) -> None:
    """R13: its lease ran out, another acts; what it still has in hand is refused as a whole."""
    with writing(place, "hold_a_lease") as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "leads\n"
        process.send_signal(signal.SIGSTOP)
        opened = open_store(place)

        def take_over() -> bool:
            with opened.begin() as unit:
                return unit.leases.acquire("releases", "other", opened.clock.wall(), 60) is not None

        until(take_over, "the lease ran out")
        process.stdin.write("go\n")
        process.stdin.flush()
        process.send_signal(signal.SIGCONT)
        assert process.stdout.readline() == "lost: another control plane has the lease releases\n"
        with opened.read() as unit:
            assert unit.audit.last() is None
        opened.close()


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    url = sqlite_in(tmp_path)
    with writing(url, "write_to_a_full_disk") as process:
        said, _ = process.communicate(timeout=120)
    words, count = said.splitlines()
    kept, _, text = words.partition(" kept; ")
    assert text in ("the disk of the store is full", "the disk of the store fails")
    assert int(count) == int(kept) > 0
    opened = open_store(url)
    with opened.begin() as unit:
        unit.audit.append("test", "write", "x", "{}", START)
        assert unit.connection.exec_driver_sql("PRAGMA quick_check").scalar() == "ok"
    opened.close()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root can become a stranger; CI is root")
def test_a_store_that_may_only_be_read() -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = sqlite_in(Path(folder))
        Path(folder).chmod(0o755)
        (Path(folder) / "store.db").chmod(0o644)
        with writing(url, "write_as_a_stranger") as process:
            said, _ = process.communicate(timeout=60)
    assert said in (
        "the store cannot be written: it is read-only\n",
        "the file of the store cannot be opened\n",
    )
