"""The ASGI application of the data port: finds the route, reads the body within its bounds, answers, counts.

Plain ASGI, since a framework's routing costs more than the prediction (docs/adr/0001). Errors become answers here and nowhere else.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import secrets
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import perf_counter
from typing import Any

from tidegate.errors import (
    BodyTooSlow,
    MalformedBody,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    RateLimited,
    RequestError,
    TooLarge,
    UnsupportedMedia,
)
from tidegate.logs import CORRELATION, NO_TRACE, TRACE
from tidegate.metrics import Metrics
from tidegate.protocols.access import Keys
from tidegate.protocols.base import Request, Response, Route
from tidegate.protocols.errors import mlflow_error, native_error, v2_error
from tidegate.protocols.keyring import Keyring
from tidegate.protocols.wire import Wire, cycle_of
from tidegate.serving.live import Live
from tidegate.settings import Access, Limits, Server
from tidegate.telemetry import REJECTED, REQUESTS

logger = logging.getLogger("tidegate.http")

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

LONGEST_REQUEST_ID = 128
_MATCHES = 4096
_LONGEST_MATCH = 256
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_LENGTH_DIGITS = 15
_PRINTABLE = frozenset(range(0x21, 0x7F))


class App:
    """``routes`` come from the protocols; the first that matches wins."""

    def __init__(
        self,
        live: Live,
        metrics: Metrics,
        routes: Sequence[Route],
        *,
        limits: Limits,
        access: Access,
        server: Server,
        log_requests: str = "errors",
        keyring: Keyring | None = None,
    ) -> None:
        self.in_flight = 0
        self._live = live
        self._metrics = metrics
        self._limits = limits
        self._keys = Keys(access, keyring)
        self._wire = Wire()
        self._most = server.max_connections
        self._id_header = server.correlation_header.lower().encode("latin-1")
        self._log_requests = log_requests
        self._table = _Table(routes)
        self._ids = itertools.count(1)
        self._id_prefix = secrets.token_hex(6)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        received = perf_counter()
        if scope["type"] != "http":
            await _refuse_other(scope, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request_id = self._request_id(headers.get(self._id_header))
        CORRELATION.set(request_id)
        parent = headers.get(b"traceparent")
        if parent is not None:
            _remember_trace(parent)
        elif TRACE.get() is not NO_TRACE:
            TRACE.set(NO_TRACE)
        cycle = cycle_of(receive)
        request = Request(
            scope["method"], scope["path"], scope["query_string"], headers, b"", {}, request_id, received,
            None if cycle is None else lambda: cycle.disconnected,
        )  # fmt: skip
        self.in_flight += 1
        route: Route | None = None
        try:
            route, request.args = self._table.find(request.method, request.path)
            request.caller = self._keys.admit(route.role, headers, request.args)
            if self.in_flight > self._most and route.role in ("predict", "operate"):
                raise self._overloaded(request)
            if request.method == "POST":
                request.body = await self._body(headers, receive, cycle)
            response = await route.handler(request)
        except _Left:
            return
        except Exception as error:  # noqa: BLE001 - whatever happens, the client gets an answer
            response = self._failed(error, route, request)
        finally:
            self.in_flight -= 1
            if request.caller is not None:
                request.caller.leave()
        if self._log_requests == "all":
            logger.info(
                "%s %s", request.method, request.path,
                extra={"status": response.status, "duration_ms": round((perf_counter() - received) * 1000, 3)},
            )  # fmt: skip
        line = b"%b: %b\r\n" % (self._id_header, request_id.encode("latin-1"))
        if cycle is None or self._unusual(cycle, request, response):
            await self._send(send, response, request_id.encode("latin-1"))
        else:
            self._wire.write(cycle, response.status, response.headers, response.body, line)

    def _unusual(self, cycle: Any, request: Request, response: Response) -> bool:
        """Whether an answer needs more than being written: waiting for the socket, closing it, leaving out the body."""
        return (
            not cycle.keep_alive
            or request.headers.get(b"connection", b"keep-alive").lower()
            != b"keep-alive"  # older uvicorns need to be told
            or cycle.flow.write_paused
            or request.method == "HEAD"
            or self._closes(response)
        )

    def _closes(self, response: Response) -> bool:
        return self._live.draining or response.status == 413 or response.status == 408

    async def _send(self, send: Send, response: Response, request_id: bytes) -> None:
        body = response.body
        headers = [
            (b"content-length", b"%d" % len(body)),
            (self._id_header, request_id),
            *response.headers,
        ]
        if self._closes(response):
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _request_id(self, given: bytes | None) -> str:
        if given and len(given) <= LONGEST_REQUEST_ID and _PRINTABLE.issuperset(given):
            return given.decode("ascii")
        return f"{self._id_prefix}-{next(self._ids):x}"

    async def _body(self, headers: Mapping[bytes, bytes], receive: Receive, cycle: Any) -> bytes:
        limit = self._limits.body_bytes
        declared = headers.get(b"content-length")
        if declared is not None and (not declared.isdigit() or len(declared) > _LENGTH_DIGITS or int(declared) > limit):
            raise TooLarge(f"the body has {declared[:20].decode('latin-1')} bytes, at most {limit} are taken")
        if cycle is not None and not cycle.more_body:
            if cycle.disconnected:
                raise _Left
            body = bytes(cycle.body)  # complete already: no message, no timer
        else:
            body = await self._slow_body(receive, limit)
        if len(body) > limit:
            raise TooLarge(f"the body has more than the {limit} bytes that are taken")
        encoding = headers.get(b"content-encoding")
        if encoding is None or encoding.lower() == b"identity":
            return body
        return await asyncio.to_thread(_inflated, body, encoding.lower(), limit)

    async def _slow_body(self, receive: Receive, limit: int) -> bytes:
        chunks: list[bytes] = []
        size, more = 0, True
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Left
                    chunks.append(message.get("body", b""))
                    more = message.get("more_body", False)
                    size += len(chunks[-1])
                    if size > limit:
                        raise TooLarge(f"the body has more than the {limit} bytes that are taken")
        except TimeoutError:
            raise BodyTooSlow(f"the body did not arrive within {self._limits.body_seconds:g} s") from None
        return b"".join(chunks)

    def _failed(self, error: Exception, route: Route | None, request: Request) -> Response:
        if (
            isinstance(error, RequestError)
            and route is not None
            and route.role == "predict"
            and request.method == "POST"
        ):
            self._count_invalid(request)
        if isinstance(error, RateLimited):
            self._metrics.counter(REJECTED, self._label(request), error.reason).add()
        on_error = _SHAPES[protocol_of(request.path)] if route is None else route.on_error or native_error
        response = on_error(error, request)
        if isinstance(error, _OtherMethods):
            response.headers = (*response.headers, (b"allow", error.allowed))
        return response

    def _count_invalid(self, request: Request) -> None:
        self._metrics.counter(REQUESTS, self._label(request), "", protocol_of(request.path), "invalid").add()

    def _overloaded(self, request: Request) -> Overloaded:
        self._metrics.counter(REJECTED, self._label(request), Overloaded.reason).add()
        return Overloaded("too many requests in flight on this process; try again later")

    def _label(self, request: Request) -> str:
        name = request.args.get("endpoint", request.args.get("model", "")) or self._live.snapshot.default_endpoint
        return name if name in self._live.endpoints else "other"


_SHAPES = {"native": native_error, "v2": v2_error, "mlflow": mlflow_error}
"""Errors of paths that no route has, in the words of the protocol that the path belongs to."""


def protocol_of(path: str) -> str:
    """The protocol's label, from the path."""
    if path.startswith("/v2"):
        return "v2"
    return "mlflow" if path.startswith("/invocations") else "native"


