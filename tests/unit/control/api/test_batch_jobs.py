"""Jobs and batch predictions over the API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.unit.control.api.plane import SETTINGS, Plane, control_plane
from tidegate.control.jobs.claims import Claim, Claims
from tidegate.settings import Jobs

BODY = {"endpoint": "iris", "format": "csv"}
OCTETS = {"Content-Type": "application/octet-stream"}


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "in.csv").write_text("a\n1\n")
    jobs = Jobs(sources=(str(tmp_path / "data"), "https://data.example/lists"), max_open=3, max_upload_mb=1)
    with control_plane(tmp_path, msgspec.structs.replace(SETTINGS, jobs=jobs)) as made:
        yield made


def submitted(plane: Plane, headers: dict[str, str], **more: object) -> str:
    body = {**BODY, "source": str(plane.folder / "data" / "in.csv"), **more}
    answer = plane.client.post("/api/v1/batch-jobs", json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    job: str = answer.json()["id"]
    assert answer.headers["location"] == f"/api/v1/batch-jobs/{job}"
    return job


def worked(plane: Plane) -> tuple[Claims, Claim]:
    claims = Claims(plane.store, plane.services.settings.jobs, plane.clock, "w1")
    claim = claims.take(("batch",))
    assert claim is not None
    return claims, claim


def test_a_job_is_accepted_shown_and_listed(plane: Plane) -> None:
    headers = plane.headers()
    job = submitted(plane, headers, keep=["a"], reason="monthly")
    shown = plane.client.get(f"/api/v1/batch-jobs/{job}", headers=headers).json()
    assert (shown["state"], shown["payload"]["keep"], shown["author"][:3]) == ("queued", ["a"], "ada")
    assert plane.client.get(f"/api/v1/jobs/{job}", headers=headers).json() == shown
    assert [one["id"] for one in plane.client.get("/api/v1/jobs?state=queued", headers=headers).json()["items"]] == [
        job
    ]
    assert plane.client.get("/api/v1/batch-jobs?state=done", headers=headers).json()["items"] == []
    assert "job.submit" in plane.actions()


def test_the_same_idempotency_key_gives_the_same_job(plane: Plane) -> None:
    headers = {**plane.headers(), "Idempotency-Key": "monthly-2026-11"}
    assert submitted(plane, headers) == submitted(plane, headers)


def test_an_upload_becomes_the_input(plane: Plane) -> None:
    headers = plane.headers()
    answer = plane.client.post("/api/v1/batch-inputs", content=b"a\n1\n2\n", headers=headers | OCTETS)
    assert answer.status_code == 201, answer.text
    upload = answer.json()
    assert upload["bytes"] == 6
    assert submitted(plane, headers, source=upload["source"])
    kept = plane.folder / "jobs" / "inputs" / upload["source"].removeprefix("upload:")
    assert kept.read_bytes() == b"a\n1\n2\n"


def test_uploads_are_bounded(plane: Plane) -> None:
    headers = plane.headers() | OCTETS
    assert plane.client.post("/api/v1/batch-inputs", content=b"x" * (1 << 20), headers=headers).status_code == 201
    assert plane.client.post("/api/v1/batch-inputs", content=b"x" * ((1 << 20) + 1), headers=headers).status_code == 413
    assert plane.client.post("/api/v1/batch-inputs", content=b"", headers=headers).status_code == 422
    answer = plane.client.post("/api/v1/batch-inputs", content=b"x", headers=plane.headers())
    assert answer.status_code == 415
    assert len(list((plane.folder / "jobs" / "inputs").iterdir())) == 1


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("/etc/passwd", 403),
        ("{data}/../secret.csv", 403),
        ("{data}", 403),
        ("in.csv", 403),
        ("file:///etc/passwd", 403),
        ("{data}/link.csv", 403),
        ("https://data.example/other/in.csv", 403),
        ("https://data.example/lists/../other/in.csv", 403),
        ("https://data.example/lists/%2e%2e/in.csv", 403),
        ("https://data.example/lists/%252e%252e/in.csv", 403),
        ("https://data.example.evil.example/lists/in.csv", 403),
        ("https://user@data.example/lists/in.csv", 403),
        ("http://data.example/lists/in.csv", 403),
        ("http://[::1/lists/in.csv", 403),
        ("ftp://data.example/lists/in.csv", 403),
        ("upload:u-00000000000000000000000000000000", 422),
        ("upload:../../admin.key", 422),
        ("\u0000", 403),
        ("{data}/in.csv", 202),
        ("file://{data}/in.csv", 202),
        ("https://data.example/lists/2026/in.csv", 202),
    ],
)
def test_only_what_the_operator_allows_is_read(plane: Plane, source: str, status: int) -> None:
    (plane.folder / "secret.csv").write_text("a\n1\n")
    (plane.folder / "data" / "link.csv").symlink_to(plane.folder / "secret.csv")
    body = {**BODY, "source": source.replace("{data}", str(plane.folder / "data"))}
    answer = plane.client.post("/api/v1/batch-jobs", json=body, headers=plane.headers())
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"endpoint": "nowhere"}, 404),
        ({"format": "xlsx"}, 422),
        ({"keep": ["a", "a"]}, 422),
        ({"model": "/etc/passwd"}, 403),
        ({"surprise": 1}, 422),
    ],
)
def test_what_cannot_be_is_refused(plane: Plane, more: dict[str, object], status: int) -> None:
    body = {**BODY, "source": str(plane.folder / "data" / "in.csv"), **more}
    assert plane.client.post("/api/v1/batch-jobs", json=body, headers=plane.headers()).status_code == status


def test_too_many_are_refused_with_the_time_to_come_back(plane: Plane) -> None:
    headers = plane.headers()
    for _ in range(3):
        submitted(plane, headers)
    body = {**BODY, "source": str(plane.folder / "data" / "in.csv")}
    answer = plane.client.post("/api/v1/batch-jobs", json=body, headers=headers)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert "jobs.max_open" in answer.json()["detail"]


def test_results_and_errors_once_it_is_done(plane: Plane) -> None:
    headers = plane.headers()
    job = submitted(plane, headers)
    answer = plane.client.get(f"/api/v1/batch-jobs/{job}/results", headers=headers)
    assert (answer.status_code, "is queued" in answer.json()["detail"]) == (409, True)
    claims, claim = worked(plane)
    folder = plane.folder / "jobs" / job
    folder.mkdir(parents=True)
    (folder / "results.csv").write_text("row,predictions\n1,2.0\n")
    (folder / "errors.jsonl").write_text('{"row":2,"reason":"not a number"}\n')
    claims.finish(claim, {"rows": 2})
    answer = plane.client.get(f"/api/v1/batch-jobs/{job}/results", headers=headers)
    assert (answer.text, answer.headers["content-type"]) == ("row,predictions\n1,2.0\n", "text/csv; charset=utf-8")
    answer = plane.client.get(f"/api/v1/batch-jobs/{job}/errors", headers=headers)
    assert json.loads(answer.text) == {"row": 2, "reason": "not a number"}
    (folder / "results.csv").unlink()
    assert plane.client.get(f"/api/v1/batch-jobs/{job}/results", headers=headers).status_code == 404


def test_cancel_and_retry(plane: Plane) -> None:
    headers = plane.headers()
    job = submitted(plane, headers)
    answer = plane.client.post(f"/api/v1/batch-jobs/{job}/cancel", json={"reason": "wrong file"}, headers=headers)
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    assert plane.client.post(f"/api/v1/jobs/{job}/cancel", headers=headers).status_code == 409
    assert plane.client.post(f"/api/v1/jobs/{job}/retry", headers=headers).json()["state"] == "queued"
    worked(plane)
    assert plane.client.post(f"/api/v1/jobs/{job}/cancel", headers=headers).json()["cancelling"]
    assert plane.actions()[-3:] == ["job.cancel", "job.retry", "job.cancel"]


def test_a_limited_key_sees_only_its_endpoints(plane: Plane) -> None:
    job = submitted(plane, plane.headers())
    plane.services.jobs.submit("notify", {}, who="tidegate")
    limited = plane.headers(endpoints=("churn",))
    for path in (f"/api/v1/jobs/{job}", f"/api/v1/batch-jobs/{job}", f"/api/v1/batch-jobs/{job}/results"):
        assert plane.client.get(path, headers=limited).status_code == 404
    for path in (f"/api/v1/jobs/{job}/cancel", f"/api/v1/jobs/{job}/retry", f"/api/v1/batch-jobs/{job}/cancel"):
        assert plane.client.post(path, headers=limited).status_code == 404
    assert plane.client.get("/api/v1/jobs", headers=limited).json() == {"items": [], "next": None}
    body = {**BODY, "source": str(plane.folder / "data" / "in.csv")}
    assert plane.client.post("/api/v1/batch-jobs", json=body, headers=limited).status_code == 403
    assert plane.client.get("/api/v1/jobs", headers=plane.headers("predict")).status_code == 403


def test_pages_of_jobs(plane: Plane) -> None:
    headers, ids = plane.headers(), []
    for _ in range(3):
        ids.append(submitted(plane, headers))
        plane.clock.advance(1)
    first = plane.client.get("/api/v1/jobs?limit=2", headers=headers).json()
    rest = plane.client.get(f"/api/v1/jobs?limit=2&cursor={first['next']}", headers=headers).json()
    assert [one["id"] for one in first["items"] + rest["items"]] == ids[::-1]
    assert rest["next"] is None


def test_jobs_by_state_are_a_metric(plane: Plane) -> None:
    submitted(plane, plane.headers())
    text = plane.client.get("/metrics").text
    assert 'tidegate_jobs{state="queued"} 1' in text
    assert 'tidegate_jobs{state="failed"} 0' in text


def test_old_files_of_forgotten_jobs_are_removed(plane: Plane) -> None:
    job = submitted(plane, plane.headers())
    jobs = plane.folder / "jobs"
    for name in (job, "j-0123456789ab", "other"):
        (jobs / name).mkdir(parents=True)
    (jobs / "inputs").mkdir()
    (jobs / "inputs" / ("u-" + "0" * 32)).write_text("a\n")
    plane.services.batches.sweep()
    assert len(list(jobs.iterdir())) == 4
    import time

    plane.clock.advance(max(time.time() - plane.clock.wall(), 0) + 2 * 86_400)
    plane.services.batches.sweep()
    assert sorted(path.name for path in jobs.iterdir()) == sorted([job, "inputs", "other"])
    assert list((jobs / "inputs").iterdir()) == []


def test_rows_of_dvc_are_moved_by_a_job(plane: Plane) -> None:
    body = {"kind": "dvc-push", "folder": "data", "targets": ["rows.csv"], "commit": "November", "reason": "surveys"}
    answer = plane.client.post("/api/v1/jobs", json=body, headers=plane.headers())
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert answer.headers["location"] == f"/api/v1/jobs/{job['id']}"
    assert (job["kind"], job["state"], job["reason"]) == ("dvc-push", "queued", "surveys")
    assert job["payload"] == {"folder": "data", "targets": ["rows.csv"], "remote": "", "commit": "November"}
    assert "job.submit" in plane.actions()


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "train"},
        {"kind": "dvc-pull", "folder": ".."},
        {"kind": "dvc-pull", "folder": "data/../../other"},
        {"kind": "dvc-pull", "folder": "/etc"},
        {"kind": "dvc-pull", "folder": "C:\\data"},
        {"kind": "dvc-pull", "folder": "..\\data"},
        {"kind": "dvc-pull", "targets": [""]},
        {"kind": "dvc-pull", "more": 1},
    ],
)
def test_only_data_below_the_configuration_is_moved(plane: Plane, body: dict[str, object]) -> None:
    answer = plane.client.post("/api/v1/jobs", json=body, headers=plane.headers())
    assert answer.status_code == 422, answer.text
    assert plane.client.get("/api/v1/jobs", headers=plane.headers()).json()["items"] == []


def test_a_key_of_some_endpoints_moves_no_data(plane: Plane) -> None:
    headers = plane.headers(endpoints=("iris",))
    assert plane.client.post("/api/v1/jobs", json={"kind": "dvc-pull"}, headers=headers).status_code == 403
