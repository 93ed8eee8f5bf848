"""Bounds on a request's head, on uvicorn's own parser with a transport that keeps what is written."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from tidegate.apps.connection import MOST_HEAD_BYTES, SILENT_SECONDS, Connection


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


async def hello(
    scope: Mapping[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


def connect() -> tuple[Connection, Transport]:
    config = uvicorn.Config(hello, http=Connection, log_config=None, lifespan="off")
    config.load()
    connection, transport = Connection(config, ServerState(), {}), Transport()
    connection.connection_made(transport)
    return connection, transport


async def answered(transport: Transport, times: int) -> None:
    async with asyncio.timeout(5):
        while transport.written.count(b"200 OK") < times:  # noqa: ASYNC110 - a transport tells nobody
            await asyncio.sleep(0)


@pytest.mark.parametrize("line", [b"X-Name: " + b"y" * 1000 + b"\r\n", b"y" * 1000], ids=["many lines", "one line"])
async def test_a_head_without_end_is_refused_at_its_bound(line: bytes) -> None:
    """encode/uvicorn's httptools has no bound: a client could make the server keep all it sends."""
    connection, transport = connect()
    connection.data_received(b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-First: ")
    sent = 0
    while not transport.closed:
        connection.data_received(line)
        sent += len(line)
        assert sent <= MOST_HEAD_BYTES + len(line)
    assert transport.written.startswith(b"HTTP/1.1 431 ")
    assert sent > MOST_HEAD_BYTES - len(line)


async def test_heads_in_pieces_and_bodies_of_any_size_pass() -> None:
    connection, transport = connect()
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"
    for number in range(1, 4):
        for byte in head:
            connection.data_received(bytes([byte]))
        for _ in range(10):
            connection.data_received(b"z" * 100_000)
        await answered(transport, number)
    assert not transport.closed


async def test_a_head_that_begins_behind_a_body_is_counted_from_there() -> None:
    connection, transport = connect()
    connection.data_received(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
    connection.data_received(b"z" * 100_000 + b"GET / HTTP/1.1\r\nHost: a\r\n")
    connection.data_received(b"\r\n")
    await answered(transport, 2)
    assert not transport.closed


@pytest.mark.parametrize("first", [b"", b"GET / HT"])
async def test_a_silent_connection_is_closed(first: bytes) -> None:
    connection, transport = connect()
    if first:
        connection.data_received(first)
    now = asyncio.get_running_loop().time()
    connection.close_if_silent(now + SILENT_SECONDS - 1)
    assert not transport.closed
    connection.close_if_silent(now + SILENT_SECONDS + 1)
    assert transport.closed


async def test_who_has_little_patience_closes_it_sooner() -> None:
    connection, transport = connect()
    now = asyncio.get_running_loop().time()
    connection.close_if_silent(now + 0.5, patience=1)
    assert not transport.closed
    connection.close_if_silent(now + 1.5, patience=1)
    assert transport.closed


async def test_a_connection_between_two_requests_is_left_to_its_own_timer() -> None:
    connection, transport = connect()
    connection.data_received(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await answered(transport, 1)
    connection.close_if_silent(asyncio.get_running_loop().time() + 10 * SILENT_SECONDS)
    assert not transport.closed
    connection.connection_lost(None)
