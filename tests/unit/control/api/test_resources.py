from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import select

from tests.unit.control.api.plane import Plane
from tidegate.control.access.audit import Verification
from tidegate.control.access.keys import KeyView
from tidegate.control.api import examples
from tidegate.control.api.audit import AuditEvent
from tidegate.control.api.endpoints import EndpointView
from tidegate.control.api.feedback import FeedbackIn
from tidegate.control.api.keys import CreateKey, RotateKey
from tidegate.control.api.models import RegisterModel, SetAlias
from tidegate.control.api.releases import Act, StartRelease
from tidegate.control.api.session import SessionView
from tidegate.control.api.snapshots import SnapshotView
from tidegate.control.experiments.experiment import Spec
from tidegate.control.figures import InstanceHealth
from tidegate.control.registry.base import ModelVersion
from tidegate.control.releases.history import Line
from tidegate.control.releases.look import Point
from tidegate.control.releases.release import Release
from tidegate.observations import Beat, PredictionEvent
from tidegate.storage.tables import feedback
from tidegate.types import EndpointPlan, ModelRef, RoutingSnapshot, Variant

EXAMPLES = [
    (examples.RELEASE, Release),
    (examples.START_RELEASE, StartRelease),
    (examples.ACT, Act),
    (examples.LINE, Line),
    (examples.POINT, Point),
    (examples.ENDPOINT, EndpointView),
    (examples.INSTANCE, InstanceHealth),
    (examples.SNAPSHOT, SnapshotView),
    (examples.KEY, KeyView),
    (examples.CREATE_KEY, CreateKey),
    (examples.ROTATE, RotateKey),
    (examples.AUDIT, AuditEvent),
    (examples.VERIFICATION, Verification),
    (examples.MODEL, ModelVersion),
    (examples.REGISTER, RegisterModel),
    (examples.ALIAS, SetAlias),
    (examples.SPEC, Spec),
    (examples.SESSION, SessionView),
    (examples.FEEDBACK, FeedbackIn),
]


@pytest.mark.parametrize(("example", "kind"), EXAMPLES, ids=lambda value: getattr(value, "__name__", ""))
def test_every_example_is_what_it_stands_for(example: dict[str, Any], kind: Any) -> None:
    assert msgspec.convert(example, kind)
    assert set(example) <= set(kind.__struct_fields__)


def test_an_endpoint_shows_who_has_what_since_when(plane: Plane) -> None:
    now = plane.clock.wall()
    plan = EndpointPlan("iris", (Variant("baseline", ModelRef("m", "iris", "3")),))
    with plane.store.begin() as unit:
        number = unit.snapshots.publish(
            RoutingSnapshot(0, {"iris": plan, "churn": msgspec.structs.replace(plan, name="churn")}, "iris"),
            reason="r", author="a", at=now,
        ).number  # fmt: skip
        for name, delay in (("a:1", 0.2), ("b:1", 0.4)):
            models = {"iris": {"baseline": "3"}, "churn": {"baseline": "3"}}
            unit.instances.beat(
                Beat(
                    instance=name,
                    host="h",
                    port=1,
                    pid=1,
                    workers=1,
                    started=now,
                    time=now,
                    snapshot=number,
                    models=models,
                )
            )
            if name == "a:1":
                unit.instances.acknowledge(number, name, now + delay)
    headers = plane.headers(endpoints=("iris",))
    view = plane.client.get("/api/v1/endpoints/iris", headers=headers).json()
    assert (view["snapshot"], view["effect_seconds"], view["is_default"]) == (number, None, True)
    assert view["plan"][0]["version"] == "3"
    with plane.store.begin() as unit:
        unit.instances.acknowledge(number, "b:1", now + 0.4)
    view = plane.client.get("/api/v1/endpoints/iris", headers=headers).json()
    assert view["effect_seconds"] == pytest.approx(0.4)
    assert {one["instance"]: one["effect_seconds"] for one in view["instances"]} == pytest.approx(
        {"a:1": 0.2, "b:1": 0.4}
    )
    instances = plane.client.get("/api/v1/instances", headers=headers).json()["items"]
    assert [list(one["beat"]["models"]) for one in instances] == [["iris"], ["iris"]]
    shown = plane.client.get(f"/api/v1/snapshots/{number}", headers=headers).json()
    assert list(shown["snapshot"]["endpoints"]) == ["iris"]
    assert len(shown["acknowledgements"]) == 2
    assert plane.client.get("/api/v1/snapshots/99", headers=headers).status_code == 404
    assert plane.client.get("/api/v1/snapshots/0", headers=headers).status_code == 422
    with plane.store.begin() as unit:  # one that starts an hour later says nothing of how long the decision took
        late = Beat(
            instance="c:1", host="h", port=1, pid=1, workers=1, started=now + 3600, time=now + 3600, snapshot=number
        )
        unit.instances.beat(late)
        unit.instances.acknowledge(number, "c:1", now + 3600)
    plane.clock.advance(3600)
    assert "\ntidegate_snapshot_effect_seconds 0.4\n" in plane.client.get("/metrics").text
    with plane.store.begin() as unit:
        unit.instances.beat(msgspec.structs.replace(late, instance="b:1"))
        unit.instances.acknowledge(number, "b:1", now + 3600)
    view = plane.client.get("/api/v1/endpoints/iris", headers=headers).json()
    assert {one["instance"]: one["effect_seconds"] for one in view["instances"]}["b:1"] is None


