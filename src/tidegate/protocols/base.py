"""What an HTTP protocol is made of: routes, whose handlers map a request to a response."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    from tidegate.protocols.keyring import Caller

Role = Literal["none", "predict", "operate", "metrics"]


class Request:
    """One HTTP request, its body complete. ``headers`` keys are lower-case; the last of a repeated name wins."""

    __slots__ = ("args", "body", "caller", "gone", "headers", "method", "path", "query", "received", "request_id")

    def __init__(
        self,
        method: str,
        path: str,
        query: bytes,
        headers: Mapping[bytes, bytes],
        body: bytes,
        args: Mapping[str, str],
        request_id: str,
        received: float,
        gone: Callable[[], bool] | None = None,
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.body = body
        self.args = args
        """Values of the route's ``{names}``."""
        self.request_id = request_id
        self.received = received
        """``time.perf_counter()`` when the request's head was read."""
        self.gone = gone
        """Tells whether the client has closed the connection."""
        self.caller: Caller | None = None
        """Whose key it came with, if it is one that has limits."""


class Response:
    __slots__ = ("body", "headers", "status")

    def __init__(self, body: bytes, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        self.body = body
        self.status = status
        self.headers = headers
        """All but content-length and the request id, which the server adds; content-type is the handler's."""


Handler = Callable[[Request], Awaitable[Response]]


class Route(msgspec.Struct, frozen=True):
    """``path`` may hold ``{name}`` segments. ``document`` is the operation's OpenAPI object."""

    method: str
    path: str
    handler: Handler
    role: Role
    document: Mapping[str, Any] = {}
    on_error: Callable[[BaseException, Request], Response] | None = None
    """Maps an exception to this protocol's error answer; total: also for exceptions nobody foresaw."""
