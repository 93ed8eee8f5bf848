"""Sessions, other sites, and what protects a browser."""

from __future__ import annotations

import re
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import update
from starlette.types import Message

from tests.unit.control.api.client import ORIGIN, Client
from tests.unit.control.api.plane import SETTINGS, Plane, control_plane, started
from tests.unit.storage.makers import a_snapshot
from tidegate.control.api.edge import BODY_SECONDS, Bounded
from tidegate.control.api.health import METRICS
from tidegate.control.figures import Look
from tidegate.control.releases.history import row_of
from tidegate.control.releases.release import Release
from tidegate.errors import BodyTooSlow
from tidegate.settings import Control, Server, Settings
from tidegate.storage.tables import snapshots
from tidegate.types import Verdict

SESSION = "/api/v1/session"


def signed_in(plane: Plane) -> dict[str, str]:
    """The headers that a page of the console sends with its changes."""
    answer = plane.client.post(SESSION, json={"key": plane.key()})
    assert answer.status_code == 201, answer.text
    return {"X-CSRF-Token": answer.json()["csrf"]}


def test_a_session_reads_and_with_its_token_changes(plane: Plane) -> None:
    csrf = signed_in(plane)
    assert plane.client.get(SESSION).json()["name"] == "ada"
    body = {"endpoint": "iris", "model": "models:/iris/4"}
    assert plane.client.post("/api/v1/releases", json=body).status_code == 403
    assert plane.client.post("/api/v1/releases", json=body, headers={"X-CSRF-Token": "x"}).status_code == 403
    assert plane.client.get("/api/v1/releases").json()["items"] == []
    assert plane.client.post("/api/v1/releases", json=body, headers=csrf).status_code == 201


def test_signing_out_ends_the_session(plane: Plane) -> None:
    csrf = signed_in(plane)
    assert plane.client.delete(SESSION, headers=csrf).status_code == 204
    assert plane.client.get(SESSION).status_code == 401
    assert plane.actions().count("session.close") == 1


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(plane: Plane) -> None:
    answer = plane.client.post(SESSION, json={"key": plane.key()})
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "path=/" in cookie
    assert "secure" not in cookie  # plain http, on this machine
    with_tls = Client(plane.app, origin="https://control.test")
    assert "secure" in with_tls.post(SESSION, json={"key": plane.key()}).headers["set-cookie"].lower()
    with_tls.close()


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.test"}, {"Sec-Fetch-Site": "cross-site"}])
def test_other_sites_neither_sign_in_nor_change(plane: Plane, headers: dict[str, str]) -> None:
    assert plane.client.post(SESSION, json={"key": plane.key()}, headers=headers).status_code == 403
    csrf = signed_in(plane)
    release = started(plane, csrf)
    refused = plane.client.post(f"/api/v1/releases/{release}/pause", headers=csrf | headers)
    assert refused.status_code == 403
    own = {"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin"}
    assert plane.client.post(f"/api/v1/releases/{release}/pause", headers=csrf | own).status_code == 200


def test_a_revoked_key_ends_its_session(plane: Plane) -> None:
    signed_in(plane)
    plane.access.keys.revoke(plane.client.get(SESSION).json()["key"], who="test")
    assert plane.client.get(SESSION).status_code == 401


