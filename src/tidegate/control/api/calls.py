"""One call of the API: who calls, what it may do, and writing at most once per ``Idempotency-Key``."""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import Depends, Query, Request, Response

from tidegate.control.access import audit
from tidegate.control.access.caller import Caller
from tidegate.control.access.once import Once
from tidegate.control.api.errors import request_id_of
from tidegate.control.api.services import Services
from tidegate.errors import InvalidInput, MalformedBody, NotAllowed, NotAuthenticated, Refused, UnsupportedMedia
from tidegate.keys import KeyRole

logger = logging.getLogger("tidegate.control")

COOKIE = "tidegate_session"
CSRF_HEADER = "X-CSRF-Token"
IDEMPOTENCY_HEADER = "Idempotency-Key"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_GOOD_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,200}")

T = TypeVar("T")

Limit = Annotated[int, Query(ge=1, le=500, description="Most items of one page.")]
Cursor = Annotated[str | None, Query(max_length=512, description="`next` of the page before; opaque.")]


class Answer(msgspec.Struct, frozen=True):
    """``kept`` is what a repetition gets in place of ``body``, where that holds a secret."""

    body: Any = None
    status: int = 200
    location: str = ""
    kept: Any = None


class Stored(msgspec.Struct, frozen=True):
    """What the store keeps of an answer."""

    body: msgspec.Raw
    location: str = ""


class Page(msgspec.Struct, frozen=True):
    """``next`` is the cursor of what follows; null at the end."""

    items: Sequence[Any]
    next: str | None = None


class Call:
    """Made by ``needs`` once the caller is known."""

    def __init__(self, request: Request, services: Services, caller: Caller) -> None:
        self.request = request
        self.services = services
        self.caller = caller

    @property
    def who(self) -> str:
        return self.caller.who

    @contextmanager
    def acting(self) -> Iterator[None]:
        with audit.acting_from(audit.Origin(self.caller.address, self.caller.key, request_id_of(self.request))):
            yield

    def write(self, act: Callable[[], Answer]) -> Response:
        """Runs ``act``, or repeats the answer that the same key and request got before.

        Only a success is kept: what failed has changed nothing, and the same key may try again. What was done is answered
        so, even where the store went away before the answer was kept. Raises InvalidInput when the
        key came with another request, Conflict while the first is under way.
        """
        key = self.request.headers.get(IDEMPOTENCY_HEADER)
        if key is None:
            with self.acting():
                return respond(act())
        if not _GOOD_IDEMPOTENCY_KEY.fullmatch(key):
            raise InvalidInput(f"{IDEMPOTENCY_HEADER}: 1 to 200 printable characters without spaces", ("header",))
        once = Once(self.services.store, self.services.clock, key, self.caller.key, self._digest())
        kept = once.claim()
        if kept is not None:
            stored = msgspec.json.decode(kept.body, type=Stored)
            return _response(bytes(stored.body), kept.status, stored.location, repeated=True)
        with self.acting(), once.under_way():
            answer = act()
        body = msgspec.Raw(encode(answer.body if answer.kept is None else answer.kept))
        try:
            once.keep(answer.status, msgspec.json.encode(Stored(body, answer.location)).decode())
        except Refused as error:  # it was done: to say that it failed, or to let the key act again, would do it twice
            logger.warning(
                "the answer to %s %s could not be kept: %s", self.request.method, self.request.url.path, error
            )
        return respond(answer)

    def _digest(self) -> str:
        request = self.request
        raw: bytes = getattr(request.state, "raw", b"")
        return sha256(f"{request.method} {request.url.path}?{request.url.query}\n".encode() + raw).hexdigest()


