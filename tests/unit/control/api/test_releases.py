from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.unit.control.api.plane import SETTINGS, Plane, control_plane, started
from tidegate.settings import EndpointSettings, Guardrail, PrometheusGuardrail, ReleaseSettings

URL = "/api/v1/releases"


def test_a_release_is_started_and_found(plane: Plane) -> None:
    headers = plane.headers()
    body = {"endpoint": "iris", "model": "models:/iris/4", "reason": "retrained", "plan": {"steps": [10, 100]}}
    answer = plane.client.post(URL, json=body, headers=headers)
    assert answer.status_code == 201
    assert answer.headers["location"] == f"{URL}/{answer.json()['id']}"
    found = plane.client.get(answer.headers["location"], headers=headers).json()
    assert found["plan"]["steps"] == [10, 100]
    assert found["author"].startswith("ada (")


@pytest.mark.parametrize(
    ("body", "status", "loc"),
    [
        ({"endpoint": "iris"}, 422, ["body"]),
        ({"endpoint": "iris", "model": "models:/iris/4", "share": 5}, 422, ["body"]),
        ({"endpoint": "iris", "model": 4}, 422, ["model"]),
        ({"endpoint": "iris", "model": "m", "plan": {"steps": [0]}}, 422, ["plan", "steps", 0]),
        (b"{", 400, None),
        (b"\xff", 400, None),
    ],
)
def test_wrong_bodies_are_refused_with_their_place(plane: Plane, body: Any, status: int, loc: Any) -> None:
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    headers = plane.headers() | {"Content-Type": "application/json"}
    answer = plane.client.post(URL, content=raw, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["request_id"] == answer.headers["x-request-id"]
    if loc is not None:
        assert problem["errors"][0]["loc"] == loc


def test_a_person_steps_in_with_a_reason(plane: Plane) -> None:
    headers = plane.headers()
    release = started(plane, headers)
    answer = plane.client.post(f"{URL}/{release}/pause", json={"reason": "lunch"}, headers=headers)
    assert answer.json()["state"] == "paused"
    assert answer.json()["reason"] == "lunch"
    assert plane.client.post(f"{URL}/{release}/pause", headers=headers).status_code == 409
    assert plane.client.post(f"{URL}/{release}/resume", headers=headers).json()["state"] == "ramping"
    assert plane.client.post(f"{URL}/{release}/rollback", headers=headers).json()["state"] == "rolled_back"
    assert [one["kind"] for one in plane.client.get(f"{URL}/{release}/history", headers=headers).json()["items"]] == [
        "started", "paused", "ramping", "rolled_back",
    ]  # fmt: skip
    assert len(plane.client.get(f"{URL}/{release}/evidence", headers=headers).json()["items"]) == 3
    assert plane.client.get(f"{URL}/{release}/replay", headers=headers).json()["agrees"] is True


def test_lists_go_on_after_the_cursor(plane: Plane) -> None:
    headers = plane.headers()
    made = []
    for _ in range(5):
        made.append(started(plane, headers))
        plane.client.post(f"{URL}/{made[-1]}/rollback", headers=headers)
        plane.clock.advance(1)
    seen, cursor = [], None
    while True:
        page = plane.client.get(
            URL, params={"limit": 2} | ({"cursor": cursor} if cursor else {}), headers=headers
        ).json()
        seen += [one["id"] for one in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == made[::-1]
    assert plane.client.get(URL, params={"open": True}, headers=headers).json() == {"items": [], "next": None}
    assert plane.client.get(URL, params={"cursor": "?!"}, headers=headers).status_code == 422
    assert plane.client.get(URL, params={"limit": 0}, headers=headers).status_code == 422
    assert plane.client.get(URL, params={"limit": 9999}, headers=headers).status_code == 422


def test_a_key_sees_and_changes_only_its_endpoints(plane: Plane) -> None:
    everything, scoped = plane.headers(), plane.headers(endpoints=("churn",))
    iris, churn = started(plane, everything), started(plane, everything, "churn")
    shown = plane.client.get(URL, headers=scoped).json()["items"]
    assert [one["id"] for one in shown] == [churn]
    for path in ("", "/history", "/evidence", "/replay", "/events"):
        assert plane.client.get(f"{URL}/{iris}{path}", headers=scoped).status_code == 404
    assert plane.client.post(f"{URL}/{iris}/promote", headers=scoped).status_code == 404
    start = {"endpoint": "iris", "model": "models:/iris/5"}
    assert plane.client.post(URL, json=start, headers=scoped).status_code == 403


def test_the_password_of_a_prometheus_server_is_kept_and_never_shown(tmp_path: Path) -> None:
    url = "http://ann:hunter2@prometheus:9090/base"
    plan = ReleaseSettings(guardrails=(Guardrail(prometheus=PrometheusGuardrail(query="up", max=1, url=url)),))
    iris = EndpointSettings(model="iris.onnx", release=plan)
    with control_plane(tmp_path, msgspec.structs.replace(SETTINGS, endpoints={"iris": iris})) as plane:
        headers = plane.headers() | {"Idempotency-Key": "once"}
        body = {"endpoint": "iris", "model": "models:/iris/4", "plan": msgspec.to_builtins(plan)}
        begun = plane.client.post(URL, json=body, headers=headers)
        one = f"{URL}/{begun.json()['id']}"
        answers = [
            begun,
            plane.client.post(URL, json=body, headers=headers),
            plane.client.get(URL, headers=headers),
            plane.client.get(one, headers=headers),
            plane.client.post(f"{one}/rollback", headers=plane.headers()),
            plane.client.get(f"{one}/events", headers=headers),
        ]
        for answer in answers:
            assert answer.status_code < 300
            assert "http://prometheus:9090/base" in answer.text
            assert "hunter2" not in answer.text
        with plane.store.read() as unit:
            row = unit.releases.get(begun.json()["id"])
        assert row is not None
        assert url in row.body
