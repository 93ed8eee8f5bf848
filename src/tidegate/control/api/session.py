"""Sign-in of the console: a key becomes a cookie that scripts cannot read and other sites cannot send."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from msgspec import Meta

from tidegate.control.access import audit
from tidegate.control.access.caller import Caller
from tidegate.control.api import examples
from tidegate.control.api.calls import (
    COOKIE,
    Operating,
    address_of,
    body_of,
    check_same_origin,
    give,
    services_of,
)
from tidegate.control.api.documents import documented
from tidegate.control.api.errors import request_id_of
from tidegate.control.api.services import Services
from tidegate.keys import KeyRole

router = APIRouter(prefix="/api/v1/session", tags=["session"])


class SignIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: Annotated[str, Meta(min_length=1, max_length=200)]


class SessionView(msgspec.Struct, frozen=True, kw_only=True):
    """Changes must carry ``csrf`` in the header X-CSRF-Token; empty for who calls with a key."""

    name: str
    key: str
    roles: tuple[KeyRole, ...]
    endpoints: tuple[str, ...]
    csrf: str
    expires: float | None


@router.post("", status_code=201, summary="Sign in with a key; sets the session's cookie")
@documented(
    None, SessionView, takes=SignIn, status=201, example=examples.SESSION,
    takes_example={"key": "tg_3f9c2a7b1d5e_…"}, problems=(401, 403, 429),
)  # fmt: skip
def sign_in(
    request: Request,
    services: Annotated[Services, Depends(services_of)],
    asked: Annotated[SignIn, Depends(body_of(SignIn))],
) -> Response:
    check_same_origin(request)
    address = address_of(request)
    with audit.acting_from(audit.Origin(address, "", request_id_of(request))):
        opened = services.access.sign_in(asked.key, address)
    answer = give(_view(opened.caller))
    answer.status_code = 201
    set_cookie(answer, request, opened.token)
    return answer


@router.get("", summary="Who is signed in")
@documented("operate", SessionView, example=examples.SESSION)
def current(call: Operating) -> Response:
    return give(_view(call.caller))


@router.delete("", status_code=204, summary="Sign out")
@documented("operate", status=204)
def sign_out(call: Operating) -> Response:
    """For a key there is nothing to end."""
    if call.caller.session:
        with call.acting():
            call.services.access.sessions.close(call.caller)
    answer = Response(status_code=204)
    answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict", secure=is_https(call.request))
    return answer


def set_cookie(answer: Response, request: Request, token: str) -> None:
    """Without an age: the browser forgets it when it closes; the store ends it earlier."""
    answer.set_cookie(COOKIE, token, path="/", httponly=True, samesite="strict", secure=is_https(request))


def is_https(request: Request) -> bool:
    """Here, or at the proxy in front, as ``control.url`` says."""
    return request.url.scheme == "https" or services_of(request).settings.control.url.startswith("https:")


def _view(caller: Caller) -> SessionView:
    return SessionView(
        name=caller.facts.name,
        key=caller.key,
        roles=caller.facts.roles,
        endpoints=caller.facts.endpoints,
        csrf=caller.csrf,
        expires=caller.expires,
    )
