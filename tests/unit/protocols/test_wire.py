"""The short way to the socket and the plain one, on a real uvicorn: the same answers, byte for byte where it matters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import pytest

from tests.blocking import no_blocking
from tests.unit.protocols.server import Answer, connected, head, listening, post
from tests.unit.serving.plane import Plane, serving, times, until
from tidegate.protocols.base import Request, Response, Route
from tidegate.protocols.errors import native_error
from tidegate.protocols.http import App
from tidegate.protocols.wire import Wire, cycle_of
from tidegate.settings import Access, Limits, Server

LARGE = 4 << 20


class Site:
    def __init__(self) -> None:
        self.seen: list[Request] = []
        self.opened = asyncio.Event()
        self.port = 0

    async def echo(self, request: Request) -> Response:
        self.seen.append(request)
        return Response(
            request.body or b"-", 200, ((b"content-type", b"text/plain"), (b"x-model-variant", b"baseline"))
        )

    async def hold(self, request: Request) -> Response:
        self.seen.append(request)
        await self.opened.wait()
        return Response(request.body)

    async def large(self, request: Request) -> Response:
        return Response(b"x" * LARGE)

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/predict", self.echo, "predict", {}, native_error),
            Route("GET", "/info", self.echo, "predict", {}, native_error),
            Route("POST", "/hold", self.hold, "predict", {}, native_error),
            Route("GET", "/large", self.large, "predict", {}, native_error),
        ]


@asynccontextmanager
async def site(
    limits: Limits | None = None, http: Literal["httptools", "h11"] = "httptools"
) -> AsyncIterator[tuple[Site, Plane, App]]:
    async with serving({"baseline": times(1)}) as plane:
        made = Site()
        app = App(plane.live, plane.metrics, made.routes(), limits=limits or Limits(), access=Access(), server=Server())
        with no_blocking():
            async with listening(app, http) as made.port:
                yield made, plane, app
        assert app.in_flight == 0


def matters(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    """All but the date, and the order and case of names."""
    return answer.status, {name: value for name, value in answer.headers.items() if name != "date"}, answer.body


async def one(port: int, request: bytes, head_only: bool = False) -> Answer:
    async with connected(port) as connection:
        await connection.send(request)
        return await connection.answer(head_only)


REQUESTS = {
    "predict": post("/predict", b'{"features": [[1]]}', [("x-request-id", "id-1")]),
    "get": head("GET", "/info", [("x-request-id", "id-1")]),
    "nothing there": post("/nowhere", b"", [("x-request-id", "id-1")]),
    "another method": head("PUT", "/predict", [("x-request-id", "id-1")]),
    "empty body": post("/predict", b"", [("x-request-id", "id-1")]),
    "bad encoding": post("/predict", b"x", [("x-request-id", "id-1"), ("content-encoding", "br")]),
}


@pytest.mark.parametrize("name", REQUESTS)
async def test_both_ways_give_the_same_answer(name: str) -> None:
    """h11's request is not written to directly, so it takes the plain way."""
    async with site() as (made, _, _):
        short = await one(made.port, REQUESTS[name])
    async with site(http="h11") as (made, _, _):
        plain = await one(made.port, REQUESTS[name])
    assert matters(short) == matters(plain)
    assert short.headers.keys() == plain.headers.keys()
    assert "date" in short.headers
    assert short.headers["x-request-id"] == "id-1"


@pytest.mark.parametrize("http", ["httptools", "h11"])
async def test_a_connection_is_kept(http: Literal["httptools", "h11"]) -> None:
    async with site(http=http) as (made, _, _), connected(made.port) as connection:
        for number in range(5):
            await connection.send(post("/predict", b"%d" % number))
            assert (await connection.answer()).body == b"%d" % number


@pytest.mark.parametrize("http", ["httptools", "h11"])
async def test_pipelined_requests_are_answered_in_order(http: Literal["httptools", "h11"]) -> None:
    async with site(http=http) as (made, _, _), connected(made.port) as connection:
        await connection.send(b"".join(post("/predict", b"%d" % number) for number in range(10)) + head("GET", "/info"))
        assert [(await connection.answer()).body for _ in range(10)] == [b"%d" % number for number in range(10)]
        assert (await connection.answer()).body == b"-"


async def test_pipelined_behind_one_that_waits() -> None:
    async with site() as (made, _, _), connected(made.port) as connection:
        await connection.send(post("/hold", b"first") + post("/predict", b"second"))
        await until(lambda: len(made.seen) == 1)
        made.opened.set()
        assert [(await connection.answer()).body for _ in range(2)] == [b"first", b"second"]


@pytest.mark.parametrize("http", ["httptools", "h11"])
async def test_head_gets_the_head_only(http: Literal["httptools", "h11"]) -> None:
    async with site(http=http) as (made, _, _), connected(made.port) as connection:
        await connection.send(head("HEAD", "/info") + head("GET", "/info"))
        answer = await connection.answer(head_only=True)
        assert (answer.status, answer.headers["content-length"], answer.body) == (200, "1", b"")
        assert (await connection.answer()).body == b"-"


