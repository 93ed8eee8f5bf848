"""Retrainings: each from what caused it to what became of it, and what each endpoint waits for."""

from __future__ import annotations

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tidegate.console import chains, lists
from tidegate.console.asking import WRONG, Question, ask, reason_in
from tidegate.console.site import Site
from tidegate.console.watch import alert_of
from tidegate.control.access.caller import Caller
from tidegate.control.releases.history import release_of
from tidegate.control.training.retraining import Retraining
from tidegate.errors import NotFound


def routes(site: Site) -> list[Route]:
    services = site.services

    def index(request: Request, visitor: Caller) -> Response:
        def read(count: int, after: str | None) -> list[Retraining]:
            return services.retraining.list(limit=count, cursor=after)

        cursor = request.query_params.get("cursor")
        found, following = lists.seen(visitor, read, cursor, lambda one: one.id, lambda one: one.endpoint)
        return site.render(
            request,
            "retrainings.html",
            visitor,
            section="Retraining",
            retrainings=found,
            following=following,
            outlook=[one for one in services.retraining.outlook() if visitor.facts.reaches(one.endpoint)],
        )

    def show(request: Request, visitor: Caller) -> Response:
        retraining = visible(request, visitor)
        with services.store.read() as unit:
            rows = [row for id_ in retraining.alerts if (row := unit.alerts.get(id_)) is not None]
            released = unit.releases.get(retraining.release) if retraining.release else None
        release = release_of(released) if released is not None else None
        return site.render(
            request,
            "retraining.html",
            visitor,
            section="Retraining",
            retraining=retraining,
            steps=chains.chain(retraining, {row.id: alert_of(row.body) for row in rows}, release),
            may_cancel=retraining.open and retraining.state != "releasing",
            announce=f"{retraining.state}: {retraining.waiting}",
        )

    def ask_cancel(request: Request, visitor: Caller) -> Response:
        visitor.must("operate")
        return ask(site, request, visitor, cancelling(visible(request, visitor)))

    def cancel(request: Request, visitor: Caller, form: FormData) -> Response:
        visitor.must("operate")
        retraining = visible(request, visitor)
        reason = reason_in(form)
        if not reason:
            return ask(site, request, visitor, cancelling(retraining), WRONG)
        services.retraining.cancel(retraining.id, who=visitor.who, reason=reason)
        return site.to(request, f"/retrainings/{retraining.id}")

    def ask_start(request: Request, visitor: Caller) -> Response:
        return ask(site, request, visitor, starting(wanted(request, visitor)))

    def start(request: Request, visitor: Caller, form: FormData) -> Response:
        endpoint = wanted(request, visitor)
        reason = reason_in(form)
        if not reason:
            return ask(site, request, visitor, starting(endpoint), WRONG)
        begun = services.retraining.start(endpoint, who=visitor.who, reason=reason)
        return site.to(request, f"/retrainings/{begun.id}")

    def wanted(request: Request, visitor: Caller) -> str:
        visitor.must("operate")
        endpoint = str(request.path_params["endpoint"])
        visitor.must_reach(endpoint)
        if endpoint not in {one.endpoint for one in services.retraining.outlook()}:
            raise NotFound(
                f"the endpoint {endpoint[:80]} has no training; set endpoints.{endpoint[:80]}.monitor.retrain"
            )
        return endpoint

    def visible(request: Request, visitor: Caller) -> Retraining:
        retraining = services.retraining.get(request.path_params["id"])
        visitor.must_reach(retraining.endpoint)
        return retraining

    return [
        Route("/retrainings", site.page(index)),
        Route("/retrainings/of/{endpoint}/start", site.page(ask_start)),
        Route("/retrainings/of/{endpoint}/start", site.act(start), methods=["POST"]),
        Route("/retrainings/{id}", site.page(show)),
        Route("/retrainings/{id}/cancel", site.page(ask_cancel)),
        Route("/retrainings/{id}/cancel", site.act(cancel), methods=["POST"]),
    ]


def cancelling(retraining: Retraining) -> Question:
    return Question(
        section="Retraining",
        heading=f"Cancel the retraining of {retraining.endpoint}?",
        warning="Its job is ended; a version that is registered already stays, and is not released.",
        target=f"/retrainings/{retraining.id}/cancel",
        back=f"/retrainings/{retraining.id}",
        verb="Cancel the retraining",
        glyph="cancel",
        danger=True,
    )


def starting(endpoint: str) -> Question:
    return Question(
        section="Retraining",
        heading=f"Train {endpoint} anew?",
        warning="A version that passes the gate is registered, and released as the configuration says.",
        target=f"/retrainings/of/{endpoint}/start",
        back="/retrainings",
        verb="Train",
        glyph="retraining",
    )
