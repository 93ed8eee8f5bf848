"""What a serving process is composed of."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tidegate.apps.desired import Desired
from tidegate.apps.process import END_SECONDS, MOST_TEXT, ServingProcess, explain
from tidegate.apps.up import STOP_SECONDS
from tidegate.config import Loaded
from tidegate.errors import ModelError
from tidegate.settings import Settings, Store


@pytest.mark.parametrize(("url", "known"), [("", True), ("sqlite:///store.db", False)])
async def test_without_a_store_no_key_is_still_to_come(tmp_path: Path, url: str, known: bool) -> None:
    """Or whoever sends a key of another server is told for ever to try again."""
    loaded = Loaded(Settings(store=Store(url=url)), {}, tmp_path)
    with socket.socket() as listening:
        process = ServingProcess(Desired(loaded), listening)
    assert process.keyring.known is known
    await process.live.close()


@pytest.mark.parametrize("error", [ModelError("x" * 100_000), ValueError("x" * 100_000)])
def test_what_is_told_of_an_error_is_bounded(error: Exception) -> None:
    """It goes through pipes, and into the store with every sign of life."""
    assert explain(error).rstrip("x") in ("", "ValueError: ")
    assert len(explain(error)) == MOST_TEXT


def test_who_keeps_both_planes_waits_longer_than_who_keeps_the_serving_processes() -> None:
    assert STOP_SECONDS > END_SECONDS
