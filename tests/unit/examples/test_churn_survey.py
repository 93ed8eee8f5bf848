"""The survey of ``examples/churn`` against a Tidegate that answers as it was told to; ``test_churn.py`` has a real one."""

from __future__ import annotations

import csv
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from churn.generator import FEATURES, LABEL, NUMBERS, TEXTS, make, records
from churn.survey import LARGEST_BODY, Config, from_environment, make_app
from churn.versions import PUSH_SECONDS, Versions
from churn.workflow import app as workflow

ROW = {name: value for name, value in next(iter(records(make(1, seed=3)))).items() if name in FEATURES}


class Tidegate:
    """What it was asked, and what it answers."""

    def __init__(self) -> None:
        self.asked: list[httpx.Request] = []
        self.refusal: httpx.Response | Exception | None = None
        self.scores = {"no": 0.25, "yes": 0.75}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if isinstance(self.refusal, Exception):
            raise self.refusal
        if self.refusal is not None:
            return self.refusal
        if request.url.path == "/feedback":
            return httpx.Response(200, json={"accepted": 1, "duplicates": 0})
        predicted = max(self.scores, key=self.scores.__getitem__)
        answer = {
            "predictions": [predicted],
            "scores": [list(self.scores.values())],
            "labels": [predicted],
            "model": {"endpoint": "churn", "name": "churn", "version": "3", "variant": "simple"},
            "request_id": request.headers["x-request-id"],
        }
        return httpx.Response(200, json=answer)

    @property
    def bodies(self) -> list[tuple[str, Any]]:
        return [(request.url.path, json.loads(request.content)) for request in self.asked]


@asynccontextmanager
async def survey(
    folder: Path, tidegate: Tidegate, versions: Versions | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    config = Config(
        tidegate="http://tidegate.test",
        key="tg_key",
        unit_header="X-Customer",
        endpoint="churn",
        database=f"sqlite:///{folder / 'new' / 'survey.db'}",
    )
    app = make_app(config, httpx.MockTransport(tidegate), versions)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://survey.test") as client,
    ):
        yield client


async def submit(client: httpx.AsyncClient, **more: Any) -> httpx.Response:
    return await client.post("/survey/submit", json={"customer_id": "c1", "answers": ROW} | more)


async def counts(client: httpx.AsyncClient) -> dict[str, int]:
    found: dict[str, int] = (await client.get("/production/rows")).json()
    return found


async def test_a_prediction_comes_back_with_its_variant_and_request(tmp_path: Path) -> None:
    tidegate = Tidegate()
    async with survey(tmp_path, tidegate) as client:
        answer = await submit(client)
        assert answer.status_code == 201
        told = answer.json()
        assert await counts(client) == {"rows": 0, "waiting": 1}
    (asked,) = tidegate.asked
    assert asked.url == "http://tidegate.test/predict/churn"
    assert (asked.headers["x-customer"], asked.headers["x-api-key"]) == ("c1", "tg_key")
    assert json.loads(asked.content) == {"records": [ROW]}
    assert told == {
        "request_id": asked.headers["x-request-id"],
        "prediction": "yes",
        "chance_to_leave": 0.75,
        "variant": "simple",
        "version": "3",
        "labelled": False,
    }


@pytest.mark.parametrize("chance", [0.125, 0.75])
async def test_the_chance_is_that_of_leaving_whatever_is_predicted(tmp_path: Path, chance: float) -> None:
    tidegate = Tidegate()
    tidegate.scores = {"no": 1 - chance, "yes": chance}
    async with survey(tmp_path, tidegate) as client:
        assert (await submit(client)).json()["chance_to_leave"] == chance


@pytest.mark.parametrize("at_once", [True, False])
async def test_what_became_of_the_customer_is_told_and_kept(tmp_path: Path, at_once: bool) -> None:
    tidegate = Tidegate()
    async with survey(tmp_path, tidegate) as client:
        told = (await submit(client, **({"churned": True} if at_once else {}))).json()
        if not at_once:
            body = {"request_id": told["request_id"], "churned": True}
            assert (await client.post("/survey/outcome", json=body)).status_code == 200
            assert (await client.post("/survey/outcome", json=body)).status_code == 200, "twice is the same as once"
        assert await counts(client) == {"rows": 1, "waiting": 0}
    path, body = tidegate.bodies[1]
    assert path == "/feedback"
    about = {"request_id": told["request_id"], "endpoint": "churn"}
    assert body == [{**about, "metric": "accuracy", "label": "yes"}, {**about, "metric": "stayed", "value": False}]


async def test_an_answer_that_was_left_out_is_missing(tmp_path: Path) -> None:
    tidegate = Tidegate()
    async with survey(tmp_path, tidegate) as client:
        assert (await submit(client, answers={"age": 41})).status_code == 201
    assert tidegate.bodies[0][1] == {"records": [{name: 41 if name == "age" else None for name in FEATURES}]}


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"{", 400, "not JSON"),
        (b"\xff", 400, "not JSON"),
        (b"[]", 422, "Expected `object`"),
        (b'{"customer_id": "c", "answers": {}, "more": 1}', 422, "more"),
        (b'{"customer_id": "a b", "answers": {}}', 422, "customer_id"),
        (b'{"customer_id": "c", "answers": {"shoe_size": 44}}', 422, '"shoe_size" is none of'),
        (b'{"customer_id": "c", "answers": {"age": [1]}}', 422, "answers"),
        (b'{"customer_id": "c", "answers": {"region": "' + b"x" * 300 + b'"}}', 422, "answers"),
        (b" " * (LARGEST_BODY + 1), 413, "64 KiB"),
    ],
)
async def test_a_wrong_survey_is_refused_and_asks_nothing(tmp_path: Path, body: bytes, status: int, text: str) -> None:
    tidegate = Tidegate()
    async with survey(tmp_path, tidegate) as client:
        answer = await client.post("/survey/submit", content=body)
        assert (answer.status_code, tidegate.asked) == (status, [])
        assert text in answer.json()["detail"]
        assert await counts(client) == {"rows": 0, "waiting": 0}


