"""With several processes a change is in force everywhere or nowhere: no process is ahead of another that still loads."""

from __future__ import annotations

import os
import signal
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.caller import Load, anew, sum_of_row
from tests.process import Server, serving, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

OLD = 0.0
NEW = 100.0

SLOW_IN_ALL_BUT_ONE = """
import os
import pathlib
import time

class Model:
    signature = {
        "inputs": {"x": {"datatype": "FP64", "shape": [-1, 4]}},
        "outputs": {"predictions": {"datatype": "FP64"}},
    }

    def load(self, path):
        flags = pathlib.Path(os.environ["FLAGS"])
        try:
            (flags / "first").touch(exist_ok=False)
            return
        except FileExistsError:
            (flags / f"waits-{os.getpid()}").touch()
        while not (flags / "go").exists():
            time.sleep(0.01)
        if (flags / "fail").exists():
            raise ValueError("it fails here only")
        if (flags / "die").exists():
            os._exit(9)

    def predict(self, inputs):
        return {"predictions": inputs["x"].sum(axis=1) + 100}
"""


class Flags:
    """How the processes that load the new model are held, and what becomes of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "flags"
        self.folder.mkdir()
        self.environment = {"FLAGS": str(self.folder)}

    def set(self, *names: str) -> None:
        for name in names:
            (self.folder / name).touch()

    def held(self) -> list[int]:
        """The processes that were held, in order."""
        held = sorted(self.folder.glob("waits-*"), key=lambda path: path.stat().st_mtime_ns)
        return [int(path.name.partition("-")[2]) for path in held]


@pytest.fixture
def flags(tmp_path: Path) -> Flags:
    return Flags(tmp_path)


def old(**trust: Any) -> dict[str, Any]:
    return {"trust": trust, "endpoints": {"sum": {"model": "fake:"}}}


def begin_change(server: Server, flags: Flags, held: int = 1) -> None:
    """Until so many processes are held while they load the new model, and the others have it warm."""
    folder = server.folder / "new"
    folder.mkdir()
    (folder / "model.py").write_text(textwrap.dedent(SLOW_IN_ALL_BUT_ONE))
    server.configure({"trust": {"pickles": [str(folder)]}, "endpoints": {"sum": {"model": str(folder)}}})
    if held == 2:
        flags.set("first")
    server.signal_reload()
    server.wait_logged("loaded python", times=2 - held)
    until(lambda: len(flags.held()) == held, f"{held} that still load")


def check_all_answer(server: Server, bias: float, requests: int = 200) -> None:
    with Load(server.port, anew(sum_of_row(bias)), clients=2, most=requests) as load:
        load.join(30).assert_clean(at_least=requests)


def test_no_process_answers_with_the_new_version_before_all_are_warm(tmp_path: Path, flags: Flags) -> None:
    """kserve/kserve#5983: traffic must not reach a new version that is not ready in every process."""
    with serving(tmp_path, old(), workers=2, environment=flags.environment) as server:
        begin_change(server, flags)
        check_all_answer(server, OLD)
        assert "snapshot 2 in force" not in server.log
        flags.set("go")
        server.wait_logged("snapshot 2 in force", times=2)
        check_all_answer(server, NEW)


def test_what_fails_in_one_process_is_in_force_in_none(tmp_path: Path, flags: Flags) -> None:
    with serving(tmp_path, old(), workers=2, environment=flags.environment) as server:
        with Load(server.port, anew(sum_of_row(OLD)), clients=2, pause=0.002) as load:
            begin_change(server, flags)
            flags.set("fail", "go")
            server.wait_logged("reload failed")
            answered = load.tally.answered
            until(lambda: load.tally.answered > answered + 100, "some load afterwards")
        load.tally.assert_clean()
        assert "it fails here only" in server.log
        assert "snapshot 2 in force" not in server.log
        server.configure({"endpoints": {"sum": {"model": "fake:", "options": {"bias": 5}}}})
        done = server.reload()
        assert done.returncode == 0, done.stderr
        assert "snapshot 3 is in force" in done.stdout, "the number of the failed one is not used again"
        check_all_answer(server, 5.0)


def test_a_process_that_is_killed_while_it_loads_no_longer_counts(tmp_path: Path, flags: Flags) -> None:
    with serving(tmp_path, old(), workers=2, environment=flags.environment) as server:
        begin_change(server, flags)
        os.kill(flags.held()[0], signal.SIGKILL)
        server.wait_logged("snapshot 2 in force")
        flags.set("go")
        server.wait_logged("snapshot 2 in force", times=2)
        check_all_answer(server, NEW)
        assert "reload failed" not in server.log


def test_a_process_that_starts_meanwhile_takes_part(tmp_path: Path, flags: Flags) -> None:
    with serving(tmp_path, old(), workers=2, environment=flags.environment) as server:
        begin_change(server, flags, held=2)
        os.kill(flags.held()[0], signal.SIGKILL)
        until(lambda: len(flags.held()) == 3, "the new process to be asked, too")
        check_all_answer(server, OLD)
        assert "snapshot 2 in force" not in server.log
        flags.set("go")
        server.wait_logged("snapshot 2 in force", times=2)
        check_all_answer(server, NEW)


def test_a_change_that_ends_the_processes_is_given_up(tmp_path: Path, flags: Flags) -> None:
    """Else each process that is started in their place would end the same way, for ever."""
    with serving(tmp_path, old(), workers=2, environment=flags.environment) as server:
        begin_change(server, flags, held=2)
        flags.set("die", "go")
        server.wait_logged("reload failed, the previous state stays in force: serving processes ended")
        server.wait_logged("snapshot 1 in force", times=4)
        check_all_answer(server, OLD)
        assert "snapshot 2 in force" not in server.log


def test_a_process_that_hangs_does_not_hold_up_the_supervisor(tmp_path: Path) -> None:
    """What is to be applied may be larger than a pipe, and a process that hangs reads nothing."""
    with serving(tmp_path, old(), workers=2, environment={"TIDEGATE_HANG_SECONDS": "3"}) as server:
        victim = server.workers()[0]
        victim.suspend()
        large = old(pickles=[f"/nowhere/{number:0200d}" for number in range(3000)])
        large["endpoints"]["sum"]["options"] = {"bias": NEW}
        server.configure(large)
        server.signal_reload()
        until(lambda: "gives no sign" in server.log, "the end of it", 20)
        server.wait_logged("snapshot 2 in force", times=2)
        check_all_answer(server, NEW)
        left = [path.name for path in tmp_path.rglob("desired-*")]
        assert not left, "what may hold keys does not stay on the disk"
