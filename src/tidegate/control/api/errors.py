"""Errors of the control API: RFC 9457 problems, in the same shape as the data plane's, from one table."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from tidegate import errors
from tidegate.problems import nearest, places_of, problem, retry_seconds

logger = logging.getLogger("tidegate.control")

PROBLEM = "application/problem+json"
INTERNAL = "something failed here; the operator finds the cause in the log under this request id"


class Kind(msgspec.Struct, frozen=True):
    status: int
    slug: str
    title: str


KINDS: Mapping[type[BaseException], Kind] = {
    errors.RequestError: Kind(400, "bad-request", "The request cannot be answered"),
    errors.MalformedBody: Kind(400, "malformed-body", "The body cannot be decoded"),
    errors.InvalidInput: Kind(422, "invalid-input", "The input is not valid"),
    errors.TooLarge: Kind(413, "too-large", "The request is too large"),
    errors.UnsupportedMedia: Kind(415, "unsupported-media-type", "The media type is not supported"),
    errors.BodyTooSlow: Kind(408, "body-too-slow", "The body did not arrive in time"),
    errors.NotFound: Kind(404, "not-found", "There is no such thing here"),
    errors.MethodNotAllowed: Kind(405, "method-not-allowed", "This is not how to call it"),
    errors.NotAuthenticated: Kind(401, "not-authenticated", "A valid key is needed"),
    errors.NotAllowed: Kind(403, "not-allowed", "The key does not allow this"),
    errors.Unsupported: Kind(400, "unsupported", "This is not offered"),
    errors.Refused: Kind(503, "refused", "Not now"),
    errors.RateLimited: Kind(429, "rate-limited", "Too many requests from this caller"),
    errors.StoreAway: Kind(503, "store-away", "The store cannot be reached"),
    errors.NotReady: Kind(503, "not-ready", "Not ready"),
    errors.UserError: Kind(409, "conflict", "This is not possible now"),
    errors.ConfigError: Kind(422, "invalid-input", "The input is not valid"),
    errors.ModelError: Kind(422, "model", "The model cannot be used"),
    errors.MissingExtra: Kind(503, "missing-part", "A part that this needs is not installed"),
    BaseException: Kind(500, "internal", "Something went wrong here"),
}
"""By the nearest class. What stands in the way now (UserError, and Conflict below it) is 409."""


def answer(error: BaseException, request_id: str) -> Response:
    """Total: what nobody foresaw is 500, with its trace in the log only."""
    kind = nearest(error, KINDS)
    detail = str(error) or kind.title
    if kind.status == 500:
        logger.error("request failed", exc_info=error, extra={"correlation_id": request_id})
        detail = INTERNAL
    return _response(kind, detail, request_id, places_of(error), _headers(error, kind))


def install(app: FastAPI) -> None:
    """Translates our errors, FastAPI's and Starlette's. What escapes these is caught at the edge."""

    async def ours(request: Request, error: Exception) -> Response:
        return answer(error, request_id_of(request))

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        places = [{"loc": list(found["loc"]), "msg": str(found["msg"])} for found in error.errors()]
        first = f"{'.'.join(map(str, places[0]['loc']))}: {places[0]['msg']}" if places else "the request is not valid"
        return _response(KINDS[errors.InvalidInput], first, request_id_of(request), places)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        by_status = {404: errors.NotFound, 405: errors.MethodNotAllowed, 413: errors.TooLarge}
        kind = KINDS[by_status.get(error.status_code, errors.RequestError)]
        if kind.status != error.status_code:
            kind = Kind(error.status_code, "bad-request", "The request cannot be answered")
        return _response(kind, kind.title, request_id_of(request), headers=error.headers or {})

    app.add_exception_handler(errors.TidegateError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)


def request_id_of(request: Request) -> str:
    return str(request.scope.get("state", {}).get("request_id", ""))


def _response(
    kind: Kind,
    detail: str,
    request_id: str,
    places: Sequence[Mapping[str, Any]] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    body = problem(kind.status, kind.slug, kind.title, detail, request_id, places)
    return Response(msgspec.json.encode(body, enc_hook=str), kind.status, dict(headers or {}), media_type=PROBLEM)


def _headers(error: BaseException, kind: Kind) -> dict[str, str]:
    if isinstance(error, errors.Refused):
        return {"Retry-After": str(retry_seconds(error))}
    return {"WWW-Authenticate": "Bearer"} if kind.status == 401 else {}
