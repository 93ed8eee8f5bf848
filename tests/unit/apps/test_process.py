"""What a serving process is composed of."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tidegate.apps.desired import Desired
from tidegate.apps.process import ServingProcess
from tidegate.config import Loaded
from tidegate.settings import Settings, Store


@pytest.mark.parametrize(("url", "known"), [("", True), ("sqlite:///store.db", False)])
async def test_without_a_store_no_key_is_still_to_come(tmp_path: Path, url: str, known: bool) -> None:
    """Or whoever sends a key of another server is told for ever to try again."""
    loaded = Loaded(Settings(store=Store(url=url)), {}, tmp_path)
    with socket.socket() as listening:
        process = ServingProcess(Desired(loaded), listening)
    assert process.keyring.known is known
    await process.live.close()
