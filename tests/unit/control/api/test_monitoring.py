"""Monitors, baselines, drift reports and alerts over HTTP: who may see and do what, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.unit.control.api.plane import SETTINGS, Plane, control_plane
from tidegate.control.api import examples
from tidegate.control.api.alerts import AlertLine
from tidegate.control.api.baselines import CreateBaseline
from tidegate.control.monitoring import profiles
from tidegate.control.monitoring.comparison import Distribution, WindowView
from tidegate.control.monitoring.heat import Heat
from tidegate.control.monitoring.kept import Baseline
from tidegate.control.monitoring.monitor import Monitor
from tidegate.control.monitoring.records import Alert, DriftReport, Performance
from tidegate.monitor_plan import MonitorPlan
from tidegate.observations import PredictionEvent
from tidegate.settings import EndpointSettings, Settings
from tidegate.types import EndpointPlan, ModelRef, RoutingSnapshot, Variant

API = "/api/v1"
PLAN = MonitorPlan(reference="usual")


def watched() -> Settings:
    endpoints = {
        name: EndpointSettings(model=f"{name}.onnx", monitor=PLAN if name != "plain" else None)
        for name in ("iris", "churn", "plain")
    }
    return msgspec.structs.replace(SETTINGS, endpoints=endpoints)


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    with control_plane(tmp_path, watched()) as made:
        plans = {
            name: EndpointPlan(name, (Variant("baseline", ModelRef(f"{name}.onnx", "", "1")),))
            for name in ("iris", "churn")
        }
        with made.store.begin() as unit:
            unit.snapshots.publish(RoutingSnapshot(0, plans), reason="test", author="test", at=made.clock.wall())
        yield made


def rows(shift: float = 0.0) -> list[dict[str, Any]]:
    return [{"x": (number * 7) % 100 + shift, "kind": "ab"[number % 2]} for number in range(200)]


def send(plane: Plane, endpoint: str, shift: float) -> None:
    events = [
        PredictionEvent(
            request_id=f"{endpoint}{shift}{place}",
            process="p",
            endpoint=endpoint,
            variant="baseline",
            version="1",
            snapshot=2,
            time=plane.clock.wall(),
            inputs=msgspec.json.encode({name: [value] for name, value in row.items()}),
            outputs=b'{"predictions":[1]}',
        )
        for place, row in enumerate(rows(shift))
    ]
    with plane.store.begin() as unit:
        unit.events.add(events)


def make(plane: Plane, headers: dict[str, str], **body: Any) -> Any:
    return plane.client.post(f"{API}/baselines", json={"name": "usual", **body}, headers=headers)


def test_from_a_baseline_to_an_alert_and_its_silence(plane: Plane) -> None:
    headers = plane.headers()
    made = make(plane, headers, rows=rows(), endpoint="iris", reason="a quiet week")
    assert made.status_code == 201, made.text
    assert made.headers["location"] == f"{API}/baselines/usual"
    assert {one["name"]: one["kind"] for one in made.json()["columns"]} == {"x": "number", "kind": "category"}
    send(plane, "iris", 60.0)
    monitor = plane.client.post(f"{API}/monitors/iris/run", headers=headers)
    assert monitor.status_code == 200, monitor.text
    (variant,) = monitor.json()["variants"]
    assert (variant["baseline"], variant["drifted"]) == ("usual", ["x"])
    report = plane.client.get(f"{API}/drift-reports?endpoint=iris", headers=headers).json()["items"][0]
    assert plane.client.get(f"{API}/drift-reports/{report['id']}", headers=headers).json() == report
    heat = plane.client.get(f"{API}/monitors/iris/heat", headers=headers).json()
    assert [(one["column"], one["drifted"]) for one in heat["columns"]] == [("x", [True]), ("kind", [False])]
    shown = plane.client.get(f"{API}/monitors/iris/distribution?column=x", headers=headers).json()
    assert sum(bar["now"] for bar in shown["bars"]) == pytest.approx(1.0)
    assert shown["result"]["drifted"]
    window = plane.client.get(f"{API}/monitors/iris/window", headers=headers).json()
    assert window["columns"][0]["now"]["mean"] == pytest.approx(window["columns"][0]["then"]["mean"] + 60)
    alerts = plane.client.get(f"{API}/alerts?endpoint=iris&state=firing", headers=headers).json()["items"]
    alert = next(one for one in alerts if one["rule"] == "drift:baseline:x")
    path = f"{API}/alerts/{alert['id']}"
    silenced = plane.client.post(f"{path}/silence", json={"seconds": 60, "reason": "known"}, headers=headers).json()
    assert silenced["silenced_until"] == plane.clock.wall() + 60
    assert plane.client.post(f"{path}/unsilence", headers=headers).json()["silenced_until"] <= plane.clock.wall()
    events = plane.client.get(f"{path}/events", headers=headers).json()["items"]
    assert [one["change"]["event"] for one in events] == ["fired", "silence", "unsilence"]
    assert [one for one in plane.actions() if one.startswith(("alert", "baseline"))] == [
        "baseline.create",
        "alert.silence",
        "alert.unsilence",
    ]


def test_what_monitoring_shows_in_the_metrics(plane: Plane) -> None:
    make(plane, plane.headers(), rows=rows())
    send(plane, "iris", 60.0)
    send(plane, "churn", 0.0)
    assert 'tidegate_monitor_lag_seconds{endpoint="iris"} 0' in plane.client.get("/metrics").text
    plane.services.monitoring.run("iris")
    plane.clock.advance(30)
    text = plane.client.get("/metrics").text
    lines = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if line[0] != "#"}
    assert lines['tidegate_feature_drift{endpoint="iris",feature="x",method="psi"}'] > 0.5
    assert lines['tidegate_alerts_firing{endpoint="iris"}'] >= 1
    assert lines['tidegate_alerts_firing{endpoint="churn"}'] == 0
    assert lines['tidegate_monitor_lag_seconds{endpoint="churn"}'] == 30
    assert lines['tidegate_monitor_looked_seconds{endpoint="iris"}'] == 30
    assert "plain" not in text


def test_a_key_of_some_endpoints_sees_and_changes_theirs_alone(plane: Plane) -> None:
    """API1:2023: what is of others is answered in the words of what is not there."""
    everything, churn = plane.headers(), plane.headers(endpoints=("churn",))
    make(plane, everything, rows=rows(), endpoint="iris")
    send(plane, "iris", 60.0)
    plane.services.monitoring.run("iris")
    report, alert = plane.services.monitoring.reports()[0].id, plane.services.monitoring.alerts()[0].id
    for path in ("", "/heat", "/window", "/performance", "/distribution?column=x"):
        answer = plane.client.get(f"{API}/monitors/iris{path}", headers=churn)
        assert answer.status_code == 404
        assert "'iris' is not watched" in answer.json()["detail"]
    hidden = [
        ("GET", f"/drift-reports/{report}"),
        ("GET", f"/alerts/{alert}"),
        ("GET", f"/alerts/{alert}/events"),
        ("POST", f"/alerts/{alert}/unsilence"),
        ("GET", "/baselines/usual"),
        ("DELETE", "/baselines/usual"),
        ("POST", "/monitors/iris/run"),
    ]
    for method, path in hidden:
        assert plane.client.request(method, API + path, headers=churn).status_code == 404, path
        assert plane.client.request(method, API + path.replace("usual", "x"), headers=churn).status_code == 404
    for path in ("drift-reports", "alerts", "baselines"):
        assert plane.client.get(f"{API}/{path}", headers=churn).json()["items"] == []
        assert plane.client.get(f"{API}/{path}", headers=everything).json()["items"]
    listed = plane.client.get(f"{API}/monitors", headers=churn).json()["items"]
    assert [one["endpoint"] for one in listed] == ["churn"]
    assert make(plane, churn, rows=rows(), endpoint="iris").status_code == 403
    assert make(plane, churn, rows=rows()).status_code == 422
    assert plane.client.get(f"{API}/monitors", headers=plane.headers("predict")).status_code == 403


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 422, "give one of rows"),
        ({"rows": rows(), "model": "iris", "version": "1"}, 422, "give one of rows"),
        ({"rows": rows()[:5]}, 422, "5 rows; a baseline needs 20"),
        ({"rows": []}, 422, ""),
        ({"rows": rows(), "name": "../etc"}, 422, "regex"),
        ({"rows": rows(), "name": "training"}, 422, "neither 'training'"),
        ({"rows": rows(), "name": "rows.csv"}, 422, "nor that of a file"),
        ({"rows": rows(), "kinds": {"absent": "number"}}, 422, "absent"),
        ({"profile": {"columns": 3}}, 422, "no profile"),
        ({"profile": {}}, 422, "no reference profile"),
        ({"production": {"since": 5.0}}, 422, "which endpoint"),
        ({"production": {"since": 5.0, "until": 4.0}, "endpoint": "iris"}, 422, "since is before until"),
        ({"production": {"since": 5.0}, "endpoint": "iris"}, 422, "0 sampled predictions"),
        ({"model": "iris"}, 422, "version"),
        ({"model": "iris", "version": "7"}, 404, "no version 7 of iris"),
    ],
)
def test_baselines_that_cannot_be(plane: Plane, body: dict[str, Any], status: int, words: str) -> None:
    answer = make(plane, plane.headers(), **body)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["detail"]
    assert not plane.services.monitoring.baselines.list()


def test_a_baseline_of_production_and_of_a_profile(plane: Plane) -> None:
    headers = plane.headers()
    send(plane, "iris", 0.0)
    since = plane.clock.wall() - 60
    plane.clock.advance(1)
    made = make(plane, headers, endpoint="iris", production={"since": since})
    assert made.status_code == 201, made.text
    assert made.json()["rows"] == 200
    profile = msgspec.json.decode(profiles.encode(profiles.make_profile({"x": list(range(100))})))
    assert make(plane, headers, name="other", profile=profile).json()["rows"] == 100


def test_a_baseline_in_use_stays_and_names_are_given_once(plane: Plane) -> None:
    headers = plane.headers()
    make(plane, headers, rows=rows())
    again = make(plane, headers, rows=rows(5.0))
    assert again.status_code == 409
    assert "already" in again.json()["detail"]
    used = plane.client.delete(f"{API}/baselines/usual", headers=headers)
    assert used.status_code == 409
    assert "the monitor of iris uses usual" in used.json()["detail"]
    make(plane, headers, name="spare", rows=rows())
    body = {"reason": "not needed"}
    assert plane.client.request("DELETE", f"{API}/baselines/spare", json=body, headers=headers).status_code == 204
    assert plane.client.get(f"{API}/baselines/spare", headers=headers).status_code == 404


@pytest.mark.slow
def test_a_large_body_is_taken_here_and_no_further(plane: Plane) -> None:
    headers = plane.headers()
    large = [{"x": float(place), "text": "y" * 100} for place in range(20_000)]  # about 2.5 MB
    assert make(plane, headers, rows=large).status_code == 201
    body = b'{"name":"huge","rows":[' + b"[" * (17 * 2**20)
    assert plane.client.post(f"{API}/baselines", content=body, headers=headers).status_code == 413


def test_a_key_of_some_endpoints_decides_nothing_for_others(plane: Plane) -> None:
    """By name a baseline is found, whoever made it: of a model's profile, for another's monitor, in a report on its own."""
    everything, plain, churn = (plane.headers(endpoints=names) for names in ((), ("plain",), ("churn",)))
    taken = make(plane, plain, rows=rows(), endpoint="plain")
    assert (taken.status_code, "kept for a monitor" in taken.text) == (403, True), taken.text
    copied = make(plane, plain, name="mine", model="iris", version="1", endpoint="plain")
    assert (copied.status_code, "may be of any" in copied.text) == (403, True), copied.text
    assert make(plane, everything, rows=rows(), endpoint="iris").status_code == 201
    asked = {"kind": "drift", "endpoint": "churn", "baseline": "usual"}
    hidden = plane.client.post(f"{API}/reports", json=asked, headers=churn)
    absent = plane.client.post(f"{API}/reports", json=asked | {"baseline": "other"}, headers=churn)
    assert (hidden.status_code, absent.status_code) == (404, 404)
    assert hidden.json()["detail"].replace("usual", "other") == absent.json()["detail"]
    assert plane.client.post(f"{API}/reports", json=asked, headers=everything).status_code == 202
    assert make(plane, churn, name="own", rows=rows(), endpoint="churn").status_code == 201
    assert plane.client.post(f"{API}/reports", json=asked | {"baseline": "own"}, headers=churn).status_code == 202


def test_a_small_body_of_very_many_values_is_refused(plane: Plane) -> None:
    """Ten thousand names in one row, and a row of nothing again and again: 300 kB that were eight gigabytes as columns."""
    wide = {f"c{number}": 0 for number in range(9_000)}
    body = {"name": "wide", "endpoint": "iris", "rows": [wide, *({} for _ in range(50_000))]}
    answer = plane.client.post(f"{API}/baselines", json=body, headers=plane.headers())
    assert (answer.status_code, "more than 4,000,000 values" in answer.text) == (422, True), answer.text[:300]


def test_the_same_key_makes_a_baseline_once(plane: Plane) -> None:
    headers = plane.headers() | {"Idempotency-Key": "k1"}
    first, second = make(plane, headers, rows=rows()), make(plane, headers, rows=rows())
    assert (first.status_code, second.status_code) == (201, 201)
    assert second.headers["idempotent-replayed"] == "true"
    assert second.json() == first.json()


def test_what_is_not_watched_is_told_how_to_be(plane: Plane) -> None:
    answer = plane.client.get(f"{API}/monitors/plain", headers=plane.headers())
    assert answer.status_code == 404
    assert "endpoints.plain.monitor" in answer.json()["detail"]
    answer = plane.client.get(f"{API}/monitors/iris/heat?since=9&until=3", headers=plane.headers())
    assert answer.status_code == 422


@pytest.mark.parametrize(
    ("example", "kind"),
    [
        (examples.MONITOR, Monitor),
        (examples.HEAT, Heat),
        (examples.DISTRIBUTION, Distribution),
        (examples.WINDOW_VIEW, WindowView),
        (examples.PERFORMANCE, Performance),
        (examples.DRIFT_REPORT, DriftReport),
        (examples.ALERT, Alert),
        (examples.ALERT_LINE, AlertLine),
        (examples.BASELINE, Baseline),
        (examples.CREATE_BASELINE, CreateBaseline),
    ],
)
def test_examples_are_what_they_stand_for(example: Any, kind: type) -> None:
    assert msgspec.convert(example, kind)
