"""One table per HTTP protocol: which status, and which words, an error becomes. Every table covers every error."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec

from tidegate import errors
from tidegate.problems import bounded, nearest, places_of, problem, retry_seconds
from tidegate.protocols.base import Request, Response

logger = logging.getLogger(__name__)

_FAILED = "the model could not answer; the operator finds the cause in the log under this request id"
_JSON = ((b"content-type", b"application/json"),)
_PROBLEM = ((b"content-type", b"application/problem+json"),)


class Kind(msgspec.Struct, frozen=True):
    """``code`` is the protocol's own name of the error: a slug of a problem's type, or an MLflow error code."""

    status: int
    code: str = ""
    title: str = ""


Table = Mapping[type[BaseException], Kind]

NATIVE: Table = {
    errors.RequestError: Kind(400, "bad-request", "The request cannot be answered"),
    errors.MalformedBody: Kind(400, "malformed-body", "The body cannot be decoded"),
    errors.InvalidInput: Kind(422, "invalid-input", "The input does not fit the model"),
    errors.TooLarge: Kind(413, "too-large", "The request is too large"),
    errors.UnsupportedMedia: Kind(415, "unsupported-media-type", "The media type is not supported"),
    errors.BodyTooSlow: Kind(408, "body-too-slow", "The body did not arrive in time"),
    errors.NotFound: Kind(404, "not-found", "There is no such thing here"),
    errors.MethodNotAllowed: Kind(405, "method-not-allowed", "This is not how to call it"),
    errors.NotAuthenticated: Kind(401, "not-authenticated", "A valid key is needed"),
    errors.NotAllowed: Kind(403, "not-allowed", "The key does not allow this"),
    errors.Unsupported: Kind(400, "unsupported", "This is not offered"),
    errors.Refused: Kind(503, "refused", "Not now"),
    errors.QueueFull: Kind(429, "queue-full", "Too many rows are waiting"),
    errors.RateLimited: Kind(429, "rate-limited", "Too many requests from this caller"),
    errors.Overloaded: Kind(503, "overloaded", "Too many requests in flight"),
    errors.NotReady: Kind(503, "not-ready", "Not ready"),
    errors.StoreAway: Kind(503, "store-away", "The store is away"),
    errors.DeadlineExceeded: Kind(504, "deadline-exceeded", "The deadline passed"),
    errors.CallerGone: Kind(499, "caller-gone", "The caller left"),
    errors.ModelFailed: Kind(500, "model-failed", "The model failed"),
    BaseException: Kind(500, "internal", "Something went wrong here"),
}

V2: Table = {
    errors.RequestError: Kind(400),
    errors.MalformedBody: Kind(400),
    errors.InvalidInput: Kind(400),
    errors.TooLarge: Kind(413),
    errors.UnsupportedMedia: Kind(400),
    errors.BodyTooSlow: Kind(408),
    errors.NotFound: Kind(404),
    errors.MethodNotAllowed: Kind(405),
    errors.NotAuthenticated: Kind(401),
    errors.NotAllowed: Kind(403),
    errors.Unsupported: Kind(501),
    errors.Refused: Kind(503),
    errors.QueueFull: Kind(429),
    errors.RateLimited: Kind(429),
    errors.Overloaded: Kind(503),
    errors.NotReady: Kind(503),
    errors.StoreAway: Kind(503),
    errors.DeadlineExceeded: Kind(504),
    errors.CallerGone: Kind(499),
    errors.ModelFailed: Kind(500),
    BaseException: Kind(500),
}

MLFLOW: Table = {
    errors.RequestError: Kind(400, "BAD_REQUEST"),
    errors.MalformedBody: Kind(400, "BAD_REQUEST"),
    errors.InvalidInput: Kind(400, "BAD_REQUEST"),
    errors.TooLarge: Kind(413, "BAD_REQUEST"),
    errors.UnsupportedMedia: Kind(415, "BAD_REQUEST"),
    errors.BodyTooSlow: Kind(408, "BAD_REQUEST"),
    errors.NotFound: Kind(404, "ENDPOINT_NOT_FOUND"),
    errors.MethodNotAllowed: Kind(405, "BAD_REQUEST"),
    errors.NotAuthenticated: Kind(401, "UNAUTHENTICATED"),
    errors.NotAllowed: Kind(403, "PERMISSION_DENIED"),
    errors.Unsupported: Kind(400, "BAD_REQUEST"),
    errors.Refused: Kind(503, "TEMPORARILY_UNAVAILABLE"),
    errors.QueueFull: Kind(429, "REQUEST_LIMIT_EXCEEDED"),
    errors.RateLimited: Kind(429, "REQUEST_LIMIT_EXCEEDED"),
    errors.Overloaded: Kind(503, "TEMPORARILY_UNAVAILABLE"),
    errors.NotReady: Kind(503, "TEMPORARILY_UNAVAILABLE"),
    errors.StoreAway: Kind(503, "TEMPORARILY_UNAVAILABLE"),
    errors.DeadlineExceeded: Kind(504, "DEADLINE_EXCEEDED"),
    errors.CallerGone: Kind(499, "CANCELLED"),
    errors.ModelFailed: Kind(500, "INTERNAL_ERROR"),
    BaseException: Kind(500, "INTERNAL_ERROR"),
}


def native_error(error: BaseException, request: Request) -> Response:
    """RFC 9457 problem details, with the request id and, where known, the places in the body."""
    kind = nearest(error, NATIVE)
    words = _words(error, kind, request)
    body = problem(kind.status, kind.code, kind.title, words, request.request_id, places_of(error))
    return Response(msgspec.json.encode(body), kind.status, _headers(error, kind, _PROBLEM))


def v2_error(error: BaseException, request: Request) -> Response:
    """``{"error": text}``; a failure of ours names the request id."""
    kind = nearest(error, V2)
    text = _words(error, kind, request)
    if kind.status == 500:
        text = f"{text} {request.request_id}"
    return Response(msgspec.json.encode({"error": text}), kind.status, _headers(error, kind, _JSON))


def mlflow_error(error: BaseException, request: Request) -> Response:
    """``{"error_code", "message"}``; a failure of ours names the request id."""
    kind = nearest(error, MLFLOW)
    text = _words(error, kind, request)
    if kind.status == 500:
        text = f"{text} {request.request_id}"
    body = {"error_code": kind.code, "message": text}
    return Response(msgspec.json.encode(body), kind.status, _headers(error, kind, _JSON))


def _words(error: BaseException, kind: Kind, request: Request) -> str:
    if kind.status == 500:
        if not isinstance(error, errors.ModelFailed):  # that one was logged where it happened
            logger.error("request failed", exc_info=error, extra={"correlation_id": request.request_id})
        return _FAILED
    return bounded(str(error) or kind.title or type(error).__name__)


def _headers(
    error: BaseException, kind: Kind, base: tuple[tuple[bytes, bytes], ...]
) -> tuple[tuple[bytes, bytes], ...]:
    if isinstance(error, errors.Refused):
        return (*base, (b"retry-after", b"%d" % retry_seconds(error)))
    if kind.status == 401:
        return (*base, (b"www-authenticate", b"Bearer"))
    return base
