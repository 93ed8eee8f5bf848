"""The application of the data port: routes, ids, bodies, keys, bounds; by plain ASGI, as any server would call it."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import Context
from time import perf_counter
from typing import Any

import pytest

from tests.blocking import no_blocking
from tests.unit.protocols.server import LEAVES, STALLS, Answer, Headers, call
from tests.unit.serving.plane import Plane, serving, times
from tidegate.errors import InvalidInput
from tidegate.keys import KeyFacts, KnownKey, compose, digest, new_key
from tidegate.logs import CORRELATION, TRACE
from tidegate.protocols.base import Request, Response, Route
from tidegate.protocols.errors import native_error
from tidegate.protocols.http import LONGEST_REQUEST_ID, App
from tidegate.protocols.keyring import Keyring
from tidegate.settings import Access, Limits, Server
from tidegate.telemetry import REJECTED, REQUESTS


class Routes:
    """Echoes what it gets, and can hold, refuse and break."""

    def __init__(self) -> None:
        self.seen: list[Request] = []
        self.contexts: list[tuple[str, tuple[str, str]]] = []
        self.opened = asyncio.Event()
        self.entered = asyncio.Event()

    async def echo(self, request: Request) -> Response:
        self.seen.append(request)
        self.contexts.append((CORRELATION.get(), TRACE.get()))
        return Response(request.body or b"-", 200, ((b"content-type", b"text/plain"),))

    async def hold(self, request: Request) -> Response:
        self.entered.set()
        await self.opened.wait()
        return Response(b"held")

    async def breaks(self, request: Request) -> Response:
        raise ZeroDivisionError("secret /etc/path")

    async def refuses(self, request: Request) -> Response:
        raise InvalidInput("row 3: no")

    def list(self) -> list[Route]:
        return [
            Route("POST", "/predict", self.echo, "predict", {}, native_error),
            Route("POST", "/predict/{endpoint}", self.echo, "predict", {}, native_error),
            Route("GET", "/predict/{endpoint}", self.echo, "predict", {}, native_error),
            Route("GET", "/info", self.echo, "predict", {}, native_error),
            Route("GET", "/healthz", self.echo, "none", {}, native_error),
            Route("GET", "/metrics", self.echo, "metrics", {}, native_error),
            Route("POST", "/operate", self.echo, "operate", {}, native_error),
            Route("POST", "/hold", self.hold, "predict", {}, native_error),
            Route("POST", "/breaks", self.breaks, "predict", {}),
            Route("POST", "/v2/models/{model}/infer", self.refuses, "predict", {}, native_error),
            Route("POST", "/invocations", self.refuses, "predict", {}, native_error),
        ]


class Run:
    def __init__(self, app: App, plane: Plane, routes: Routes) -> None:
        self.app = app
        self.plane = plane
        self.routes = routes

    async def __call__(self, method: str, path: str, headers: Headers = (), *chunks: bytes) -> Answer:
        answer = await call(self.app, method, path, headers, chunks or (b"",))
        assert answer is not None
        return answer


@asynccontextmanager
async def running(
    limits: Limits | None = None, access: Access | None = None, server: Server | None = None, **options: Any
) -> AsyncIterator[Run]:
    async with serving({"baseline": times(1)}) as plane:
        routes = Routes()
        app = App(
            plane.live, plane.metrics, routes.list(),
            limits=limits or Limits(), access=access or Access(), server=server or Server(), **options,
        )  # fmt: skip
        with no_blocking():
            yield Run(app, plane, routes)
        assert app.in_flight == 0


async def test_ids_are_made_and_differ() -> None:
    async with running() as ask:
        ids = {(await ask("GET", "/healthz")).headers["x-request-id"] for _ in range(50)}
        assert len(ids) == 50
        assert {request.request_id for request in ask.routes.seen} == ids
        assert [correlation for correlation, _ in ask.routes.contexts] == [r.request_id for r in ask.routes.seen]


@pytest.mark.parametrize("given", ["abc", "a" * LONGEST_REQUEST_ID, "!~{}"])
async def test_a_callers_id_is_echoed(given: str) -> None:
    async with running() as ask:
        assert (await ask("POST", "/predict", [("X-Request-Id", given)])).headers["x-request-id"] == given
        assert (await ask("GET", "/nowhere", [("X-Request-Id", given)])).problem["request_id"] == given


@pytest.mark.parametrize(
    "given", ["", "a" * (LONGEST_REQUEST_ID + 1), "a b", "a\r\nset-cookie: x", "a\x00", "é", "\x7f"]
)
async def test_a_hostile_id_is_replaced(given: str) -> None:
    async with running() as ask:
        answer = await ask("GET", "/healthz", [("X-Request-Id", given)])
        assert answer.headers["x-request-id"] != given
        assert len(answer.headers["x-request-id"]) < 40


async def test_the_ids_header_is_configurable() -> None:
    async with running(server=Server(correlation_header="X-Correlation-ID")) as ask:
        answer = await ask("GET", "/healthz", [("x-correlation-id", "c-1")])
        assert answer.headers["x-correlation-id"] == "c-1"
        assert "x-request-id" not in answer.headers


async def test_only_a_well_formed_trace_reaches_the_logs() -> None:
    async with running() as ask:
        await ask("GET", "/healthz", [("traceparent", f"00-{'a' * 32}-{'b' * 16}-01")])
        hostile = f"00-{' reason=none level=error x' + 'a' * 6}-{'b' * 16}-01"
        await asyncio.create_task(ask("GET", "/healthz", [("traceparent", hostile)]), context=Context())
        assert [trace for _, trace in ask.routes.contexts] == [("a" * 32, "b" * 16), ("", "")]


async def test_a_trace_ends_with_its_request() -> None:
    """python/cpython#140947: a connection's later requests may start in the context of an earlier one."""
    async with running() as ask:
        for headers in ([("traceparent", f"00-{'a' * 32}-{'b' * 16}-01")], [], [("traceparent", "nonsense")]):
            await ask("GET", "/healthz", headers)
        assert [trace for _, trace in ask.routes.contexts] == [("a" * 32, "b" * 16), ("", ""), ("", "")]


