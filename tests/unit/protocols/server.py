"""Two ways to ask an ``App``: as any ASGI server would, and through a real uvicorn on a free port."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

import msgspec
import uvicorn

from tidegate.protocols.http import App

Headers = Sequence[tuple[str, str]]


class Event(enum.Enum):
    STALLS = enum.auto()
    LEAVES = enum.auto()


STALLS, LEAVES = Event.STALLS, Event.LEAVES
"""In a body's place: nothing more comes; the client closes the connection."""


class Answer(msgspec.Struct, frozen=True):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        document: dict[str, Any] = msgspec.json.decode(self.body)
        return document


async def call(
    app: App, method: str, path: str, headers: Headers = (), chunks: Sequence[bytes | Event] = (b"",)
) -> Answer | None:
    """One request by plain ASGI, its body in chunks. None when there is no answer."""
    left = list(chunks)
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        chunk = left.pop(0) if left else STALLS
        if chunk is STALLS:
            await asyncio.Event().wait()
        if chunk is LEAVES:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunk, "more_body": bool(left)}

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": encoded}
    await app(scope, receive, send)
    if not sent:
        return None
    start, *rest = sent
    names = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
    return Answer(start["status"], names, b"".join(message["body"] for message in rest))


class _Server(uvicorn.Server):
    """Leaves signals alone, and stops at once instead of at its next tick."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stopping = asyncio.Event()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self.stopping.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def listening(app: App, http: Literal["httptools", "h11"] = "httptools") -> AsyncIterator[int]:
    """The port of a uvicorn that serves the app in this event loop."""
    config = uvicorn.Config(
        app, http=http, loop="none", ws="none", lifespan="off", access_log=False, log_config=None, server_header=False
    )
    server = _Server(config)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        serving = asyncio.create_task(server.serve(sockets=[taken]))
        try:
            yield taken.getsockname()[1]
        finally:
            server.stopping.set()
            await serving


class Connection:
    """A client that sees every byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self, head_only: bool = False) -> Answer:
        head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 10)
        first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        assert first.startswith("HTTP/1.1 "), first  # nothing is left of the answer before
        headers = {}
        for line in lines:
            name, _, value = line.partition(": ")
            assert name not in headers, f"{name} was sent twice"
            headers[name.lower()] = value
        size = 0 if head_only else int(headers["content-length"])
        body = await asyncio.wait_for(self._reader.readexactly(size), 10)
        return Answer(int(first.split(" ")[1]), headers, body)

    async def rest(self) -> bytes:
        """All until the server closes the connection."""
        return await asyncio.wait_for(self._reader.read(), 10)

    def leave(self) -> None:
        self._writer.transport.abort()


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def head(method: str, path: str, headers: Headers = (), version: str = "1.1") -> bytes:
    lines = [f"{method} {path} HTTP/{version}", "host: here", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def post(path: str, body: bytes, headers: Headers = (), version: str = "1.1") -> bytes:
    return head("POST", path, [*headers, ("content-length", str(len(body)))], version) + body
