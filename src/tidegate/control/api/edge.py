"""The outermost layer: request ids, bounds on bodies, headers that protect browsers, the end of a call, and a last catch."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tidegate.control.api import errors as problems
from tidegate.errors import BodyTooSlow, TooLarge
from tidegate.logs import CORRELATION

BODY_BYTES = 1024 * 1024
BODY_SECONDS = 20.0
_GOOD_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""No script but the files shipped here. Style attributes are allowed: plots place their labels with them."""
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
"""On every answer that does not set its own. ``no-store``: a signed-out browser must not show old pages."""
_ALLOWED_METHODS = "GET, POST, DELETE, OPTIONS"
_ALLOWED_HEADERS = "authorization, content-type, idempotency-key, last-event-id, x-api-key"


class Edge:
    """``origins`` are those whose pages may call the API with a key; cookies are never allowed across origins."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        origins: Sequence[str] = (),
        correlation_header: str = "X-Request-Id",
        large: Mapping[str, int] = {},
    ) -> None:
        """``large``: paths whose bodies may be larger, and take as long as they go on coming."""
        self._app = app
        self._large = large
        self._origins = frozenset(origin.rstrip("/") for origin in origins if origin != "*")
        self._correlation_header = correlation_header

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get(self._correlation_header, "")
        request_id = given if _GOOD_ID.fullmatch(given) else uuid.uuid4().hex
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        own = {self._correlation_header: request_id, **self._cross_origin(headers)}
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                found = MutableHeaders(scope=message)
                found.update(own)
                for name, value in HEADERS.items():
                    found.setdefault(name, value)
            await send(message)

        token = CORRELATION.set(request_id)
        try:
            if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
                await sending({"type": "http.response.start", "status": 204, "headers": []})
                await sending({"type": "http.response.body", "body": b""})
                return
            most = self._large.get(scope["path"], 0) if scope["method"] == "POST" else 0
            _check_length(headers, most or BODY_BYTES)
            await self._app(scope, Bounded(receive, most=most), sending)
        except Exception as error:
            if begun:
                raise
            await problems.answer(error, request_id)(scope, receive, sending)
        finally:
            CORRELATION.reset(token)
            if "leave" in state:
                state["leave"]()

    def _cross_origin(self, headers: Headers) -> dict[str, str]:
        origin = headers.get("origin", "")
        found = {"Vary": "Origin"} if self._origins else {}
        if origin in self._origins:
            found |= {
                "Access-Control-Allow-Origin": origin,
                "Access-Control-Allow-Methods": _ALLOWED_METHODS,
                "Access-Control-Allow-Headers": f"{_ALLOWED_HEADERS}, {self._correlation_header.lower()}",
                "Access-Control-Expose-Headers": f"{self._correlation_header}, Location, Retry-After",
                "Access-Control-Max-Age": "600",
                "Cross-Origin-Resource-Policy": "cross-origin",
            }
        return found


class Bounded:
    """A ``receive`` that counts bytes, and in all waits no longer than ``BODY_SECONDS`` while a body is due. With ``most``
    a body of so many bytes may come, and each part of it has that time."""

    def __init__(self, receive: Receive, monotonic: Callable[[], float] = time.monotonic, most: int = 0) -> None:
        self._patient = most > 0
        self._most = most or BODY_BYTES
        self._receive = receive
        self._monotonic = monotonic
        self._end: float | None = None
        self._left = self._most
        self._complete = False

    async def __call__(self) -> Message:
        if self._complete:
            return await self._receive()
        now = self._monotonic()
        if self._end is None or self._patient:
            self._end = now + BODY_SECONDS
        try:
            message: Message = await asyncio.wait_for(self._receive(), self._end - now)
        except TimeoutError:
            raise BodyTooSlow(f"the body did not arrive within {BODY_SECONDS:g} s") from None
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise _too_large(self._most)
        self._complete = message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message


def _check_length(headers: Headers, most: int) -> None:
    length: Any = headers.get("content-length", "0")
    if length.isdigit() and int(length) > most:
        raise _too_large(most)


def _too_large(most: int) -> TooLarge:
    return TooLarge(f"the body is larger than {most} bytes")