async def test_nothing_is_there() -> None:
    async with running() as ask:
        for path in ("/", "/predictx", "/predict//", "//", "/predict/a/b", "/v2/models//infer", "/x" * 3000):
            answer = await ask("POST", path)
            assert answer.status == 404
            shape = "application/json" if path.startswith("/v2") else "application/problem+json"
            assert answer.headers["content-type"] == shape
            assert len(answer.body) < 1000
        assert "nothing is at" in json.loads((await ask("POST", "/v2/models//infer")).body)["error"]


async def test_a_slash_at_the_end_changes_nothing() -> None:
    async with running() as ask:
        for path in ("/healthz", "/predict", "/predict/a"):
            method = "GET" if path == "/healthz" else "POST"
            with_slash, without = await ask(method, f"{path}/"), await ask(method, path)
            assert (with_slash.status, with_slash.body) == (without.status, without.body)
            assert with_slash.status != 404


async def test_another_method_is_405_with_those_that_are_allowed() -> None:
    async with running() as ask:
        answer = await ask("DELETE", "/predict")
        assert (answer.status, answer.headers["allow"]) == (405, "POST")
        assert answer.problem["status"] == 405
        assert (await ask("PUT", "/predict/iris")).headers["allow"] == "GET, POST"
        assert (await ask("GET", "/predict")).status == 405
        assert (await ask("HEAD", "/predict")).status == 405
        assert (await ask("X" * 5000, "/predict")).status == 405


async def test_names_in_paths_are_arguments() -> None:
    async with running() as ask:
        for _ in range(2):  # found, then remembered
            await ask("POST", "/predict/iris")
            assert ask.routes.seen[-1].args == {"endpoint": "iris"}
        await ask("POST", "/predict/other")
        assert ask.routes.seen[-1].args == {"endpoint": "other"}


async def test_many_paths_leave_no_memory() -> None:
    async with running() as ask:
        for number in range(5000):
            await ask("POST", f"/predict/{number}")
        assert len(ask.app._table._remembered) <= 4096
        await ask("POST", "/predict/0")
        assert ask.routes.seen[-1].args == {"endpoint": "0"}


async def test_long_paths_are_not_remembered() -> None:
    async with running() as ask:
        await ask("POST", "/predict/" + "x" * 60_000)
        assert len(ask.routes.seen[-1].args["endpoint"]) == 60_000
        assert not ask.app._table._remembered


async def test_a_body_in_pieces_is_whole() -> None:
    async with running() as ask:
        assert (await ask("POST", "/predict", (), b"ab", b"", b"cd")).body == b"abcd"