async def test_an_outcome_of_nothing_is_not_found(tmp_path: Path) -> None:
    tidegate = Tidegate()
    async with survey(tmp_path, tidegate) as client:
        answer = await client.post("/survey/outcome", json={"request_id": "r1", "churned": False})
        assert (answer.status_code, tidegate.asked) == (404, [])


@pytest.mark.parametrize(
    ("refusal", "status", "detail", "headers"),
    [
        (httpx.ConnectError("refused"), 503, "no prediction", {"retry-after": "1"}),
        (httpx.Response(401, json={"detail": "no key"}), 503, "refuses this service's key", {}),
        (httpx.Response(422, json={"detail": 'row 0, column "age": expected number'}), 422, 'column "age"', {}),
        (
            httpx.Response(429, json={"detail": "slower"}, headers={"Retry-After": "7"}),
            429,
            "slower",
            {"retry-after": "7"},
        ),
    ],
)
async def test_tidegate_s_refusals_reach_the_customer(
    tmp_path: Path, refusal: httpx.Response | Exception, status: int, detail: str, headers: Mapping[str, str]
) -> None:
    tidegate = Tidegate()
    async with survey(tmp_path, tidegate) as client:
        tidegate.refusal = refusal
        answer = await submit(client)
        assert answer.status_code == status
        assert detail in answer.json()["detail"]
        assert headers.items() <= dict(answer.headers).items()
        assert await counts(client) == {"rows": 0, "waiting": 0}


async def test_feedback_that_fails_leaves_the_row_waiting(tmp_path: Path) -> None:
    tidegate = Tidegate()
    async with survey(tmp_path, tidegate) as client:
        told = (await submit(client)).json()
        tidegate.refusal = httpx.Response(503, json={"detail": "the store is away"}, headers={"Retry-After": "2"})
        body = {"request_id": told["request_id"], "churned": False}
        assert (await client.post("/survey/outcome", json=body)).status_code == 503
        assert await counts(client) == {"rows": 0, "waiting": 1}
        tidegate.refusal = None
        assert (await client.post("/survey/outcome", json=body)).status_code == 200
        assert await counts(client) == {"rows": 1, "waiting": 0}


async def test_the_production_set_becomes_a_table_that_can_be_trained_on(tmp_path: Path) -> None:
    async with survey(tmp_path, Tidegate()) as client:
        await submit(client, churned=False)
        await submit(client)
    file = tmp_path / "data" / "production.csv"
    environment = {"DATABASE_URL": f"sqlite:///{tmp_path / 'new' / 'survey.db'}"}
    done = CliRunner().invoke(workflow, ["features", "--output", str(file)], env=environment)
    assert done.exit_code == 0, done.output
    assert "1 customers of 1 labelled rows" in done.output
    with file.open(encoding="utf-8", newline="") as lines:
        (found,) = csv.DictReader(lines)
    assert found.pop("customer_id") == "c1"
    assert found.pop(LABEL) == "no"
    assert {name: float(found[name]) if found[name] else None for name in NUMBERS} == {
        name: ROW[name] for name in NUMBERS
    }
    assert {name: found[name] for name in TEXTS} == {name: ROW[name] for name in TEXTS}


def test_the_environment_says_where_everything_is() -> None:
    config = from_environment(
        {"AB_STICKY_HEADER": "X-C", "DATABASE_URL": "postgresql://db/x", "TIDEGATE_URL": "http://t"}
    )
    assert (config.unit_header, config.database, config.tidegate) == ("X-C", "postgresql://db/x", "http://t")
    assert from_environment({}).database.startswith("sqlite:///")


def control(status: int, asked: list[dict[str, Any]]) -> httpx.MockTransport:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["x-api-key"] == "tg_operate"
        assert request.headers["idempotency-key"]
        assert request.url == "http://control.test/api/v1/jobs"
        asked.append(json.loads(request.content))
        return httpx.Response(status, json={})

    return httpx.MockTransport(answer)


@pytest.mark.parametrize("status", [202, 503])
async def test_rows_are_pulled_at_the_start_and_pushed_after_so_many_outcomes(tmp_path: Path, status: int) -> None:
    """What Tidegate refuses costs no customer an answer."""
    asked: list[dict[str, Any]] = []
    now = [1000.0]
    transport = control(status, asked)
    versions = Versions(tmp_path, "http://control.test", "tg_operate", 2, transport, lambda: now[0])
    async with survey(tmp_path, Tidegate(), versions) as client:
        assert [one["kind"] for one in asked] == ["dvc-pull"]
        for number in range(7):
            if number == 5:
                assert len(asked) == 2, "those that come faster wait for the next push"
                now[0] += PUSH_SECONDS
            answer = await submit(client, customer_id=f"c{number}", churned=True)
            assert answer.status_code == 201
    assert [one["kind"] for one in asked] == ["dvc-pull", "dvc-push", "dvc-push"]
    assert asked[-1]["targets"] == ["data/production.csv"]
    assert asked[-1]["commit"] == "6 labelled customers"
    assert len((tmp_path / "data" / "production.csv").read_text().splitlines()) == 1 + 6
