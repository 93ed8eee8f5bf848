"""The process that follows the store for a supervisor: what it is told, and what the one that takes its place is told."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from tidegate.apps.bridge import Bridge
from tidegate.apps.follower import InForce
from tidegate.apps.following import Following
from tidegate.apps.owner import Owner
from tidegate.config import Loaded
from tidegate.settings import Settings, Store


class FakeProcess:
    """Says that it reads, and ends when the test says so."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe = Connection(os.dup(pipe.fileno()))
        self.sentinel = -1
        self.alive = True

    def start(self) -> None:
        self.pipe.send(("reads", None))

    def is_alive(self) -> bool:
        return self.alive

    def join(self, _seconds: float | None = None) -> None:
        self.end()

    def end(self) -> None:
        self.alive = False
        self.pipe.close()

    def read(self) -> list[Any]:
        found = []
        while self.pipe.poll():
            found.append(self.pipe.recv())
        return found


class FakeContext:
    """As multiprocessing's; ``started`` are its processes."""

    Pipe = staticmethod(multiprocessing.Pipe)

    def get_start_method(self) -> str:
        return "spawn"

    def __init__(self) -> None:
        self.started: list[FakeProcess] = []

    def Process(self, *, args: tuple[Any, ...], **_: object) -> FakeProcess:  # noqa: N802
        self.started.append(FakeProcess(args[1]))
        return self.started[-1]


class Followed:
    def __init__(self, folder: Path) -> None:
        self.context = FakeContext()
        loaded = Loaded(Settings(store=Store(url="sqlite:///store.db")), {}, folder)
        bridge = Bridge(Owner(loaded, lambda: loaded), 8000)
        self.listening = socket.socket()
        self.following = Following(bridge, self.context, loaded.settings.logs, self.listening)
        self.now = 0.0
        self.following.start(self.now)

    def hear(self) -> None:
        assert list(self.following.news()) == []

    def replace(self) -> FakeProcess:
        self.context.started[-1].end()
        self.hear()
        self.now += 100.0
        self.following.start(self.now)
        self.hear()
        return self.context.started[-1]


@pytest.fixture
def followed(tmp_path: Path) -> Iterator[Followed]:
    followed = Followed(tmp_path)
    yield followed
    followed.following.stop()
    followed.listening.close()


def test_one_that_takes_anothers_place_is_told_what_is_in_force(followed: Followed) -> None:
    """Or the instance would give no sign of life until something else changes, and releases would not wait for it."""
    followed.hear()
    followed.following.report(InForce(snapshot=7, used={"a": 1.0}))
    assert followed.context.started[0].read() == [InForce(snapshot=7, used={"a": 1.0})]
    assert followed.replace().read() == [InForce(snapshot=7, used={"a": 1.0})]
    assert followed.replace().read() == [InForce(snapshot=7, used={"a": 1.0})]


def test_what_was_not_handed_over_yet_goes_to_the_next_one(followed: Followed) -> None:
    followed.hear()
    followed.following.report(InForce(snapshot=7, used={"a": 1.0}))
    followed.following.report(InForce(snapshot=8, used={"b": 2.0}))  # nobody has said that the first was read
    assert followed.replace().read() == [InForce(snapshot=8, used={"a": 1.0, "b": 2.0})]


def test_before_anything_is_in_force_there_is_nothing_to_tell(followed: Followed) -> None:
    followed.hear()
    assert followed.replace().read() == []
