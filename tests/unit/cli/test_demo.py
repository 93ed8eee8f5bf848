"""What the demo prepares before anything runs."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.cli.command import run
from tidegate.cli.demo import check_port, register
from tidegate.cli.demo_models import Made
from tidegate.cli.demo_traffic import Traffic
from tidegate.control.registry.files import FilesRegistry
from tidegate.errors import UserError


def test_a_folder_below_the_current_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in `make run`, which names none: run/demo."""
    monkeypatch.chdir(tmp_path)
    folder = Path("run") / "demo"
    folder.mkdir(parents=True)
    for name in ("weak", "better", "faulty"):
        (folder / name).write_text(name)
    register(folder, Made(folder / "weak", folder / "better", folder / "faulty", [], []))
    versions = FilesRegistry(folder / "registry").versions("iris")
    assert [(version.version, version.aliases) for version in versions] == [("3", ()), ("2", ()), ("1", ("champion",))]


def test_traffic_that_never_began_can_be_stopped() -> None:
    """Else a server that does not come up is left running, for its end comes after that of the traffic."""
    nothing = Made(Path(), Path(), Path(), [], [])
    Traffic(1, nothing, 1.0).stop()


@pytest.fixture
def signals() -> Iterator[None]:
    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.getsignal(getattr(signal, name)) for name in names}
    yield
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)


@pytest.mark.usefixtures("signals")
def test_the_last_port_has_the_console_below_it(tmp_path: Path) -> None:
    """The folder is somebody's, so that nothing starts."""
    (tmp_path / "letter.txt").touch()
    result = run("demo", "--port", "65535", "--folder", str(tmp_path))
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")


def test_a_busy_port_is_answered_with_one_that_there_is() -> None:
    taken = next(sock for port in range(65535, 65525, -1) if (sock := listening_at(port)) is not None)
    with taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"PORT={port - 10} make run, or tidegate demo --port {port - 10}$"):
            check_port(port, "--port", port)


def listening_at(port: int) -> socket.socket | None:
    made = socket.socket()
    try:
        made.bind(("127.0.0.1", port))
        made.listen()
    except OSError:
        made.close()
        return None
    return made