async def test_a_body_that_says_it_is_too_large_is_not_read() -> None:
    async with running(Limits(body_bytes=10)) as ask:
        for length in ("11", "9" * 5000, "-1", "abc", "1_0"):
            answer = await call(ask.app, "POST", "/predict", [("content-length", length)], ())
            assert answer is not None
            assert answer.status == 413
            assert answer.headers["connection"] == "close"
        assert (await ask("POST", "/predict", [("content-length", "10")], b"x" * 10)).status == 200


async def test_a_body_without_end_stops_at_the_limit() -> None:
    async with running(Limits(body_bytes=100)) as ask:
        answer = await ask("POST", "/predict", (), *[b"x" * 30] * 1000)
        assert answer.status == 413
        assert "more than the 100 bytes" in answer.problem["detail"]


async def test_a_body_that_does_not_come_is_408_in_time() -> None:
    async with running(Limits(body_seconds=0.03)) as ask:
        began = perf_counter()
        answer = await call(ask.app, "POST", "/predict", (), (b"a", STALLS))
        assert perf_counter() - began < 10  # the body itself never comes
        assert answer is not None
        assert (answer.status, answer.headers["connection"]) == (408, "close")
        assert "within 0.03 s" in answer.problem["detail"]


async def test_a_client_that_leaves_during_its_body_gets_no_answer() -> None:
    async with running() as ask:
        assert await call(ask.app, "POST", "/predict", (), (b"a", LEAVES)) is None
        assert ask.routes.seen == []


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "GZip"])
async def test_compressed_bodies(encoding: str) -> None:
    packed = zlib.compress(b"hello" * 10) if encoding == "deflate" else gzip.compress(b"hello" * 10)
    async with running(Limits(body_bytes=200)) as ask:
        assert (await ask("POST", "/predict", [("content-encoding", encoding)], packed)).body == b"hello" * 10
        assert (await ask("POST", "/predict", [("content-encoding", "identity")], b"x")).body == b"x"


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_bomb_is_not_unpacked(encoding: str) -> None:
    zeros = bytes(50 << 20)
    packed = gzip.compress(zeros, 1) if encoding == "gzip" else zlib.compress(zeros, 1)
    async with running(Limits(body_bytes=1 << 20)) as ask:
        tracemalloc.start()
        answer = await ask("POST", "/predict", [("content-encoding", encoding)], packed)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8 << 20
        assert answer.status == 413
        assert "unpacks to more" in answer.problem["detail"]


async def test_broken_compressed_bodies_are_told_apart() -> None:
    whole = gzip.compress(b"hello")
    async with running() as ask:
        header = [("content-encoding", "gzip")]
        for body, words in (
            (b"plain", "not what Content-Encoding says"),
            (whole[:-9], "cut short"),
            (b"", "cut short"),
            (whole + b"more", "follows the end"),
            (whole + whole, "follows the end"),
        ):
            answer = await ask("POST", "/predict", header, body)
            assert (answer.status, words in answer.problem["detail"]) == (400, True), answer.body
        assert (await ask("POST", "/predict", [("content-encoding", "br")], b"x")).status == 415


async def test_keys_and_roles() -> None:
    access = Access(predict_key="p-key", operate_key="o-key", metrics_open=False)
    async with running(access=access) as ask:

        async def status(method: str, path: str, key: str = "") -> int:
            return (await ask(method, path, [("x-api-key", key)] if key else ())).status

        assert await status("GET", "/healthz") == 200
        assert [await status("POST", "/predict", key) for key in ("", "bad", "p-key", "o-key")] == [401, 401, 200, 200]
        assert [await status("POST", "/operate", key) for key in ("", "bad", "p-key", "o-key")] == [401, 401, 403, 200]
        assert [await status("GET", "/metrics", key) for key in ("", "p-key")] == [401, 200]
        assert (await ask("GET", "/info", [("authorization", "Bearer p-key")])).status == 200
        refused = await ask("POST", "/predict")
        assert refused.headers["www-authenticate"] == "Bearer"
        assert b"p-key" not in refused.body


async def test_a_key_is_checked_before_the_body_is_read() -> None:
    async with running(access=Access(predict_key="k")) as ask:
        answer = await call(ask.app, "POST", "/predict", (), ())
        assert answer is not None
        assert answer.status == 401


