"""A release as server-sent events: what happened so far, then what happens, until the release ends.

Each event has the release's revision as its id, its kind as its name, and as data ``{"event": …, "release": …}``. Between
events the release is sent as ``release`` whenever a look changed it. A comment goes out when nothing else does, so that
proxies keep the stream open. Streams end with the release, with the caller's key or session, and with the process.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated

import msgspec
from anyio.to_thread import run_sync
from fastapi import APIRouter, Header, Query, Response
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from tidegate.control.access.caller import Caller
from tidegate.control.api.calls import Operating
from tidegate.control.api.documents import documented
from tidegate.control.api.releases import visible
from tidegate.control.api.services import Services
from tidegate.control.releases.history import Line
from tidegate.control.releases.release import OPEN, Release
from tidegate.errors import Overloaded, Refused, TidegateError

router = APIRouter(prefix="/api/v1/releases", tags=["releases"])

MOST_STREAMS = 64
MOST_OF_ONE_KEY = 16
LOOK_SECONDS = 0.5
BEAT_SECONDS = 15.0
"""Also how often the caller's key or session is looked at."""


class Streams:
    """Counts open streams, in all and by key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, int] = {}

    def enter(self, key: str) -> None:
        """Raises Overloaded."""
        with self._lock:
            if sum(self._open.values()) >= MOST_STREAMS or self._open.get(key, 0) >= MOST_OF_ONE_KEY:
                raise Overloaded("too many streams are open; ask for the release instead", 5.0)
            self._open[key] = self._open.get(key, 0) + 1

    @property
    def open(self) -> int:
        with self._lock:
            return sum(self._open.values())

    def leave(self, key: str) -> None:
        with self._lock:
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]


class Happening(msgspec.Struct, frozen=True):
    event: Line | None
    release: Release | None


@router.get("/{release_id}/events", summary="Follow a release: server-sent events")
@documented("operate", media="text/event-stream", problems=(404,))
async def events(
    call: Operating,
    release_id: str,
    last_event_id: Annotated[str, Header(pattern=r"^[0-9]{0,15}$", description="Go on after this revision.")] = "",
    after: Annotated[int, Query(ge=-1, le=2**53, description="The same, for callers that cannot set headers.")] = -1,
) -> Response:
    services, caller = call.services, call.caller
    await run_sync(visible, services, caller, release_id)
    streams: Streams = call.request.app.state.streams
    streams.enter(caller.key)
    start = int(last_event_id) if last_event_id else after
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    chunks = follow(services, caller, release_id, start)
    return _Stream(chunks, lambda: streams.leave(caller.key), headers)


class _Stream(StreamingResponse):
    """Calls ``leave`` however it ends, also when the caller has gone before the first chunk."""

    def __init__(self, chunks: AsyncIterator[bytes], leave: Callable[[], None], headers: dict[str, str]) -> None:
        super().__init__(chunks, headers=headers, media_type="text/event-stream")
        self._leave = leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._leave()


async def follow(
    services: Services,
    caller: Caller,
    release_id: str,
    after: int,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncIterator[bytes]:
    """The chunks of a stream."""
    clock = services.clock
    shown: Release | None = None
    said = checked = clock.monotonic()
    yield b"retry: 1000\n\n"
    while not services.stopping.is_set():
        try:
            release, new = await run_sync(_look, services, caller, release_id, after)
        except Refused:  # the store is away: the stream stays, and goes on when it is back
            release, new = shown, []
        except TidegateError:
            return  # the release is gone from the store
        for event in new:
            after = event.revision
            yield _event(event.kind, Happening(event, release), event.revision)
        if release is not None and not new and release != shown:
            yield _event("release", Happening(None, release))
        now = clock.monotonic()
        if new or release != shown:
            said = now
        shown = release
        if release is not None and release.state not in OPEN:
            yield _event("end", Happening(None, release))
            return
        if now - checked >= BEAT_SECONDS:
            checked = now
            if not await run_sync(_lasts, services, caller):
                return
        if now - said >= BEAT_SECONDS:
            said = now
            yield b": nothing new\n\n"
        await sleep(LOOK_SECONDS)


def _look(services: Services, caller: Caller, release_id: str, after: int) -> tuple[Release | None, list[Line]]:
    release = visible(services, caller, release_id)
    return release, services.releases.events(release_id, after)


def _lasts(services: Services, caller: Caller) -> bool:
    try:
        return services.access.lasts(caller)
    except Refused:  # not known while the store is away
        return True


def _event(kind: str, data: Happening, number: int | None = None) -> bytes:
    head = f"id: {number}\n" if number is not None else ""
    return f"{head}event: {kind}\n".encode() + b"data: " + msgspec.json.encode(data) + b"\n\n"
