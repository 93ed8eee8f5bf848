"""Releases: the list, one release with its evidence, and what a person may do to it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tidegate.console import lists, pictures, sentences, text
from tidegate.console.asking import WRONG, Question, ask, reason_in
from tidegate.console.site import Site
from tidegate.control.access.caller import Caller
from tidegate.control.releases.history import line_of, release_of
from tidegate.control.releases.release import Release
from tidegate.errors import NotFound
from tidegate.storage.records import ReleaseEventRow

SIDES = ("baseline", "candidate", "shadow")
WARNINGS: Mapping[str, str] = {
    "pause": "The candidate keeps the share that it has. Guardrails still watch it.",
    "resume": "The release goes on where it stopped.",
    "promote": "The candidate gets all the traffic at once, without waiting for its guardrails. "
    "The old version stays loaded for a while, so that you can roll back.",
    "rollback": "The old version gets all the traffic back, in one publication.",
}
TONES: Mapping[str, str] = {
    "promoted": "good", "rolled_back": "bad", "failed": "bad", "refused": "bad", "instance_lost": "bad",
    "paused": "wait", "inconclusive": "wait", "started": "flow", "stepped": "flow", "resumed": "flow",
}  # fmt: skip


def routes(site: Site) -> list[Route]:
    services = site.services

    def index(request: Request, visitor: Caller) -> Response:
        endpoint = request.query_params.get("endpoint") or None
        cursor = request.query_params.get("cursor")
        with services.store.read() as unit:
            read = partial(unit.releases.list, endpoint, None)
            found, following = lists.seen(visitor, read, cursor, lambda row: row.id, lambda row: row.endpoint)
        return site.render(
            request,
            "releases.html",
            visitor,
            section="Releases",
            releases=[release_of(row) for row in found],
            following=following,
            endpoint=endpoint,
        )

    def show(request: Request, visitor: Caller) -> Response:
        release, rows = read(request.path_params["id"], visitor)
        trace = site.traces.of(release.id)
        header = unit_header(release.endpoint)
        lines = [
            (name, line, pictures.evidence(line, trace))
            for name, line in trace.lines.items()
            if line.threshold > 0 and any(point.outcome != "no_data" for point in line.points)
        ]
        sides = {name: release.sides[name] for name in SIDES if name in release.sides}
        return site.render(
            request,
            "release.html",
            visitor,
            section="Releases",
            release=release,
            live=sentences.live_of(release),
            gets=sentences.gets(release, header),
            steps=sentences.steps(release),
            needs=sentences.needs(release, trace.requests),
            actions=sentences.actions(release, services.clock.wall()),
            lines=lines,
            looks=trace.looks,
            sides=sides,
            outputs=pictures.outputs({name: side.outputs for name, side in sides.items()}),
            agreed=sentences.agreement(release),
            history=[line_of(row) for row in reversed(rows)],
            tones=TONES,
            announce=f"{sentences.stage(release)}, {release.state}",
        )

    def question(request: Request, visitor: Caller) -> Response:
        release, action = wanted(request, visitor)
        return ask(site, request, visitor, question_of(release, action))

    def act(request: Request, visitor: Caller, form: FormData) -> Response:
        release, action = wanted(request, visitor)
        reason = reason_in(form)
        if not reason:
            return ask(site, request, visitor, question_of(release, action), WRONG)
        doing = {
            "pause": services.releases.pause,
            "resume": services.releases.resume,
            "promote": services.releases.promote,
            "rollback": services.releases.rollback,
        }[action]
        doing(release.id, who=visitor.who, reason=reason)
        return site.to(request, f"/releases/{release.id}")

    def wanted(request: Request, visitor: Caller) -> tuple[Release, str]:
        visitor.must("operate")
        action = request.path_params["action"]
        if action not in WARNINGS:
            raise NotFound(f"a release cannot {action[:40]}")
        release, _ = read(request.path_params["id"], visitor)
        return release, action

    def read(id_: str, visitor: Caller) -> tuple[Release, list[ReleaseEventRow]]:
        with services.store.read() as unit:
            row = unit.releases.get(id_)
            rows = unit.releases.events(id_)
        if row is None:
            raise NotFound(f"there is no release {id_[:80]}")
        visitor.must_reach(row.endpoint)
        return release_of(row), rows

    def unit_header(name: str) -> str:
        configured = services.settings.endpoints.get(name)
        return configured.routing.unit_header if configured else ""

    return [
        Route("/releases", site.page(index)),
        Route("/releases/{id}", site.page(show)),
        Route("/releases/{id}/{action}", site.page(question)),
        Route("/releases/{id}/{action}", site.act(act), methods=["POST"]),
    ]


def question_of(release: Release, action: str) -> Question:
    rolling_back = action == "rollback"
    of = f"{release.candidate.name or release.endpoint} {text.version(release.candidate.version)}"
    return Question(
        section="Releases",
        heading=f"Roll back to {text.version(release.baseline.version)}?"
        if rolling_back
        else f"{action.capitalize()} the release of {of}?",
        warning=WARNINGS[action],
        target=f"/releases/{release.id}/{action}",
        back=f"/releases/{release.id}",
        verb="Roll back" if rolling_back else action.capitalize(),
        glyph=action,
        danger=rolling_back,
    )