def test_feedback_is_kept_and_counted(plane: Plane) -> None:
    predict, operate = plane.headers("predict"), plane.headers()
    with plane.store.begin() as unit:
        unit.events.add(
            [
                PredictionEvent(
                    request_id="q1",
                    process="p",
                    endpoint="iris",
                    variant="b",
                    version="1",
                    snapshot=2,
                    time=1.0,
                    rows=2,
                )
            ]
        )
    one = {"request_id": "q1", "metric": "accuracy", "label": "setosa"}
    several = [
        one,
        {"request_id": "q2", "metric": "accuracy", "value": 1.0},
        {"unit": "u1", "metric": "bought", "value": 0},
        {"request_id": "q1", "row": 1, "metric": "accuracy", "label": 2.0},
    ]
    assert plane.client.post("/api/v1/feedback", json=one, headers=predict).json() == {"accepted": 1, "duplicates": 0}
    assert plane.client.post("/api/v1/feedback", json=several, headers=predict).json() == {
        "accepted": 3,
        "duplicates": 1,
    }
    with plane.store.read() as unit:
        sent = [one.feedback for one in unit.feedback.labels("iris", "accuracy", 0.0, 9.0)]
    assert {(one.row, one.label) for one in sent} == {(None, "setosa"), (1, "2")}
    counts = plane.client.get("/api/v1/feedback", headers=operate).json()
    assert counts["by_metric"] == {"accuracy": 3, "bought": 1}
    assert counts["unknown"] >= 1
    for endpoints in (("iris",), ("iris", "churn")):
        of_some = plane.headers("operate", endpoints=endpoints)
        left = {"request_id": "q3", "metric": "left", "value": 1.0, "endpoint": "iris"}
        plane.client.post("/api/v1/feedback", json=left, headers=predict)
        answer = plane.client.get("/api/v1/feedback", headers=of_some).json()
        assert answer == {"total": 1, "unknown": 1, "by_metric": {"left": 1}}
    mistakes: list[Any] = [
        {"metric": "a"},
        {"metric": "a" * 257, "request_id": "q", "value": 1},
        {"metric": "a", "request_id": "q", "value": 1, "label": "one of both"},
        {"metric": "a", "request_id": "q", "label": 1e300},
        {"metric": "a", "request_id": "q", "value": 1, "time": "yesterday"},
        {"metric": "a", "request_id": "q"},
        {"metric": "", "request_id": "q", "value": 1},
        {"metric": "a", "unit": "u", "row": 0, "value": 1},
        {"metric": "a", "request_id": "q", "row": -1, "value": 1},
        [],
    ]
    for wrong in mistakes:
        assert plane.client.post("/api/v1/feedback", json=wrong, headers=predict).status_code == 422


def test_feedback_is_read_as_on_the_data_port(plane: Plane) -> None:
    sent = {"metric": "m" * 256, "request_id": "q", "value": True, "unit": None, "time": "1970-01-01T00:01:00Z"}
    answer = plane.client.post("/api/v1/feedback", json=sent, headers=plane.headers("predict"))
    assert (answer.status_code, answer.json()) == (200, {"accepted": 1, "duplicates": 0})
    with plane.store.read() as unit:
        [(value, time)] = unit.connection.execute(select(feedback.c.value, feedback.c.time)).all()
    assert (value, time) == (1.0, 60.0)
    wrong = [sent, {**sent, "time": "soon"}, {"metric": "m", "unit": "u", "value": "much"}]
    problem = plane.client.post("/api/v1/feedback", json=wrong, headers=plane.headers("predict")).json()
    assert [one["loc"] for one in problem["errors"]] == [[1, "time"], [2, "value"]]
    assert plane.client.post("/api/v1/feedback", json=7, headers=plane.headers("predict")).status_code == 400
    many = plane.client.post("/api/v1/feedback", json=[sent] * 10_001, headers=plane.headers("predict"))
    assert many.status_code == 413


def test_a_request_that_several_endpoints_answered_is_labelled_by_a_key_of_one(plane: Plane) -> None:
    """Whichever of them was asked first; what only others answered is not the key's."""
    made: dict[str, Any] = {"process": "p", "variant": "b", "version": "1", "snapshot": 2}
    asked = [("both", "iris", 1.0), ("both", "churn", 2.0), ("theirs", "iris", 3.0)]
    with plane.store.begin() as unit:
        unit.events.add([PredictionEvent(request_id=a, endpoint=b, time=c, **made) for a, b, c in asked])
    limited = plane.headers("predict", endpoints=("churn",))

    def send(request: str) -> int:
        body = {"request_id": request, "metric": "accuracy", "label": "x"}
        return plane.client.post("/api/v1/feedback", json=body, headers=limited).status_code

    assert [send("both"), send("unknown"), send("theirs")] == [200, 200, 403]
    with plane.store.read() as unit:
        assert [one.event.time for one in unit.feedback.labels("churn", "accuracy", 0.0, 9.0)] == [2.0]