class _Table:
    """Routes by method and path. Matches of paths with names are remembered, up to a bound of both."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._exact: dict[tuple[str, str], tuple[Route, Mapping[str, str]]] = {}
        self._templates: list[tuple[tuple[str, ...], Route]] = []
        self._remembered: dict[tuple[str, str], tuple[Route, Mapping[str, str]]] = {}
        for route in routes:
            if "{" in route.path:
                self._templates.append((tuple(route.path.split("/")), route))
            else:
                self._exact.setdefault((route.method, route.path), (route, {}))

    def find(self, method: str, path: str) -> tuple[Route, Mapping[str, str]]:
        """Raises NotFound, or MethodNotAllowed when the path has other methods."""
        if method == "HEAD":
            method = "GET"
        key = (method, path)
        found = self._exact.get(key) or self._remembered.get(key)
        if found is None:
            found = self._match(method, path)
            if len(self._remembered) >= _MATCHES:
                self._remembered.clear()
            if len(path) <= _LONGEST_MATCH:
                self._remembered[key] = found
        return found

    def _match(self, method: str, path: str) -> tuple[Route, Mapping[str, str]]:
        allowed = {known for known, exact in self._exact if exact == path}
        parts = path.split("/")
        for template, route in self._templates:
            args = _fit(template, parts)
            if args is None:
                continue
            if route.method == method:
                return route, args
            allowed.add(route.method)
        if allowed:
            raise _OtherMethods(method, sorted(allowed))
        if len(path) > 2 and path.endswith("/") and path[-2] != "/":
            return self.find(method, path[:-1])  # callers of older servers write /predict/
        raise NotFound(f"nothing is at {path[:200]!r}; GET /docs lists what is")


def _fit(template: tuple[str, ...], parts: list[str]) -> dict[str, str] | None:
    if len(template) != len(parts):
        return None
    args = {}
    for wanted, part in zip(template, parts, strict=True):
        if wanted.startswith("{"):
            if not part:
                return None
            args[wanted[1:-1]] = part
        elif wanted != part:
            return None
    return args


class _OtherMethods(MethodNotAllowed):
    def __init__(self, method: str, allowed: Sequence[str]) -> None:
        names = ", ".join(allowed)
        super().__init__(f"{method[:20]} is not possible here; possible: {names}")
        self.allowed = names.encode("latin-1")


def _remember_trace(parent: bytes) -> None:
    """Of this request alone: the context may be that of an earlier one on the same connection."""
    match = _TRACEPARENT.fullmatch(parent)
    TRACE.set(NO_TRACE if match is None else (match[1].decode(), match[2].decode()))


class _Left(Exception):
    """The client went away before its request was complete."""


def _inflated(body: bytes, encoding: bytes, limit: int) -> bytes:
    """gzip and deflate, never to more than the limit."""
    if encoding not in (b"gzip", b"deflate"):
        raise UnsupportedMedia("Content-Encoding: gzip, deflate and identity are taken")
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        plain = inflate.decompress(body, limit + 1)
        complete = inflate.eof
    except zlib.error:
        raise MalformedBody("the body is not what Content-Encoding says") from None
    if len(plain) > limit:
        raise TooLarge(f"the body unpacks to more than the {limit} bytes that are taken")
    if not complete:
        raise MalformedBody("the compressed body is cut short")
    if inflate.unused_data:
        raise MalformedBody("something follows the end of the compressed body")
    return plain


async def _refuse_other(scope: Scope, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1003})
