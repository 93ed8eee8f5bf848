"""Keys: made, rotated, revoked. A new key is shown once, in the answer to the form that made it."""

from __future__ import annotations

from typing import cast, get_args

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tidegate.console.asking import Choices, Question, ask
from tidegate.console.site import Site
from tidegate.control.access.caller import Caller
from tidegate.control.access.keys import Created
from tidegate.errors import InvalidInput, NotFound, UserError
from tidegate.keys import KeyFacts, KeyRole

DAY = 86_400.0
GRACES = ((0, "at once"), (3600, "in an hour"), (86_400, "in a day"), (604_800, "in a week"))
EXPIRIES = ((0, "never"), (7, "in a week"), (30, "in 30 days"), (90, "in 90 days"), (365, "in a year"))


def routes(site: Site) -> list[Route]:
    keys = site.services.access.keys

    def listing(
        request: Request,
        visitor: Caller,
        *,
        made: Created | None = None,
        old: str = "",
        wrong: str = "",
        status: int = 200,
    ) -> Response:
        return site.render(
            request,
            "keys.html",
            visitor,
            section="Keys",
            status=status,
            keys=keys.all(),
            roles=get_args(KeyRole),
            expiries=EXPIRIES,
            made=made,
            old=old,
            wrong=wrong,
        )

    def index(request: Request, visitor: Caller) -> Response:
        visitor.must("admin")
        return listing(request, visitor)

    def create(request: Request, visitor: Caller, form: FormData) -> Response:
        visitor.must("admin")
        days = str(form.get("expires", "0"))
        try:
            role = str(form.get("role", ""))
            if role not in get_args(KeyRole):
                raise InvalidInput("choose a role: predict, operate or admin")
            if days not in {str(value) for value, _ in EXPIRIES}:
                raise InvalidInput("choose an expiry from the list")
            endpoints = tuple(part.strip() for part in str(form.get("endpoints", "")).split(",") if part.strip())
            facts = KeyFacts(name=str(form.get("name", "")).strip(), roles=(cast(KeyRole, role),), endpoints=endpoints)
            expires = site.services.clock.wall() + float(days) * DAY if days != "0" else None
            made = keys.create(facts, who=visitor.who, expires=expires)
        except InvalidInput as error:
            return listing(request, visitor, wrong=str(error), status=422)
        return listing(request, visitor, made=made)

    def question(request: Request, visitor: Caller) -> Response:
        visitor.must("admin")
        return confirm(request, visitor, request.path_params["id"], request.path_params["action"])

    def act(request: Request, visitor: Caller, form: FormData) -> Response:
        visitor.must("admin")
        id_, action = request.path_params["id"], request.path_params["action"]
        reason = str(form.get("reason", "")).strip()[:500]
        try:
            if action == "revoke":
                keys.revoke(id_, who=visitor.who, reason=reason)
                return site.to(request, "/keys")
            if action == "rotate":
                grace = str(form.get("grace", "0"))
                if grace not in {str(seconds) for seconds, _ in GRACES}:
                    raise InvalidInput("choose from the list when the old key ends")
                made = keys.rotate(id_, who=visitor.who, grace=float(grace), reason=reason)
                return listing(request, visitor, made=made, old=id_)
        except (UserError, InvalidInput) as error:
            return confirm(request, visitor, id_, action, str(error))
        raise NotFound(f"a key cannot {action[:40]}")

    def confirm(request: Request, visitor: Caller, id_: str, action: str, wrong: str = "") -> Response:
        view = keys.get(id_)
        if action not in ("revoke", "rotate"):
            raise NotFound(f"a key cannot {action[:40]}")
        own = " You are signed in with this key." if view.id == visitor.key else ""
        warnings = {
            "revoke": f"Whoever uses it is refused from now on.{own}",
            "rotate": f"A new key that allows the same is made, and shown once. The old one ends later.{own}",
        }
        asked = Question(
            section="Keys",
            heading=f"{action.capitalize()} the key {view.name}?",
            warning=warnings[action],
            target=f"/keys/{view.id}/{action}",
            back="/keys",
            verb=action.capitalize(),
            glyph="key",
            danger=action == "revoke",
            choices=Choices("grace", "The old key ends", GRACES, DAY) if action == "rotate" else None,
            optional=True,
        )
        return ask(site, request, visitor, asked, wrong, status=409)

    return [
        Route("/keys", site.page(index)),
        Route("/keys", site.act(create), methods=["POST"]),
        Route("/keys/{id}/{action}", site.page(question)),
        Route("/keys/{id}/{action}", site.act(act), methods=["POST"]),
    ]