def test_models_are_registered_and_aliases_moved(plane: Plane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "iris.onnx").write_bytes(b"not read as a model by the registry")
    headers = plane.headers()
    url = "/api/v1/models"
    body = {"name": "iris", "uri": "iris.onnx", "aliases": ["challenger"], "metadata": {"run": "7"}}
    made = plane.client.post(url, json=body, headers=headers)
    assert made.status_code == 201, made.text
    assert made.headers["location"] == f"{url}/iris/1"
    assert plane.client.get(f"{url}/iris/challenger", headers=headers).json()["version"] == "1"
    alias = {"alias": "champion", "version": "1", "reason": "by hand"}
    assert plane.client.post(f"{url}/iris/aliases", json=alias, headers=headers).status_code == 204
    assert "champion" in plane.client.get(f"{url}/iris", headers=headers).json()["items"][0]["aliases"]
    assert [one["name"] for one in plane.client.get(url, headers=headers).json()["items"]] == ["iris"]
    missing = {"alias": "champion", "version": "9"}
    assert plane.client.post(f"{url}/iris/aliases", json=missing, headers=headers).status_code == 404
    assert plane.actions()[-4:] == ["model.register", "model.alias", "model.alias", "model.alias-failed"]


def test_keys_are_managed_by_administrators(plane: Plane) -> None:
    admin = plane.headers("admin")
    url = "/api/v1/api-keys"
    made = plane.client.post(
        url, json={"name": "ci", "roles": ["operate"], "expires_seconds": 60}, headers=admin
    ).json()
    assert plane.client.get("/api/v1/releases", headers={"X-API-Key": made["key"]}).status_code == 200
    new = plane.client.post(f"{url}/{made['view']['id']}/rotate", json={"grace_seconds": 30}, headers=admin).json()
    assert new["view"]["id"] != made["view"]["id"]
    plane.clock.advance(31)
    assert plane.client.get("/api/v1/releases", headers={"X-API-Key": made["key"]}).status_code == 401
    assert plane.client.get("/api/v1/releases", headers={"X-API-Key": new["key"]}).status_code == 200
    assert plane.client.post(f"{url}/{new['view']['id']}/revoke", headers=admin).json()["state"] == "revoked"
    assert plane.client.get(f"{url}/{new['view']['id']}", headers=admin).json()["state"] == "revoked"
    assert plane.client.post(f"{url}/nobody/revoke", headers=admin).status_code == 404
    for wrong in (
        {"name": ""},
        {"name": "a", "roles": []},
        {"name": "a", "roles": ["root"]},
        {"name": "a", "rows": -1},
    ):
        assert plane.client.post(url, json=wrong, headers=admin).status_code == 422


def test_the_audit_log_is_read_and_verified(plane: Plane) -> None:
    admin = plane.headers("admin")
    for number in range(4):
        plane.client.post("/api/v1/api-keys", json={"name": f"k{number}", "reason": "test"}, headers=admin)
    url = "/api/v1/audit-events"
    first = plane.client.get(url, params={"limit": 3}, headers=admin).json()
    second = plane.client.get(url, params={"limit": 3, "cursor": first["next"]}, headers=admin).json()
    numbers = [one["sequence"] for one in first["items"] + second["items"]]
    assert numbers == sorted(numbers, reverse=True)
    newest = first["items"][0]
    assert newest["change"]["reason"] == "test"
    assert newest["change"]["origin"]["address"] == "192.0.2.7"
    assert newest["who"].startswith("ada (")
    of_one = plane.client.get(url, params={"target": newest["target"]}, headers=admin).json()["items"]
    assert [one["sequence"] for one in of_one] == [newest["sequence"]]
    found = plane.client.get(f"{url}/verification", headers=admin).json()
    assert found["whole"]
    head = f"{newest['sequence']}:{newest['hash']}"
    assert plane.client.get(f"{url}/verification", params={"head": head}, headers=admin).json()["whole"]
    other = f"{newest['sequence']}:{'0' * 64}"
    assert not plane.client.get(f"{url}/verification", params={"head": other}, headers=admin).json()["whole"]
    assert plane.client.get(f"{url}/verification", params={"head": "x"}, headers=admin).status_code == 422


def test_experiments_pass_through(plane: Plane) -> None:
    headers = plane.headers()
    url = "/api/v1/experiments"
    spec = examples.SPEC | {"reason": "to see", "arms": [{"name": "b", "model": "models:/iris/4", "share": 50}]}
    assert plane.client.get(url, headers=headers).json() == {"items": [], "next": None}
    assert plane.client.get(f"{url}/nothing", headers=headers).status_code == 404
    assert plane.client.post(url, json=spec, headers=headers).status_code == 422  # no such model is registered
    assert plane.client.post(url, json=spec | {"shares": 1}, headers=headers).status_code == 422
    assert plane.client.post(url, json=spec, headers=plane.headers(endpoints=("churn",))).status_code == 403
