"""The survey: a customer's answers come in, a prediction goes out, and what became of the customer is learned later.

    python -m uvicorn churn.survey:app --port 8002

POST /survey/submit   {"customer_id": "c1", "answers": {...}, "churned": true|false|null}
POST /survey/outcome  {"request_id": "…", "churned": true|false}
GET  /production/rows

It calls Tidegate's /predict with the customer as the unit, so that an experiment gives each customer always the same arm,
sends outcomes to /feedback, and keeps every row in the production set. With CHURN_DATA, a DVC repository below the folder
of tidegate.yaml, that set has versions: rows are pulled when this service starts, and pushed after every PUSH_EVERY
outcomes, both as jobs of Tidegate's worker.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import httpx
import msgspec
from msgspec import Meta
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from churn.generator import FEATURES, LEFT, STAYED
from churn.production import ProductionRows, Submission
from churn.versions import Versions, versions_from

LARGEST_BODY = 64 * 1024
LABEL_METRIC, STAYED_METRIC = "accuracy", "stayed"
"""What happened, for monitoring and releases; and whether it is what we wanted, for experiments."""


class Config(msgspec.Struct, frozen=True):
    tidegate: str
    key: str
    unit_header: str
    endpoint: str
    database: str


def from_environment(environment: Mapping[str, str]) -> Config:
    here = Path(__file__).resolve().parent
    return Config(
        tidegate=environment.get("TIDEGATE_URL", "http://127.0.0.1:8000"),
        key=environment.get("TIDEGATE_KEY", ""),
        unit_header=environment.get("AB_STICKY_HEADER", "X-User-Id"),
        endpoint=environment.get("CHURN_ENDPOINT", "churn"),
        database=environment.get("DATABASE_URL") or f"sqlite:///{here / 'run' / 'survey.db'}",
    )


Body = TypeVar("Body")
Name = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$")]
"""It travels in a header."""


class Survey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    customer_id: Name
    answers: dict[str, float | Annotated[str, Meta(max_length=200)] | None]
    churned: bool | None = None
    """When it is known already."""


class Outcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    request_id: Name
    churned: bool


async def submit(request: Request) -> Response:
    survey = await _read(request, Survey)
    unknown = sorted(set(survey.answers) - set(FEATURES))
    if unknown:
        raise HTTPException(422, f'answers: "{unknown[0]}" is none of: {", ".join(FEATURES)}')
    row = {name: survey.answers.get(name) for name in FEATURES}
    config: Config = request.app.state.config
    headers = {config.unit_header: survey.customer_id, "X-Request-Id": uuid.uuid4().hex}
    answer = await _call(request, f"/predict/{config.endpoint}", {"records": [row]}, headers)
    model, prediction = answer["model"], str(answer["predictions"][0])
    kept = Submission(answer["request_id"], survey.customer_id, row, prediction, model["variant"], model["version"])
    await run_in_threadpool(_rows(request).keep, kept)
    if survey.churned is not None:
        await _learn(request, kept.request_id, survey.churned)
    told = {
        "request_id": kept.request_id,
        "prediction": prediction,
        "chance_to_leave": _chance(answer, prediction),
        "variant": kept.variant,
        "version": kept.version,
        "labelled": survey.churned is not None,
    }
    return JSONResponse(told, 201)


async def outcome(request: Request) -> Response:
    given = await _read(request, Outcome)
    await _learn(request, given.request_id, given.churned)
    return JSONResponse({"request_id": given.request_id, "labelled": True})


async def count(request: Request) -> Response:
    return JSONResponse((await run_in_threadpool(_rows(request).counts))._asdict())


async def health(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _learn(request: Request, request_id: str, left: bool) -> None:
    """Tidegate first: feedback that comes twice is the same as once, so that whoever saw a failure just asks again."""
    if not await run_in_threadpool(_rows(request).knows, request_id):
        raise HTTPException(404, f"no survey has the request id {request_id}")
    config: Config = request.app.state.config
    about = {"request_id": request_id, "endpoint": config.endpoint}
    told = [
        {**about, "metric": LABEL_METRIC, "label": LEFT if left else STAYED},
        {**about, "metric": STAYED_METRIC, "value": not left},
    ]
    await _call(request, "/feedback", told, {})
    await run_in_threadpool(_rows(request).label, request_id, left)
    versions: Versions | None = request.app.state.versions
    if versions is not None and versions.due():
        await run_in_threadpool(versions.push, _rows(request))


async def _call(request: Request, path: str, body: Any, headers: Mapping[str, str]) -> Any:
    """Tidegate's answer; its refusals go to the customer as they are, its absence becomes 503."""
    client: httpx.AsyncClient = request.app.state.client
    try:
        answer = await client.post(path, json=body, headers=headers)
    except httpx.TransportError:
        raise HTTPException(503, "no prediction can be had now", {"Retry-After": "1"}) from None
    if answer.status_code >= 400:
        detail = (
            answer.json().get("detail", "refused") if "json" in answer.headers.get("content-type", "") else "refused"
        )
        kept = {name: value for name, value in answer.headers.items() if name == "retry-after"}
        # A wrong key is this service's fault, not the customer's.
        status = 503 if answer.status_code in (401, 403) else answer.status_code
        raise HTTPException(
            status, detail if status == answer.status_code else "Tidegate refuses this service's key", kept
        )
    return answer.json()


async def _read(request: Request, kind: type[Body]) -> Body:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_BODY:
            raise HTTPException(413, f"at most {LARGEST_BODY // 1024} KiB")
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise HTTPException(422, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise HTTPException(400, "the body is not JSON") from None


def _chance(answer: Mapping[str, Any], prediction: str) -> float | None:
    """Of two classes the predicted one has the larger score."""
    scores = answer.get("scores")
    if not scores or len(scores[0]) != 2:
        return None
    chance: float = (max if prediction == LEFT else min)(scores[0])
    return chance


def _rows(request: Request) -> ProductionRows:
    rows: ProductionRows = request.app.state.rows
    return rows


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"status": error.status_code, "detail": error.detail}, error.status_code, error.headers)


def make_app(
    config: Config, transport: httpx.AsyncBaseTransport | None = None, versions: Versions | None = None
) -> Starlette:
    @asynccontextmanager
    async def living(app: Starlette) -> AsyncIterator[None]:
        headers = {"X-API-Key": config.key} if config.key else {}
        rows = await run_in_threadpool(ProductionRows, config.database)
        async with httpx.AsyncClient(
            base_url=config.tidegate, headers=headers, timeout=30, trust_env=False, transport=transport
        ) as client:
            app.state.config, app.state.client, app.state.rows, app.state.versions = config, client, rows, versions
            if versions is not None:
                await run_in_threadpool(versions.pull)
            yield
            if versions is not None:
                await run_in_threadpool(versions.close)
        await run_in_threadpool(rows.close)

    routes = [
        Route("/survey/submit", submit, methods=["POST"]),
        Route("/survey/outcome", outcome, methods=["POST"]),
        Route("/production/rows", count),
        Route("/healthz", health),
    ]
    return Starlette(routes=routes, lifespan=living, exception_handlers={HTTPException: _refused})


app = make_app(from_environment(os.environ), versions=versions_from(os.environ))
