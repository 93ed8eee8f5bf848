"""Jobs: what waits, runs and has ended; how far one is, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args
from urllib.parse import quote

import msgspec
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tidegate.console import lists
from tidegate.console.asking import WRONG, Question, ask, reason_in
from tidegate.console.site import Site
from tidegate.control.access.caller import Caller
from tidegate.control.jobs.job import Job, State
from tidegate.errors import NotFound

MOST_SHOWN = 20_000
"""Characters of what a job was given or gave."""
WARNINGS: Mapping[str, str] = {
    "cancel": "What waits is cancelled at once, what runs is ended. What it has written so far may stay.",
    "retry": "It is tried again; steps that have ended are not done a second time.",
}
SECRET = ("password", "secret", "token", "key", "credential")


def routes(site: Site) -> list[Route]:
    services = site.services

    def index(request: Request, visitor: Caller) -> Response:
        asked = request.query_params.get("state", "")
        state = asked if asked in get_args(State) else None
        kind = request.query_params.get("kind") or None

        def read(count: int, after: str | None) -> list[Job]:
            return services.jobs.list(kind=kind, state=state, limit=count, cursor=after)[0]

        cursor = request.query_params.get("cursor")
        found, following = lists.seen(visitor, read, cursor, lambda job: job.id, lambda job: job.endpoint)
        return site.render(
            request,
            "jobs.html",
            visitor,
            section="Jobs",
            jobs=found,
            following=following,
            states=["all", *get_args(State)],
            state=state or "all",
            kind=kind,
            counts=services.jobs.counts() if not visitor.facts.endpoints else {},
        )

    def show(request: Request, visitor: Caller) -> Response:
        job = visible(request, visitor)
        return site.render(
            request,
            "job.html",
            visitor,
            section="Jobs",
            job=job,
            actions=actions(job),
            payload=written(job.payload),
            result=written(job.result),
            files=files_of(job),
            pages=pages_of(job),
            steps={name: written(value) for name, value in job.steps.items()},
            announce=f"{job.kind}: {job.state} {job.progress.text}",
        )

    def question(request: Request, visitor: Caller) -> Response:
        visitor.must("operate")
        job = visible(request, visitor)
        return ask(site, request, visitor, question_of(job, action_of(request)))

    def act(request: Request, visitor: Caller, form: FormData) -> Response:
        visitor.must("operate")
        job, action = visible(request, visitor), action_of(request)
        reason = reason_in(form)
        if not reason:
            return ask(site, request, visitor, question_of(job, action), WRONG)
        doing = {"cancel": services.jobs.cancel, "retry": services.jobs.retry}[action]
        doing(job.id, who=visitor.who, reason=reason)
        return site.to(request, f"/jobs/{job.id}")

    def visible(request: Request, visitor: Caller) -> Job:
        job = services.jobs.get(request.path_params["id"])
        visitor.must_reach(job.endpoint)
        return job

    return [
        Route("/jobs", site.page(index)),
        Route("/jobs/{id}", site.page(show)),
        Route("/jobs/{id}/{action}", site.page(question)),
        Route("/jobs/{id}/{action}", site.act(act), methods=["POST"]),
    ]


def question_of(job: Job, action: str) -> Question:
    cancelling = action == "cancel"
    return Question(
        section="Jobs",
        heading=f"Cancel the job {job.id}?" if cancelling else f"Try the job {job.id} again?",
        warning=WARNINGS[action],
        target=f"/jobs/{job.id}/{action}",
        back=f"/jobs/{job.id}",
        verb="Cancel the job" if cancelling else "Try again",
        glyph=action,
        danger=cancelling,
    )


def files_of(job: Job) -> list[tuple[str, str]]:
    """(address, name) of what can be had of a job."""
    if job.kind == "batch" and job.state == "done":
        return [(f"/api/v1/batch-jobs/{job.id}/{name}", name.capitalize()) for name in ("results", "errors")]
    return []


def pages_of(job: Job) -> list[tuple[str, str]]:
    """(address, name) of the pages that say more of it."""
    found = []
    report = job.result.get("report")
    if job.kind == "report" and isinstance(report, str):
        found.append((f"/reports/{quote(report, safe='')}", "The report"))
    if job.kind == "retrain" and job.parent:
        found.append((f"/retrainings/{quote(job.parent, safe='')}", "The retraining"))
    return found


def actions(job: Job) -> list[str]:
    """What a person may ask of it now."""
    if job.open:
        return [] if job.cancelling else ["cancel"]
    return ["retry"] if job.state in ("failed", "cancelled") else []


def action_of(request: Request) -> str:
    action = str(request.path_params["action"])
    if action not in WARNINGS:
        raise NotFound(f"a job cannot {action[:40]}")
    return action


def written(value: Any) -> str:
    """JSON to read, with secrets left out; empty for nothing."""
    if value in ({}, None, "", [], ()):
        return ""
    shown = msgspec.json.format(msgspec.json.encode(without_secrets(value)), indent=2).decode()
    return shown if len(shown) <= MOST_SHOWN else shown[:MOST_SHOWN] + "\n…"


def without_secrets(value: Any, name: str = "") -> Any:
    """What is named like a secret is not shown."""
    if isinstance(value, Mapping):
        return {key: without_secrets(one, str(key)) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(one, name) for one in value]
    hidden = isinstance(value, str) and value and any(word in name.lower().split("_") for word in SECRET)
    return "not shown" if hidden else value