@pytest.mark.parametrize("value", ["close", "Close"])
async def test_a_client_that_wants_it_closed_gets_it_closed(value: str) -> None:
    async with site() as (made, _, _), connected(made.port) as connection:
        await connection.send(post("/predict", b"x", [("connection", value)]))
        answer = await connection.answer()
        assert (answer.body, answer.headers["connection"].lower()) == (b"x", "close")
        assert await connection.rest() == b""


async def test_a_client_that_names_keep_alive_is_kept() -> None:
    async with site() as (made, _, _), connected(made.port) as connection:
        for _ in range(3):
            await connection.send(post("/predict", b"x", [("connection", "keep-alive")]))
            assert "connection" not in (await connection.answer()).headers


async def test_http_1_0_is_closed_after_its_answer() -> None:
    async with site() as (made, _, _), connected(made.port) as connection:
        await connection.send(post("/predict", b"x", version="1.0"))
        answer = await connection.answer()
        assert (answer.status, answer.body) == (200, b"x")
        assert await connection.rest() == b""


async def test_draining_closes_kept_connections_after_their_next_answer() -> None:
    async with site() as (made, plane, _), connected(made.port) as connection:
        await connection.send(post("/predict", b"x"))
        assert "connection" not in (await connection.answer()).headers
        plane.live.draining = True
        await connection.send(post("/predict", b"y"))
        answer = await connection.answer()
        assert (answer.body, answer.headers["connection"]) == (b"y", "close")
        assert await connection.rest() == b""


async def test_a_chunked_body_and_one_in_pieces() -> None:
    async with site() as (made, _, _), connected(made.port) as connection:
        await connection.send(head("POST", "/predict", [("transfer-encoding", "chunked")]) + b"3\r\nabc\r\n")
        await connection.send(b"2\r\nde\r\n0\r\n\r\n")
        assert (await connection.answer()).body == b"abcde"
        await connection.send(head("POST", "/predict", [("content-length", "6")]) + b"abc")
        await connection.send(b"def")
        assert (await connection.answer()).body == b"abcdef"


async def test_a_chunked_body_without_end_is_cut_off() -> None:
    async with site(Limits(body_bytes=1000)) as (made, _, _), connected(made.port) as connection:
        await connection.send(head("POST", "/predict", [("transfer-encoding", "chunked")]))
        for _ in range(20):
            await connection.send(b"64\r\n" + b"x" * 100 + b"\r\n")
        answer = await connection.answer()
        assert (answer.status, answer.headers["connection"]) == (413, "close")


async def test_a_slow_body_is_408() -> None:
    async with site(Limits(body_seconds=0.05)) as (made, _, _), connected(made.port) as connection:
        await connection.send(head("POST", "/predict", [("content-length", "10")]) + b"abc")
        answer = await connection.answer()
        assert (answer.status, answer.headers["connection"]) == (408, "close")
        assert await connection.rest() == b""


async def test_a_client_is_told_to_go_on_before_it_sends_its_body() -> None:
    async with site() as (made, _, _), connected(made.port) as connection:
        await connection.send(head("POST", "/predict", [("content-length", "2"), ("expect", "100-continue")]))
        assert await asyncio.wait_for(connection._reader.readuntil(b"\r\n\r\n"), 5) == b"HTTP/1.1 100 Continue\r\n\r\n"
        await connection.send(b"ok")
        assert (await connection.answer()).body == b"ok"


async def test_a_client_that_leaves_is_known_to_be_gone() -> None:
    async with site() as (made, _, app):
        async with connected(made.port) as connection:
            await connection.send(post("/hold", b"x"))
            await until(lambda: len(made.seen) == 1)
            (request,) = made.seen
            assert request.gone is not None
            assert not request.gone()
            connection.leave()
            await until(request.gone)
        made.opened.set()
        await until(lambda: app.in_flight == 0)
        assert (await one(made.port, post("/predict", b"x"))).status == 200


async def test_a_client_that_leaves_during_its_body_costs_nothing() -> None:
    async with site() as (made, _, app):
        async with connected(made.port) as connection:
            await connection.send(head("POST", "/predict", [("content-length", "10")]) + b"abc")
            await until(lambda: app.in_flight == 1)
            connection.leave()
            await until(lambda: app.in_flight == 0)
        assert made.seen == []


async def test_a_reader_that_is_slow_makes_the_writer_wait() -> None:
    async with site() as (made, _, app), connected(made.port) as connection:
        await connection.send(head("GET", "/large") * 8)
        for _ in range(8):
            answer = await connection.answer()
            assert len(answer.body) == LARGE
        assert app.in_flight == 0


def test_headers_cannot_be_split() -> None:
    for pair in ((b"x-model-variant", b"a\r\nset-cookie: b"), (b"a\nb", b"c")):
        with pytest.raises(ValueError, match="line break"):
            Wire()._lines((pair,))


def test_headers_that_always_differ_leave_no_memory() -> None:
    wire = Wire()
    for number in range(1000):
        assert wire._lines(((b"x", b"%d" % number),)) == b"x: %d\r\n" % number
    assert len(wire._joined) <= 256


async def test_another_server_takes_the_plain_way() -> None:
    async def receive() -> None: ...

    assert cycle_of(receive) is None
    assert cycle_of(asyncio.Queue().get) is None