def test_only_listed_origins_may_call_from_browsers(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(
        SETTINGS, control=Control(requests_per_minute=1000, origins=("https://ops.test", "*"))
    )
    with control_plane(tmp_path, settings) as plane:
        ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
        good = plane.client.request("OPTIONS", "/api/v1/releases", headers=ask | {"Origin": "https://ops.test"})
        assert good.status_code == 204
        assert good.headers["access-control-allow-origin"] == "https://ops.test"
        assert "access-control-allow-credentials" not in good.headers
        bad = plane.client.request("OPTIONS", "/api/v1/releases", headers=ask | {"Origin": "https://evil.test"})
        assert "access-control-allow-origin" not in bad.headers
        assert "access-control-allow-origin" not in plane.client.get("/healthz").headers


def test_browsers_may_send_the_request_id_that_is_configured(tmp_path: Path) -> None:
    settings: Settings = msgspec.structs.replace(
        SETTINGS, control=Control(origins=("https://ops.test",)), server=Server(correlation_header="X-Trace")
    )
    with control_plane(tmp_path, settings) as plane:
        ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-trace"}
        answer = plane.client.request("OPTIONS", "/api/v1/releases", headers=ask | {"Origin": "https://ops.test"})
        allowed = answer.headers["access-control-allow-headers"].split(", ")
        assert "x-trace" in allowed
        assert "x-request-id" not in allowed


@pytest.mark.parametrize("path", ["/healthz", "/docs", "/api/v1/releases", "/nowhere"])
def test_every_answer_protects_browsers(plane: Plane, path: str) -> None:
    headers = plane.client.get(path).headers
    policy = headers["content-security-policy"]
    script = next(part for part in policy.split(";") if part.strip().startswith("script-src"))
    assert "unsafe" not in script
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"]
    assert headers["x-request-id"]


def test_request_ids_are_kept_or_made(plane: Plane) -> None:
    assert plane.client.get("/healthz", headers={"X-Request-Id": "abc-1"}).headers["x-request-id"] == "abc-1"
    made = plane.client.get("/healthz", headers={"X-Request-Id": "a b\t<c>"}).headers["x-request-id"]
    assert made != "a b\t<c>"


def test_a_key_has_no_more_calls_in_flight_than_it_may(plane: Plane) -> None:
    inside, go_on = threading.Event(), threading.Event()
    look = plane.services.figures.look

    def slow() -> Look:
        inside.set()
        assert go_on.wait(20)
        return look()

    plane.services.figures.look = slow  # type: ignore[method-assign]
    headers, others = plane.headers(concurrency=1), plane.headers()
    for path in ("nothing", "nothing/history"):  # what failed is in flight no more
        assert plane.client.get(f"/api/v1/releases/{path}", headers=headers).status_code == 404
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(plane.client.get, "/api/v1/endpoints", headers=headers)
        assert inside.wait(20)
        beside = Client(plane.app)
        refused = beside.get("/api/v1/releases", headers=headers)
        assert beside.get("/api/v1/releases", headers=others).status_code == 200
        go_on.set()
        assert first.result(20).status_code == 200
        assert beside.get("/api/v1/releases", headers=headers).status_code == 200
        beside.close()
    assert refused.status_code == 429
    assert "1 calls in flight" in refused.json()["detail"]


def test_large_bodies_are_refused(plane: Plane) -> None:
    headers = plane.headers() | {"Content-Type": "application/json"}
    answer = plane.client.post("/api/v1/releases", content=b" " * (2**20 + 1), headers=headers)
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"

    async def drip() -> AsyncIterator[bytes]:  # without a length
        for _ in range(40):
            yield b" " * 2**15

    answer = plane.client.post("/api/v1/releases", content=drip(), headers=headers)
    assert answer.status_code == 413


async def test_a_body_that_drips_has_only_so_long() -> None:
    """Each piece comes in time; the whole of it does not."""
    now = 0.0

    async def drip() -> Message:
        nonlocal now
        now += BODY_SECONDS / 4
        return {"type": "http.request", "body": b" ", "more_body": True}

    bounded = Bounded(drip, lambda: now)
    for _ in range(4):
        await bounded()
    assert now == BODY_SECONDS
    with pytest.raises(BodyTooSlow):
        await bounded()


def test_a_plane_that_ends_is_not_ready(plane: Plane) -> None:
    assert plane.client.get("/readyz").status_code == 200
    plane.services.stopping.set()
    assert plane.client.get("/readyz").status_code == 503
    assert plane.client.get("/healthz").status_code == 200


def test_metrics_show_the_strongest_evidence_of_each_guardrail(plane: Plane) -> None:
    release = started(plane, plane.headers())
    good = Verdict(guardrail="prometheus", test="bound", outcome="pass", reason="")
    bad = msgspec.structs.replace(good, outcome="fail")
    errors = Verdict(
        guardrail="errors", test="ramp", outcome="undecided", reason="", evidence=2.3, threshold=4.6, alpha=0.01
    )
    with plane.store.begin() as unit:
        row = unit.releases.get(release)
        assert row is not None
        after = msgspec.json.decode(row.body, type=Release)
        after = msgspec.structs.replace(after, verdicts=(errors, bad, good), revision=after.revision + 1)
        unit.releases.save(row_of(after), None, row.revision)
    found = re.findall(r"^tidegate_release_evidence.*$", plane.client.get("/metrics").text, re.MULTILINE)
    assert found == [
        f'tidegate_release_evidence{{release="{release}",guardrail="errors"}} 0.5',
        f'tidegate_release_evidence{{release="{release}",guardrail="prometheus"}} 1',
    ]


def test_metrics_show_every_digit_of_a_snapshots_number(plane: Plane) -> None:
    with plane.store.begin() as unit:
        unit.snapshots.publish(a_snapshot(), reason="", author="", at=0.0)
        unit.connection.execute(update(snapshots).values(number=12_345_678))
    assert "\ntidegate_snapshot_number 12345678\n" in plane.client.get("/metrics").text


def test_metrics_need_a_key_when_they_are_closed(tmp_path: Path) -> None:
    from tidegate.settings import Access

    settings: Settings = msgspec.structs.replace(SETTINGS, access=Access(metrics_open=False))
    with control_plane(tmp_path, settings) as plane:
        assert plane.client.get("/metrics").status_code == 401
        headers = plane.headers()
        release = started(plane, headers)
        text = plane.client.get("/metrics", headers=headers).text
        assert 'tidegate_release_share{endpoint="iris"} 0' in text
        assert 'tidegate_releases_open{state="pending"} 1' in text
        assert release
        assert set(re.findall(r"^# TYPE (\S+) gauge$", text, re.MULTILINE)) == set(METRICS)
