"""The short way from an answer to the socket, where the server is uvicorn with httptools.

ASGI's two messages cost a prediction's worth of time: each header is checked and lowered one by one, and head and body
are two writes, so two system calls. ``write`` sends both at once. Elsewhere, and for anything unusual, ``App`` speaks
plain ASGI; docs/adr/0007 has the measurements.
"""

from __future__ import annotations

import http
from typing import Any

Headers = tuple[tuple[bytes, bytes], ...]

_STATUS = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode("ascii")) for status in http.HTTPStatus
}
_ATTRIBUTES = (
    "body", "chunked_encoding", "default_headers", "disconnected", "flow", "keep_alive", "message_event", "more_body",
    "on_response", "response_complete", "response_started", "transport",
)  # fmt: skip
"""What ``write`` and ``App`` use; h11's request, whose parser must hear of every answer, has no ``chunked_encoding``."""

_KEPT = 256


class Wire:
    """Remembers the bytes of headers that are sent again and again."""

    def __init__(self) -> None:
        self._joined: dict[Headers, bytes] = {}
        self._defaults: Any = None
        self._default_bytes = b""

    def write(self, cycle: Any, status: int, headers: Headers, body: bytes, request_id: bytes) -> None:
        """``cycle`` is uvicorn's request; ``request_id`` is a complete header line."""
        if cycle.disconnected:
            return
        defaults = cycle.default_headers
        if defaults is not self._defaults:  # uvicorn makes a new list when the date changes
            self._defaults = defaults
            self._default_bytes = _join(tuple(defaults))
        cycle.response_started = True
        cycle.transport.write(
            b"%b%b%b%bcontent-length: %d\r\n\r\n%b"
            % (_STATUS[status], self._default_bytes, self._lines(headers), request_id, len(body), body)
        )
        cycle.response_complete = True
        cycle.message_event.set()
        cycle.on_response()

    def _lines(self, headers: Headers) -> bytes:
        lines = self._joined.get(headers)
        if lines is None:
            if len(self._joined) >= _KEPT:
                self._joined.clear()
            lines = self._joined[headers] = _join(headers)
        return lines


def cycle_of(receive: Any) -> Any:
    """uvicorn's request behind ASGI's ``receive``, if it is as we know it; None for any other server."""
    cycle = getattr(receive, "__self__", None)
    kind = type(cycle)
    known = _known.get(kind)
    if known is None:
        known = _known[kind] = all(hasattr(cycle, name) for name in _ATTRIBUTES)
    return cycle if known else None


_known: dict[type, bool] = {}


def _join(headers: Headers) -> bytes:
    for name, value in headers:
        if b"\r" in name + value or b"\n" in name + value:
            raise ValueError(f"header {name!r} holds a line break")
    return b"".join([b"%b: %b\r\n" % pair for pair in headers])
