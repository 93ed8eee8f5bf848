"""Signing in and out."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tidegate.console.site import Site
from tidegate.control.access.audit import Origin, acting_from
from tidegate.control.access.caller import Caller
from tidegate.control.api.calls import COOKIE, address_of, check_same_origin
from tidegate.control.api.errors import request_id_of
from tidegate.control.api.session import is_https, set_cookie
from tidegate.errors import NotAllowed, NotAuthenticated, Refused


def routes(site: Site) -> list[Route]:
    def form_page(request: Request, wanted: str, wrong: str = "", status: int = 200) -> Response:
        return site.render(request, "sign_in.html", None, status=status, wanted=wanted, wrong=wrong)

    async def show(request: Request) -> Response:
        return form_page(request, safe(request.query_params.get("next", "/")))

    async def sign_in(request: Request) -> Response:
        form = await request.form(max_files=0, max_fields=10)
        return await run_in_threadpool(let_in, request, form)

    def let_in(request: Request, form: FormData) -> Response:
        wanted = safe(str(form.get("next", "/")))
        try:
            check_same_origin(request)
            address = address_of(request)
            with acting_from(Origin(address, "", request_id_of(request))):
                opened = site.services.access.sign_in(str(form.get("key", ""))[:500], address)
        except NotAuthenticated:
            return form_page(request, wanted, "This key is not valid: it is unknown, expired or revoked.", 401)
        except NotAllowed as error:
            return form_page(request, wanted, f"{str(error).capitalize()}.", 403)
        except Refused as error:
            return site.sorry(request, None, error)
        answer = site.to(request, wanted)
        set_cookie(answer, request, opened.token)
        return answer

    def sign_out(request: Request, visitor: Caller, form: FormData) -> Response:
        site.services.access.sessions.close(visitor)
        answer = site.to(request, "/sign-in")
        answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict", secure=is_https(request))
        return answer

    return [
        Route("/sign-in", show),
        Route("/sign-in", sign_in, methods=["POST"]),
        Route("/sign-out", site.act(sign_out), methods=["POST"]),
    ]


def safe(path: str) -> str:
    """Only a path of this console is gone to after the sign-in."""
    plain = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if plain and len(path) < 500 else "/"