async def test_keys_of_the_store_are_held_to_their_endpoints_and_limits() -> None:
    """SeldonIO/MLServer#1042: limits per caller, and a refusal that says when to come again."""
    id_, secret, salt = new_key()
    facts = KeyFacts(name="k", endpoints=("e",), requests_per_minute=4, concurrency=1)
    keyring = Keyring()
    keyring.update((KnownKey(id=id_, salt=salt, digest=digest(salt, secret), facts=facts),))
    key = [("x-api-key", compose(id_, secret))]
    async with running(access=Access(keys_required=True), keyring=keyring) as ask:
        assert (await ask("POST", "/predict/e")).status == 401
        assert (await ask("POST", "/predict/other", key)).status == 403
        held = asyncio.ensure_future(ask("POST", "/hold", key))
        await ask.routes.entered.wait()
        refused = await ask("POST", "/predict/e", key)
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert "1 calls in flight" in refused.problem["detail"]
        ask.routes.opened.set()
        assert (await held).status == 200
        assert [(await ask("POST", path, key)).status for path in ("/predict/e", "/breaks", "/predict")] == [
            200,
            500,
            200,
        ]
        refused = await ask("POST", "/predict/e", key)
        assert (refused.status, refused.problem["type"].rpartition("/")[2]) == (429, "rate-limited")
        assert 10 < int(refused.headers["retry-after"]) <= 15
        assert ask.plane.count(REJECTED, "e", "rate_limited") == 2


async def test_answers_close_the_connection_while_draining() -> None:
    async with running() as ask:
        assert "connection" not in (await ask("GET", "/healthz")).headers
        ask.plane.live.draining = True
        assert (await ask("GET", "/healthz")).headers["connection"] == "close"


async def test_more_in_flight_than_the_bound_is_refused_but_health_answers() -> None:
    async with running(server=Server(max_connections=2)) as ask:
        held = [asyncio.create_task(ask("POST", "/hold")) for _ in range(2)]
        await ask.routes.entered.wait()
        await asyncio.sleep(0)
        answer = await ask("POST", "/predict/e")
        assert answer.status == 503
        assert answer.headers["retry-after"]
        assert "in flight" in answer.problem["detail"]
        assert (await ask("GET", "/healthz")).status == 200  # or an orchestrator would kill what is merely busy
        assert (await ask("GET", "/metrics")).status == 200
        ask.routes.opened.set()
        assert [(await one).status for one in held] == [200, 200]
        assert (await ask("POST", "/predict")).status == 200
        assert ask.plane.counts(REJECTED) == {("overloaded",): 1}


async def test_whatever_is_raised_the_client_gets_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as ask:
        with caplog.at_level(logging.ERROR):
            answer = await ask("POST", "/breaks")
        assert answer.status == 500
        assert b"secret" not in answer.body
        assert b"Zero" not in answer.body
        assert "ZeroDivisionError" in caplog.text


async def test_invalid_requests_are_counted_once_under_bounded_names() -> None:
    async with running(Limits(body_bytes=10)) as ask:
        await ask("POST", "/v2/models/e/infer")
        await ask("POST", "/v2/models/hostile-name/infer")
        await ask("POST", "/invocations")
        await ask("POST", "/predict/e", (), b"x" * 11)
        await ask("GET", "/predict/e")
        await ask("POST", "/nowhere")
        read = {key[1:]: cells[0] for key, cells in ask.plane.metrics.read().items() if key[0] == REQUESTS.name}
        assert read == {
            ("e", "", "v2", "invalid"): 1,
            ("other", "", "v2", "invalid"): 1,
            ("e", "", "mlflow", "invalid"): 1,
            ("e", "", "native", "invalid"): 1,
        }


async def test_requests_are_logged_when_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    async with running(log_requests="all") as ask:
        with caplog.at_level(logging.INFO, "tidegate.http"):
            await ask("POST", "/predict", (), b"a secret body")
            await ask("GET", "/nowhere")
    told = [
        (record.getMessage(), vars(record)["status"]) for record in caplog.records if record.name == "tidegate.http"
    ]
    assert told == [("POST /predict", 200), ("GET /nowhere", 404)]
    assert "secret" not in caplog.text


async def test_a_handler_that_is_cancelled_leaves_nothing_in_flight() -> None:
    async with running() as ask:
        held = asyncio.create_task(ask("POST", "/hold"))
        await ask.routes.entered.wait()
        held.cancel()
        with pytest.raises(asyncio.CancelledError):
            await held


async def test_other_scopes_are_refused() -> None:
    async with running() as ask:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> dict[str, Any]:
            raise AssertionError

        await ask.app({"type": "websocket", "headers": []}, receive, send)
        await ask.app({"type": "lifespan"}, receive, send)
        assert sent == [{"type": "websocket.close", "code": 1003}]