def services_of(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


def address_of(request: Request) -> str:
    return request.client.host if request.client is not None else ""


def caller_of(request: Request) -> Caller:
    """Once for each request, which counts as in flight until the edge has answered it. Raises NotAuthenticated, RateLimited,
    NotAllowed."""
    caller = _recognised(request)
    if caller.facts.concurrency:
        limits = services_of(request).access.limits
        limits.enter(caller.key, caller.facts.concurrency)
        request.state.leave = partial(limits.leave, caller.key)
    return caller


def _recognised(request: Request) -> Caller:
    """By key, or by cookie; a cookie's changes must carry its CSRF token."""
    services, address = services_of(request), address_of(request)
    key = key_of(request)
    if key is not None:
        return services.access.by_key(key, address)
    token = request.cookies.get(COOKIE)
    if not token:
        services.access.limits.arrive(address)
        raise NotAuthenticated("a key is needed: send it as Authorization: Bearer or as X-API-Key")
    caller = services.access.by_cookie(token, address)
    if request.method not in _SAFE:
        check_same_origin(request)
        check_csrf(caller, request.headers.get(CSRF_HEADER, ""))
    return caller


def key_of(request: Request) -> str | None:
    key = request.headers.get("x-api-key")
    if key is None:
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        key = value.strip() if scheme.lower() == "bearer" else None
    return key


def check_csrf(caller: Caller, token: str) -> None:
    """For forms of the console too. Raises NotAllowed."""
    import hmac

    if not caller.csrf or not hmac.compare_digest(token.encode(), caller.csrf.encode()):
        raise NotAllowed("the form has expired, or did not come from this site; reload the page")


def check_same_origin(request: Request) -> None:
    """What browsers say about where a request comes from; silence is left to the CSRF token. Raises NotAllowed."""
    site = request.headers.get("sec-fetch-site", "same-origin")
    origin = request.headers.get("origin")
    own = f"{request.url.scheme}://{request.headers.get('host', '')}"
    configured = services_of(request).settings.control.url.rstrip("/")
    if site not in ("same-origin", "none") or (origin is not None and origin not in (own, configured)):
        raise NotAllowed("this came from another site")


def needs(role: KeyRole) -> Callable[[Request], Call]:
    """A dependency: a call whose caller has the role. Plain, not async: it reads the store, on a thread."""

    def call(request: Request) -> Call:
        caller = caller_of(request)
        caller.must(role)
        return Call(request, services_of(request), caller)

    return call


Predicting = Annotated[Call, Depends(needs("predict"))]
Operating = Annotated[Call, Depends(needs("operate"))]
Administering = Annotated[Call, Depends(needs("admin"))]


def body_of(kind: type[T], *, optional: bool = False) -> Callable[[Request], Any]:
    """A dependency: the JSON body, decoded strictly. ``optional``: no body means the type's defaults."""
    decoder = msgspec.json.Decoder(kind)

    async def body(request: Request) -> T:
        raw = await request.body()
        request.state.raw = raw
        if optional and not raw:
            return kind()
        media = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if media != "application/json" and not media.endswith("+json"):
            raise UnsupportedMedia("send application/json")
        return decoded(decoder, raw)

    return body


def decoded(decoder: msgspec.json.Decoder[T], raw: bytes) -> T:
    """Raises MalformedBody for what is no JSON, InvalidInput with the place for what does not fit."""
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        text, _, where = str(error).partition(" - at `$")
        raise InvalidInput(text, _place(where)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedBody(f"the body is not JSON: {error}") from None


def _place(where: str) -> tuple[str | int, ...]:
    """``.plan.steps[0]`` as names and indices; msgspec writes ``[...]`` for keys and items it does not number."""
    return tuple(int(part) if part.isdigit() else part for part in re.findall(r"[^.\[\]`]+", where)) or ("body",)


def encode(value: Any) -> bytes:
    return msgspec.json.encode(value)


def respond(answer: Answer) -> Response:
    return _response(encode(answer.body) if answer.body is not None else b"", answer.status, answer.location)


def give(value: Any) -> Response:
    """200 with a body."""
    return _response(encode(value), 200, "")


def _response(body: bytes, status: int, location: str, *, repeated: bool = False) -> Response:
    headers: dict[str, str] = {"Location": location} if location else {}
    if repeated:
        headers["Idempotent-Replayed"] = "true"
    if status == 204 or not body:
        return Response(status_code=status, headers=headers)
    return Response(body, status, headers, media_type="application/json")


def page(
    found: Sequence[T], limit: int, cursor_at: Callable[[T], Any], show: Callable[[T], Any] = lambda item: item
) -> Response:
    """``found`` has one item more than ``limit`` where more follows."""
    shown = found[:limit]
    following = pack(cursor_at(shown[-1])) if len(found) > limit and shown else None
    return give(Page([show(item) for item in shown], following))


def pack(value: Any) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(value)).decode().rstrip("=")


def unpack(cursor: str | None, kind: type[T]) -> T | None:
    """Raises InvalidInput for what no page gave."""
    if cursor is None:
        return None
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), type=kind)
    except (msgspec.DecodeError, ValueError):
        raise InvalidInput("the cursor is not one that a page gave", ("query", "cursor")) from None


def in_pages(
    items: Sequence[T], limit: int, cursor: str | None, show: Callable[[T], Any] = lambda item: item
) -> Response:
    """For short lists that are read whole; the cursor is a place in the list."""
    start = unpack(cursor, int) or 0
    if start < 0:
        raise InvalidInput("the cursor is not one that a page gave", ("query", "cursor"))
    shown = items[start : start + limit]
    following = pack(start + limit) if start + limit < len(items) else None
    return give(Page([show(item) for item in shown], following))
