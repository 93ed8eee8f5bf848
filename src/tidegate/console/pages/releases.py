"""Releases: the list, one release with its evidence, and what a person may do to it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tidegate.console import lists, pictures, sentences, text
from tidegate.console.site import Site
from tidegate.control.access.caller import Caller
from tidegate.control.releases.history import line_of, release_of
from tidegate.control.releases.release import Release
from tidegate.errors import NotFound
from tidegate.storage.records import ReleaseEventRow

LONGEST_REASON = 500
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

    def ask(request: Request, visitor: Caller) -> Response:
        """The question before an action; in a dialog, or as a page of its own without a script."""
        release, action = wanted(request, visitor)
        return confirm(request, visitor, release, action)

    def act(request: Request, visitor: Caller, form: FormData) -> Response:
        release, action = wanted(request, visitor)
        reason = str(form.get("reason", "")).strip()
        if not reason or len(reason) > LONGEST_REASON:
            wrong = f"Say why, in at most {LONGEST_REASON} characters: it goes into the audit log."
            return confirm(request, visitor, release, action, wrong)
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

    def confirm(request: Request, visitor: Caller, release: Release, action: str, wrong: str = "") -> Response:
        return site.render(
            request,
            "confirm.html",
            visitor,
            section="Releases",
            status=422 if wrong else 200,
            heading=f"{action.capitalize()} the release of {release.candidate.name or release.endpoint} "
            f"{text.version(release.candidate.version)}?"
            if action != "rollback"
            else f"Roll back to {text.version(release.baseline.version)}?",
            warning=WARNINGS[action],
            target=f"/releases/{release.id}/{action}",
            back=f"/releases/{release.id}",
            verb={"rollback": "Roll back"}.get(action, action.capitalize()),
            glyph=action,
            danger=action == "rollback",
            wrong=wrong,
        )

    def unit_header(name: str) -> str:
        configured = services.settings.endpoints.get(name)
        return configured.routing.unit_header if configured else ""

    return [
        Route("/releases", site.page(index)),
        Route("/releases/{id}", site.page(show)),
        Route("/releases/{id}/{action}", site.page(ask)),
        Route("/releases/{id}/{action}", site.act(act), methods=["POST"]),
    ]
