"""DVC with real repositories and a real remote: rows come, new ones go, and a remote that is away comes back."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.stores import sqlite_store
from tidegate.clock import ManualClock
from tidegate.control.jobs.claims import Claims
from tidegate.control.jobs.handlers import HANDLERS
from tidegate.control.jobs.job import Job
from tidegate.control.jobs.perform import perform
from tidegate.control.jobs.queue import Queue
from tidegate.control.jobs.task import Task
from tidegate.control.registry.files import FilesRegistry
from tidegate.errors import UserError
from tidegate.integrations.dvc import RemoteAway, data_version, pull, push, run_pull, run_push, status
from tidegate.settings import Settings, Trust

# Of the libraries that DVC calls.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning:dvc")]

ROWS = "age,churned\n41,0\n"


class Given(msgspec.Struct):
    """What a handler sees of a job."""

    payload: Mapping[str, Any]
    base: Path
    said: list[str] = []

    def progress(self, done: int = 0, total: int = 0, text: str = "") -> None:
        self.said.append(text)


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.test")
    done = subprocess.run(["git", "-C", str(folder), *who, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def repository(folder: Path, remote: Path | str) -> Path:
    from dvc.repo import Repo

    folder.mkdir()
    git(folder, "init", "--quiet")
    git(folder, "config", "user.name", "Ada")
    git(folder, "config", "user.email", "ada@example.test")
    Repo.init(str(folder))
    (folder / ".dvc" / "config").write_text(f'[core]\n    remote = store\n[remote "store"]\n    url = {remote}\n')
    return folder


def forget(folder: Path) -> None:
    shutil.rmtree(folder / ".dvc" / "cache", ignore_errors=True)
    (folder / "data" / "rows.csv").unlink(missing_ok=True)


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    found = tmp_path / "remote"
    found.mkdir()
    return found


@pytest.fixture
def here(tmp_path: Path, remote: Path) -> Path:
    """One that has sent its first rows."""
    folder = repository(tmp_path / "here", remote)
    (folder / "data").mkdir()
    (folder / "data" / "rows.csv").write_text(ROWS)
    push(folder, ["data/rows.csv"], commit="the first rows")
    return folder


def test_rows_come_back_from_the_remote(here: Path) -> None:
    forget(here)
    moved = pull(here)
    assert (here / "data" / "rows.csv").read_text() == ROWS
    assert moved.files == 1
    assert moved.versions == {"data/rows.csv": f"md5:{md5(ROWS)}"}
    assert pull(here).files == 0
    assert status(here) == {"files": {}, "remote": {}}


def test_new_rows_go_and_are_committed_alone(here: Path, tmp_path: Path) -> None:
    (here / "data" / "rows.csv").write_text(ROWS + "50,1\n")
    (here / "unrelated").write_text("x")
    git(here, "add", "unrelated")
    assert status(here)["files"]
    job = Given({"targets": ["data/rows.csv"], "commit": "labelled rows", "folder": "here"}, tmp_path)
    moved = run_push(job)
    assert moved["versions"] == {"data/rows.csv": f"md5:{md5(ROWS + '50,1' + chr(10))}"}
    assert git(here, "log", "-1", "--format=%s", "--name-only").split("\n\n") == ["labelled rows", "data/rows.csv.dvc"]
    assert moved["revision"] == git(here, "rev-parse", "HEAD")[:12]
    again = run_push(job)
    assert (again["files"], again["versions"], again["revision"]) == (0, moved["versions"], moved["revision"])
    assert job.said == ["pushing from here"] * 2


def test_a_clone_gets_the_rows_of_its_commit(here: Path, tmp_path: Path) -> None:
    git(here, "add", "--all")
    git(here, "commit", "--quiet", "--message", "all")
    git(tmp_path, "clone", "--quiet", str(here), "there")
    assert run_pull(Given({"folder": "there"}, tmp_path))["files"] == 1
    assert (tmp_path / "there" / "data" / "rows.csv").read_text() == ROWS


def test_a_remote_that_is_away_is_tried_again_and_not_made_anew(here: Path, remote: Path) -> None:
    """A folder that is not mounted must not become an empty remote."""
    away = remote.rename(remote.with_name("away"))
    forget(here)
    with pytest.raises(RemoteAway, match="store is a folder that is not there; is it mounted"):
        pull(here)
    (here / "data" / "rows.csv").write_text(ROWS + "50,1\n")
    with pytest.raises(RemoteAway):
        push(here, ["data/rows.csv"])
    assert not remote.exists()
    away.rename(remote)
    assert push(here, ["data/rows.csv"]).versions["data/rows.csv"] == f"md5:{md5(ROWS + '50,1' + chr(10))}"


def test_a_job_waits_for_a_remote_that_is_away(here: Path, remote: Path, tmp_path: Path) -> None:
    clock, settings = ManualClock(1_000.0), Settings()
    with contextlib.closing(sqlite_store(tmp_path, clock)) as store:
        queue, claims = Queue(store, settings.jobs, clock), Claims(store, settings.jobs, clock, "here")
        registry = FilesRegistry(tmp_path / "registry", Trust(), base=tmp_path)

        def attempt() -> Job:
            claim = claims.take(["dvc-pull"])
            assert claim is not None
            task = Task(claim, claims, settings, store, registry, clock, tmp_path / "jobs", base=tmp_path)
            perform(task, claim, claims, HANDLERS["dvc-pull"])
            return queue.get(claim.job.id)

        queue.submit("dvc-pull", {"folder": "here"}, who="ada")
        away = remote.rename(remote.with_name("away"))
        forget(here)
        waiting = attempt()
        assert waiting.state == "queued"
        assert "is it mounted?" in waiting.attempts[-1].error
        assert claims.take(["dvc-pull"]) is None
        away.rename(remote)
        clock.advance(60.0)
        done = attempt()
        assert (done.state, done.result["files"]) == ("done", 1)
        assert (here / "data" / "rows.csv").read_text() == ROWS


def test_rows_that_the_remote_does_not_have_are_tried_again(here: Path, remote: Path) -> None:
    shutil.rmtree(remote / "files")
    forget(here)
    with pytest.raises(RemoteAway, match="the remote is away, or does not have it"):
        pull(here)


def test_what_another_try_cannot_mend_is_said(here: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.csv"):
        push(here, ["data/absent.csv"])
    with pytest.raises(UserError, match="not inside of a DVC repository"):
        pull(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        run_pull(Given({"folder": "nowhere"}, tmp_path))
    with pytest.raises(UserError, match="below the folder"):
        run_push(Given({"folder": "here", "targets": ["../../etc/passwd"]}, tmp_path))
    (here / ".dvc" / "config").write_text("")
    with pytest.raises(UserError, match="add one: dvc remote add"):
        pull(here)


def test_the_version_of_rows_names_what_the_file_holds(here: Path) -> None:
    path = here / "data" / "rows.csv"
    revision = git(here, "rev-parse", "HEAD")[:12]
    assert data_version(path) == f"md5:{md5(ROWS)}@{revision}"
    path.write_text("other\n")
    assert data_version(path) == f"md5:{md5('other' + chr(10))}+changed@{revision}"
    with pytest.raises(UserError, match="not tracked"):
        data_version(here / "unknown.csv")
    with pytest.raises(UserError, match="in no DVC repository"):
        data_version(here.parent / "x.csv")


def test_the_version_of_what_a_pipeline_made_is_in_its_lock(here: Path) -> None:
    (here / "made").mkdir()
    (here / "made" / "table.csv").write_text(ROWS)
    outs = [{"path": "made/table.csv", "hash": "md5", "md5": md5(ROWS)}, {"path": "made/parts", "md5": "0a.dir"}]
    (here / "dvc.lock").write_text(msgspec.yaml.encode({"schema": "2.0", "stages": {"make": {"outs": outs}}}).decode())
    (here / "made" / "parts").mkdir()
    assert data_version(here / "made" / "table.csv").startswith(f"md5:{md5(ROWS)}@")
    assert data_version(here / "made" / "parts").startswith("md5:0a.dir@")


@pytest.mark.parametrize("name", ["admin.key", ".env", "link.csv", "run"])
def test_what_may_be_a_secret_is_not_sent(here: Path, remote: Path, name: str) -> None:
    (here / "admin.key").write_text("tg_secret")
    (here / "admin.key").chmod(0o600)
    (here / "run").mkdir()
    (here / "run" / "admin.key").hardlink_to(here / "admin.key")
    (here / ".env").write_text("KEY=tg_secret")
    (here / "link.csv").symlink_to(here / "admin.key")
    before = sorted(remote.rglob("*"))
    with pytest.raises(UserError, match=f"{name} may be a secret"):
        push(here, [name])
    assert sorted(remote.rglob("*")) == before


def test_what_a_pipeline_made_is_sent_as_its_lock_says(here: Path) -> None:
    stage = {"cmd": "cp data/rows.csv made.csv", "deps": ["data/rows.csv"], "outs": ["made.csv"]}
    (here / "dvc.yaml").write_text(msgspec.yaml.encode({"stages": {"make": stage}}).decode())
    subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet"], cwd=here, check=True, timeout=60,
                   env={**os.environ, "DVC_NO_ANALYTICS": "1", "CI": "1"})  # fmt: skip
    moved = push(here)
    assert moved.versions["made.csv"] == f"md5:{md5(ROWS)}"
    assert push(here, ["made.csv"], commit="made").files == 0
    assert git(here, "log", "-1", "--format=%s", "--name-only") == "made\n\n.gitignore\ndvc.lock"


def test_rows_that_were_changed_here_are_not_overwritten(here: Path) -> None:
    path = here / "data" / "rows.csv"
    path.write_text("mine\n")
    with pytest.raises(UserError):
        pull(here)
    assert path.read_text() == "mine\n"


def test_nothing_is_told_to_dvcs_makers(here: Path) -> None:
    """Nor looked up: a process that may reach nobody does the same."""
    code = (
        "import sys\n"
        "def watch(event, given):\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo', 'subprocess.Popen', 'os.posix_spawn'):\n"
        "        print('REACHED', event, given[0], file=sys.stderr)\n"
        "sys.addaudithook(watch)\n"
        "from pathlib import Path\n"
        "from tidegate.integrations.dvc import pull, push\n"
        "push(Path('.'), ['data/rows.csv']); pull(Path('.'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=here, capture_output=True, text=True, timeout=60, check=True
    )
    reached = [line for line in done.stderr.splitlines() if line.startswith("REACHED")]
    assert [line for line in reached if not line.endswith("git")] == []
