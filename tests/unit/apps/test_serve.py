"""What ``tidegate serve`` is given: names, ports and hosts."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest

from tidegate.apps.serve import bind
from tidegate.cli.serve import finder, name_of
from tidegate.errors import ConfigError


def test_an_empty_host_does_not_mean_every_address() -> None:
    """An unset variable in ``--host "$HOST"`` must not open the server to the network."""
    with pytest.raises(ConfigError, match="host is empty"):
        bind("", 0, "server")


def test_a_port_that_is_taken_names_the_setting() -> None:
    """``tidegate up`` has no --port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"port {port} is in use on 127.0.0.1; .*control\.port"):
            bind("127.0.0.1", port, "control")


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("./models/forest.joblib", "forest"),
        ("models:/iris@champion", "iris"),
        ("models:/iris/3", "iris"),
        ("a b.onnx", "a-b"),
        ("fake:x", "fake"),
        ("", "model"),
        ("x" * 300, "x" * 300),
    ],
)
def test_a_name_for_every_path(model: str, name: str) -> None:
    assert name_of(model) == name


def test_settings_are_found_again_after_a_model_changed_the_folder(tmp_path: Path) -> None:
    """A model.py with ``os.chdir`` must not end every later reload."""
    (tmp_path / "tidegate.yaml").write_text("")
    (tmp_path / "elsewhere").mkdir()
    with contextlib.chdir(tmp_path):
        find = finder(None)
        assert find() == (Path("tidegate.yaml"), None)
        (tmp_path / ".env").write_text("")
        assert find() == (Path("tidegate.yaml"), Path(".env"))
        with contextlib.chdir("elsewhere"):
            assert find() == (tmp_path / "tidegate.yaml", None)
