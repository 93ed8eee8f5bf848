"""Reports over the API: asked for as jobs, kept, listed, opened in a sandbox, and seen by those who may."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.unit.control.api.plane import Plane
from tidegate.control.monitoring.report_job import KEPT, keep
from tidegate.control.monitoring.report_page import SERVED
from tidegate.control.monitoring.reports import Made, Summary

PATH = "/api/v1/reports"
NOW = 1_795_267_200.0


def kept(plane: Plane, name: str, endpoint: str = "iris", created: float = NOW) -> None:
    about = Summary(id=name, kind="drift", title=f"{endpoint}: drift", endpoint=endpoint, created=created, rows=7)
    keep(plane.services.store, Made(about, f"<html>{name}</html>", ({"name": "RowCount()", "value": 7.0},)))


def ask(plane: Plane, headers: dict[str, str], **body: Any) -> Any:
    return plane.client.post(PATH, json={"kind": "drift", "endpoint": "iris", **body}, headers=headers)


def test_asking_for_one_makes_a_job(plane: Plane) -> None:
    answer = ask(plane, plane.headers(), since="2h", reason="a look")
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert answer.headers["location"] == f"/api/v1/jobs/{job['id']}"
    assert (job["kind"], job["endpoint"], job["state"]) == ("report", "iris", "queued")
    assert job["payload"]["start"] == NOW - 7200.0
    assert job["payload"]["end"] == NOW
    assert plane.actions()[-1] == "job.submit"


def test_asking_twice_with_one_key_makes_one_job(plane: Plane) -> None:
    headers = plane.headers() | {"Idempotency-Key": "airflow/run/1"}
    one, two = ask(plane, headers), ask(plane, headers)
    assert one.json()["id"] == two.json()["id"]
    assert two.headers["idempotent-replayed"] == "true"
    assert two.headers["location"] == one.headers["location"]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"kind": "gossip"}, 422, "Invalid enum value"),
        ({"endpoint": "nobody"}, 404, "no endpoint"),
        ({"since": "yesterday"}, 422, "since"),
        ({"since": "9000d"}, 422, "366 days"),
        ({"start": 5.0, "end": 5.0}, 422, "start and end"),
        ({"color": "red"}, 422, "color"),
    ],
)
def test_what_cannot_be_made_is_refused(plane: Plane, body: dict[str, Any], status: int, words: str) -> None:
    answer = ask(plane, plane.headers(), **body)
    assert answer.status_code == status
    assert words in answer.text


def test_newest_first_in_pages(plane: Plane) -> None:
    for number in range(5):
        kept(plane, f"doc-{number}", created=NOW + number)
    headers = plane.headers()
    first = plane.client.get(PATH, params={"limit": 3}, headers=headers).json()
    assert [one["id"] for one in first["items"]] == ["doc-4", "doc-3", "doc-2"]
    rest = plane.client.get(PATH, params={"limit": 3, "cursor": first["next"]}, headers=headers).json()
    assert [one["id"] for one in rest["items"]] == ["doc-1", "doc-0"]
    assert rest["next"] is None


def test_the_page_is_served_where_it_can_do_nothing(plane: Plane) -> None:
    kept(plane, "doc-1")
    answer = plane.client.get(f"{PATH}/doc-1/document", headers=plane.headers())
    assert answer.text == "<html>doc-1</html>"
    assert answer.headers["content-security-policy"] == SERVED
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"


def test_programs_get_all_figures(plane: Plane) -> None:
    kept(plane, "doc-1")
    found = plane.client.get(f"{PATH}/doc-1/data", headers=plane.headers()).json()
    assert found["report"] == plane.client.get(f"{PATH}/doc-1", headers=plane.headers()).json()
    assert found["evidently"] == [{"name": "RowCount()", "value": 7.0}]


@pytest.mark.slow
def test_a_limited_key_sees_its_own_alone(plane: Plane) -> None:
    kept(plane, "doc-iris")
    kept(plane, "doc-churn", "churn")
    headers = plane.headers(endpoints=("churn",))
    assert [one["id"] for one in plane.client.get(PATH, headers=headers).json()["items"]] == ["doc-churn"]
    for path in ("", "/document", "/data"):
        hidden = plane.client.get(f"{PATH}/doc-iris{path}", headers=headers)
        absent = plane.client.get(f"{PATH}/doc-none{path}", headers=headers)
        assert (hidden.status_code, absent.status_code) == (404, 404)
        assert hidden.json()["detail"].replace("iris", "none") == absent.json()["detail"]
    assert ask(plane, headers).status_code in (403, 404)


def test_a_key_to_predict_sees_none(plane: Plane) -> None:
    assert plane.client.get(PATH, headers=plane.headers("predict")).status_code == 403


def test_the_oldest_of_an_endpoint_go(plane: Plane) -> None:
    kept(plane, "doc-other", "churn", created=NOW - 9.0)
    for number in range(KEPT + 3):
        kept(plane, f"doc-{number:03}", created=NOW + number)
    with plane.services.store.read() as unit:
        left = [row.id for row in unit.documents.list("iris", 500)]
        assert len(left) == KEPT
        assert left[-1] == "doc-003"
        assert unit.documents.get("doc-other") is not None


def test_a_report_is_kept_once_however_often_its_job_is_tried(plane: Plane) -> None:
    kept(plane, "doc-1")
    kept(plane, "doc-1", created=NOW + 60.0)
    with plane.services.store.read() as unit:
        [row] = unit.documents.list("iris")
    assert msgspec.json.decode(row.summary, type=Summary).created == NOW
