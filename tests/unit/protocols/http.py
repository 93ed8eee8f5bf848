"""Calls a protocol's routes as the server would, without a socket."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import msgspec

from tidegate.keys import KeyFacts, KnownKey
from tidegate.protocols.base import Request, Response, Route
from tidegate.protocols.keyring import Caller


async def send(
    routes: Sequence[Route],
    method: str,
    path: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    facts: KeyFacts | None = None,
) -> Response:
    """The answer of the first route that matches, errors mapped as the route says. ``facts``: of the caller's key."""
    encoded = {name.lower().encode(): value.encode() for name, value in (headers or {}).items()}
    for route in routes:
        match = re.fullmatch(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", route.path), path)
        if match and route.method == method:
            args = {name: unquote(value) for name, value in match.groupdict().items()}
            request = Request(method, path, b"", encoded, body, args, "request-1", time.perf_counter())
            if facts is not None:
                request.caller = Caller(KnownKey(id="k", salt="", digest="", facts=facts), None)
            try:
                return await route.handler(request)
            except Exception as error:
                assert route.on_error is not None
                return route.on_error(error, request)
    return Response(b"{}", 404)


async def send_json(
    routes: Sequence[Route],
    method: str,
    path: str,
    document: Any = None,
    headers: Mapping[str, str] | None = None,
    facts: KeyFacts | None = None,
) -> tuple[int, Any]:
    body = b"" if document is None else msgspec.json.encode(document)
    response = await send(routes, method, path, body, headers, facts)
    return response.status, msgspec.json.decode(response.body)
