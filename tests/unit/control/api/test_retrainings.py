"""Retrainings over the API: who may, what is answered, what is not said twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.control.api.plane import Plane, control_plane
from tidegate.monitor_plan import MonitorPlan, RetrainPlan
from tidegate.settings import Control, EndpointSettings, Settings

PATH = "/api/v1/retrainings"
WATCHED = MonitorPlan(retrain=RetrainPlan(config="train.yaml"))
SETTINGS = Settings(
    endpoints={
        "iris": EndpointSettings(model="iris.onnx", monitor=WATCHED),
        "churn": EndpointSettings(model="churn.onnx"),
    },
    control=Control(requests_per_minute=100_000),
)


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    with control_plane(tmp_path, SETTINGS) as made:
        yield made


def test_one_is_asked_for_followed_and_cancelled(plane: Plane) -> None:
    headers = plane.headers()
    made = plane.client.post(PATH, json={"endpoint": "iris", "reason": "a new season"}, headers=headers)
    assert made.status_code == 202, made.text
    found = made.json()
    assert made.headers["location"] == f"{PATH}/{found['id']}"
    assert (found["state"], found["mode"], found["trigger"]) == ("queued", "combined", "person")
    assert found["author"].startswith("ada")
    assert plane.client.get(f"{PATH}/{found['id']}", headers=headers).json() == found
    assert plane.client.get(PATH, params={"endpoint": "iris"}, headers=headers).json() == {
        "items": [found],
        "next": None,
    }
    assert plane.client.get(PATH, params={"open": "false"}, headers=headers).json()["items"] == []
    twice = plane.client.post(PATH, json={"endpoint": "iris"}, headers=headers)
    assert twice.status_code == 409
    assert found["id"] in twice.json()["detail"]
    ended = plane.client.post(f"{PATH}/{found['id']}/cancel", json={"reason": "wrong data"}, headers=headers)
    assert (ended.json()["state"], ended.json()["events"][-1]["text"][-12:]) == ("ended", ": wrong data")
    assert {"retraining.start", "retraining.cancel", "job.cancel"} <= set(plane.actions())


def test_a_repeated_call_begins_nothing(plane: Plane) -> None:
    headers = plane.headers() | {"Idempotency-Key": "k1"}
    one, two = (plane.client.post(PATH, json={"endpoint": "iris"}, headers=headers) for _ in range(2))
    assert one.json() == two.json()
    assert two.headers["idempotent-replayed"] == "true"


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"endpoint": "churn"}, 422, "set endpoints.churn.monitor.retrain"),
        ({"endpoint": "plum"}, 404, "no endpoint 'plum'"),
        ({"endpoint": "iris", "mode": "all"}, 422, "mode"),
        ({"endpoint": "iris", "config": "/etc/passwd"}, 422, "config"),
        ({}, 422, "endpoint"),
    ],
)
def test_what_cannot_be_is_refused(plane: Plane, body: dict[str, str], status: int, said: str) -> None:
    answer = plane.client.post(PATH, json=body, headers=plane.headers())
    assert answer.status_code == status
    assert said in answer.text


def test_keys_see_their_own_endpoints(plane: Plane) -> None:
    id = plane.client.post(PATH, json={"endpoint": "iris"}, headers=plane.headers()).json()["id"]  # noqa: A001
    narrow = plane.headers(endpoints=("churn",))
    assert plane.client.get(PATH, headers=narrow).json()["items"] == []
    assert plane.client.get(f"{PATH}/outlook", headers=narrow).json()["items"] == []
    absent = plane.client.get(f"{PATH}/nobody", headers=narrow).json()["detail"].replace("nobody", id)
    for answer in (
        plane.client.get(f"{PATH}/{id}", headers=narrow),
        plane.client.post(f"{PATH}/{id}/cancel", headers=narrow),
    ):
        assert (answer.status_code, answer.json()["detail"]) == (404, absent)
    assert plane.client.post(PATH, json={"endpoint": "iris"}, headers=narrow).status_code == 403
    assert plane.client.get(PATH, headers=plane.headers("predict")).status_code == 403
    assert plane.client.get(PATH).status_code == 401


def test_why_nothing_begins_by_itself(plane: Plane) -> None:
    [outlook] = plane.client.get(f"{PATH}/outlook", headers=plane.headers()).json()["items"]
    assert (outlook["endpoint"], outlook["plan"]["config"], outlook["decision"]) == ("iris", "train.yaml", None)
