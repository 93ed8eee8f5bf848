from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import msgspec
import pytest

from tests.unit.control.api.plane import Plane, started
from tidegate.control.access.caller import Caller
from tidegate.control.api import stream
from tidegate.control.api.stream import BEAT_SECONDS, Streams, follow
from tidegate.errors import Overloaded


def parsed(text: str) -> list[dict[str, Any]]:
    """The events of a stream; comments have no data."""
    found = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        if "data" in fields:
            found.append(fields | {"data": msgspec.json.decode(fields["data"])})
    return found


def url(release: str) -> str:
    return f"/api/v1/releases/{release}/events"


def test_the_stream_tells_everything_and_ends_with_the_release(plane: Plane) -> None:
    headers = plane.headers()
    release = started(plane, headers)
    plane.client.post(f"/api/v1/releases/{release}/pause", headers=headers)
    plane.client.post(f"/api/v1/releases/{release}/rollback", headers=headers)
    answer = plane.client.get(url(release), headers=headers)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = parsed(answer.text)
    assert [(event.get("id"), event["event"]) for event in events] == [
        ("0", "started"), ("1", "paused"), ("2", "rolled_back"), (None, "end"),
    ]  # fmt: skip
    assert events[-1]["data"]["release"]["state"] == "rolled_back"
    resumed = parsed(plane.client.get(url(release), headers=headers | {"Last-Event-ID": "1"}).text)
    assert [event["event"] for event in resumed] == ["rolled_back", "end"]
    assert plane.app.state.streams.open == 0


def test_a_stream_of_what_is_not_there(plane: Plane) -> None:
    headers = plane.headers()
    assert plane.client.get(url("nothing"), headers=headers).status_code == 404
    assert plane.client.get(url(started(plane, headers)), headers={"X-API-Key": "x"}).status_code == 401


class Following:
    """One stream, pulled by hand; ``waits`` are what happens each time that it has nothing to say."""

    def __init__(self, plane: Plane, release: str, caller: Caller, waits: list[Any]) -> None:
        async def wait(seconds: float) -> None:
            if not waits:
                plane.services.stopping.set()
                return
            act = waits.pop(0)
            act()

        self.chunks: AsyncIterator[bytes] = follow(plane.services, caller, release, -1, wait)

    async def text(self) -> str:
        return b"".join([chunk async for chunk in self.chunks]).decode()


async def test_a_stream_goes_on_while_the_release_does_and_ends_with_the_process(plane: Plane) -> None:
    headers = plane.headers()
    release = started(plane, headers)
    caller = plane.access.by_key(headers["X-API-Key"], "")
    releases = plane.services.releases
    following = Following(plane, release, caller, [lambda: releases.pause(release, who="ada", reason=""), lambda: None])
    assert [event["event"] for event in parsed(await following.text())] == ["started", "paused"]


async def test_a_stream_reads_only_what_is_new(plane: Plane) -> None:
    headers = plane.headers()
    release = started(plane, headers)
    caller = plane.access.by_key(headers["X-API-Key"], "")
    releases = plane.services.releases
    waits: list[Any] = [lambda: releases.pause(release, who="ada", reason=""), lambda: None]
    await Following(plane, release, caller, waits).text()
    assert cast(Any, releases).asked_after == [-1, 0, 1]


async def test_a_silent_stream_beats_until_the_key_is_revoked(plane: Plane) -> None:
    headers = plane.headers()
    release = started(plane, headers)
    caller = plane.access.by_key(headers["X-API-Key"], "")

    def later() -> None:
        plane.clock.advance(BEAT_SECONDS)

    def revoked() -> None:
        plane.access.keys.revoke(caller.key, who="test")
        plane.clock.advance(BEAT_SECONDS)

    never: list[Any] = [later, later, revoked, lambda: pytest.fail("the stream went on")]
    text = await Following(plane, release, caller, never).text()
    assert text.count(": nothing new") == 2


async def test_a_lively_stream_ends_with_the_key_too(plane: Plane) -> None:
    headers = plane.headers()
    release = started(plane, headers)
    caller = plane.access.by_key(headers["X-API-Key"], "")
    releases = plane.services.releases

    def lively() -> None:
        releases.pause(release, who="ada", reason="")
        plane.access.keys.revoke(caller.key, who="test")
        plane.clock.advance(BEAT_SECONDS)

    never: list[Any] = [lively, lambda: pytest.fail("the stream went on")]
    assert "paused" in await Following(plane, release, caller, never).text()


async def test_a_stream_outlives_a_store_that_is_away(plane: Plane) -> None:
    headers = plane.headers()
    release = started(plane, headers)
    caller = plane.access.by_key(headers["X-API-Key"], "")
    file = plane.folder / "store.db"
    aside = plane.folder / "aside.db"

    def away() -> None:
        plane.store.engine.dispose()
        file.rename(aside)
        file.mkdir()

    def back() -> None:
        plane.store.engine.dispose()
        file.rmdir()
        aside.rename(file)

    def pause() -> None:
        plane.services.releases.pause(release, who="ada", reason="")

    text = await Following(plane, release, caller, [away, back, pause]).text()
    assert [event["event"] for event in parsed(text)] == ["started", "paused"]


def test_streams_are_bounded_in_all_and_by_key() -> None:
    streams = Streams()
    for _ in range(stream.MOST_OF_ONE_KEY):
        streams.enter("a")
    with pytest.raises(Overloaded):
        streams.enter("a")
    for number in range(stream.MOST_STREAMS - stream.MOST_OF_ONE_KEY):
        streams.enter(f"key {number}")
    with pytest.raises(Overloaded):
        streams.enter("b")
    streams.leave("a")
    streams.enter("b")
