"""The OWASP API Security Top 10 of 2023, item by item, against the control API."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fastapi.routing import APIRoute
from sqlalchemy import select

from tests.unit.control.api.plane import SETTINGS, Plane, control_plane, started
from tests.unit.control.api.webhook import SECRET, alias_moved, signed
from tidegate.keys import KeyRole, parse
from tidegate.observations import PredictionEvent
from tidegate.settings import Control, Registry
from tidegate.storage.tables import feedback

ROLES: tuple[KeyRole, ...] = ("predict", "operate", "admin")
RELEASES = "/api/v1/releases"


def operations(plane: Plane) -> Iterator[tuple[str, str, KeyRole | None]]:
    """Method, path and role of everything that the document knows."""
    for route in plane.app.routes:
        if isinstance(route, APIRoute) and route.include_in_schema:
            for method in route.methods or ():
                yield method, re.sub(r"{\w+}", "1", route.path), route.endpoint.document.role  # type: ignore[attr-defined]


def test_api1_broken_object_level_authorization(plane: Plane) -> None:
    """API1:2023: a key of some endpoints neither sees nor changes what belongs to others, in the words of what is absent."""
    everything, churn = plane.headers(), plane.headers(endpoints=("churn",))
    mine, other = started(plane, everything, "churn"), started(plane, everything, "iris")
    absent = plane.client.get(f"{RELEASES}/nothing", headers=churn).json()["detail"]
    for method, path in [
        ("GET", ""),
        ("GET", "/history"),
        ("GET", "/evidence"),
        ("GET", "/events"),
        ("GET", "/replay"),
    ]:
        answer = plane.client.request(method, f"{RELEASES}/{other}{path}", headers=churn)
        assert (answer.status_code, answer.json()["detail"]) == (404, absent.replace("nothing", other))
    for act in ("pause", "resume", "promote", "rollback"):
        assert plane.client.post(f"{RELEASES}/{other}/{act}", headers=churn).status_code == 404
    assert [one["id"] for one in plane.client.get(RELEASES, headers=churn).json()["items"]] == [mine]
    assert [one["name"] for one in plane.client.get("/api/v1/endpoints", headers=churn).json()["items"]] == ["churn"]
    assert plane.client.get("/api/v1/endpoints/iris", headers=churn).status_code == 404
    assert plane.client.post("/api/v1/models", json={"name": "iris", "uri": "x"}, headers=churn).status_code == 403


def test_api2_broken_authentication(plane: Plane, tmp_path: Path) -> None:
    """API2:2023: keys have 256 bits and are kept as hashes; guessing is slowed down; what has ended does not count."""
    key = plane.key()
    parsed = parse(key)
    assert parsed is not None
    assert len(parsed[1]) * 6 >= 256
    assert not any(parsed[1].encode() in file.read_bytes() for file in tmp_path.glob("store.db*"))
    assert plane.client.get(RELEASES, headers={"Authorization": f"Bearer {key}"}).status_code == 200
    assert plane.client.get(f"{RELEASES}?api_key={key}").status_code == 401  # never in addresses, which are logged
    plane.access.keys.revoke(parsed[0], who="test")
    assert plane.client.get(RELEASES, headers={"X-API-Key": key}).status_code == 401
    statuses = [plane.client.post("/api/v1/session", json={"key": f"guess {n}"}).status_code for n in range(12)]
    assert statuses[0] == 401
    assert statuses[-1] == 429


def test_api3_broken_object_property_level_authorization(plane: Plane) -> None:
    """API3:2023: what may not be set is refused, not ignored; what may not be seen is not in any answer."""
    admin = plane.headers("admin")
    body = {"endpoint": "iris", "model": "models:/iris/4"}
    for field, value in {"state": "promoted", "share": 10_000, "author": "root", "id": "x"}.items():
        assert plane.client.post(RELEASES, json=body | {field: value}, headers=admin).status_code == 422
    for field, value in {"digest": "0", "salt": "", "id": "mine", "key": "tg_x"}.items():
        answer = plane.client.post("/api/v1/api-keys", json={"name": "a", field: value}, headers=admin)
        assert answer.status_code == 422
    with plane.store.read() as unit:
        hidden = [part for row in unit.keys.all() for part in (row.digest, row.salt)]
    shown = plane.client.get("/api/v1/api-keys", headers=admin).text
    shown += plane.client.get("/api/v1/audit-events", headers=admin).text
    assert not any(part in shown for part in hidden)


def test_api4_unrestricted_resource_consumption(tmp_path: Path) -> None:
    """API4:2023: bodies, pages, names and calls a minute are bounded."""
    settings = msgspec.structs.replace(SETTINGS, control=Control(requests_per_minute=20))
    with control_plane(tmp_path, settings) as plane:
        headers = plane.headers()
        large = plane.client.post(RELEASES, content=b"[" * (2**20 + 1), headers=headers)
        assert large.status_code == 413
        deep = plane.client.post(RELEASES, content=b"[" * 100_000, headers=headers)
        assert deep.status_code in (400, 422)
        assert plane.client.get(f"{RELEASES}?limit=100000", headers=headers).status_code == 422
        long = {"endpoint": "iris", "candidate": "x" * 10_000}
        assert plane.client.post(RELEASES, json=long, headers=headers).status_code == 422
        answers = [plane.client.get(RELEASES, headers=headers) for _ in range(25)]
        assert answers[-1].status_code == 429
        assert int(answers[-1].headers["retry-after"]) >= 1


def test_api5_broken_function_level_authorization(plane: Plane) -> None:
    """API5:2023: every operation refuses who has no key, and every key below the role that its document names."""
    keys: dict[KeyRole, dict[str, str]] = {role: plane.headers(role) for role in ROLES}
    tried = 0
    for method, path, role in operations(plane):
        if role is None:
            assert path in ("/healthz", "/readyz", "/metrics", "/api/v1/session", "/api/v1/webhooks/mlflow")
            continue
        tried += 1
        assert plane.client.request(method, path).status_code == 401, (method, path)
        for lower in ROLES[: ROLES.index(role)]:
            assert plane.client.request(method, path, headers=keys[lower]).status_code == 403, (method, path, lower)
    assert tried > 30


def test_api6_unrestricted_access_to_sensitive_business_flows(plane: Plane) -> None:
    """API6:2023: what decides over users' traffic cannot be driven by repetition, nor by labels for others' predictions."""
    headers = plane.headers()
    release = started(plane, headers)
    body = {"endpoint": "iris", "model": "models:/iris/5"}
    assert plane.client.post(RELEASES, json=body, headers=headers).status_code == 409
    once = headers | {"Idempotency-Key": "now"}
    states = [plane.client.post(f"{RELEASES}/{release}/promote", headers=once).json()["state"] for _ in range(3)]
    assert states == ["promoted"] * 3
    assert plane.actions().count("release.promoted") == 1
    with plane.store.begin() as unit:
        event = PredictionEvent(
            request_id="q1", process="p", endpoint="iris", variant="candidate", version="4", snapshot=2, time=1.0
        )
        unit.events.add([event])
    label = {"request_id": "q1", "metric": "accuracy", "value": 0}
    churn = plane.headers("predict", endpoints=("churn",))
    assert plane.client.post("/api/v1/feedback", json=label, headers=churn).status_code == 403
    assert plane.client.post("/api/v1/feedback", json=label | {"endpoint": "iris"}, headers=churn).status_code == 403
    iris = plane.headers("predict", endpoints=("iris",))
    assert plane.client.post("/api/v1/feedback", json=label, headers=iris).json() == {"accepted": 1, "duplicates": 0}
    nameless = {"metric": "bought", "unit": "ann", "value": 1.0}
    both = plane.headers("predict", endpoints=("iris", "churn"))
    assert plane.client.post("/api/v1/feedback", json=nameless, headers=both).status_code == 422
    plane.client.post("/api/v1/feedback", json=nameless, headers=churn)
    with plane.store.read() as unit:
        kept = unit.connection.execute(select(feedback.c.endpoint).where(feedback.c.unit == "ann")).scalars().all()
    assert kept == ["churn"]


@pytest.mark.parametrize(
    "uri", ["http://169.254.169.254/latest", "s3://bucket/x", "/etc/passwd", "file:///etc/passwd", "../../etc/passwd"]
)
def test_api7_server_side_request_forgery(plane: Plane, uri: str) -> None:
    """API7:2023: no caller names an address that the control plane then calls, or a file outside of its folders."""
    headers = plane.headers("admin")
    answer = plane.client.post("/api/v1/models", json={"name": "iris", "uri": uri}, headers=headers)
    assert answer.status_code == 403
    query: dict[str, Any] = {"query": "up", "max": 1, "url": "http://169.254.169.254/"}
    body = {"endpoint": "iris", "model": "models:/iris/4", "plan": {"guardrails": [{"prometheus": query}]}}
    answer = plane.client.post(RELEASES, json=body, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["loc"] == ["plan", "guardrails", 0, "prometheus", "url"]


def test_api8_security_misconfiguration(plane: Plane) -> None:
    """API8:2023: headers that protect browsers on every answer, no inside in any error, no way round by method or host."""

    def fail(*given: Any, **named: Any) -> None:
        raise ZeroDivisionError("/srv/secret/place.py")

    plane.services.releases.start = fail  # type: ignore[method-assign, assignment]
    body = {"endpoint": "iris", "model": "models:/iris/4"}
    broken = plane.client.post(RELEASES, json=body, headers=plane.headers())
    assert broken.status_code == 500
    assert broken.headers["content-type"] == "application/problem+json"
    for word in ("Traceback", "ZeroDivisionError", "secret", "site-packages", "fastapi"):
        assert word.lower() not in broken.text.lower()
    for answer in (broken, plane.client.get("/healthz"), plane.client.get("/nowhere")):
        assert "'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "server" not in answer.headers
    assert plane.client.request("TRACE", RELEASES, headers=plane.headers()).status_code == 405
    assert plane.client.request("PUT", RELEASES, headers=plane.headers()).status_code == 405
    assert plane.client.get(f"{RELEASES}/", headers=plane.headers()).status_code == 404  # no redirect to the Host given


def test_api9_improper_inventory_management(plane: Plane) -> None:
    """API9:2023: everything that answers is in the document or in this list; nothing is a stub; the page needs no internet."""
    documented = set(plane.client.get("/openapi.json", headers=plane.headers()).json()["paths"])
    routes = {route.path for route in plane.app.routes if isinstance(route, APIRoute)}
    assert routes - documented == {"/openapi.json", "/docs", "/docs/{file}"}
    assert plane.client.get("/openapi.json").status_code == 401
    for file in ("", "/docs.js", "/docs.css"):
        page = plane.client.get(f"/docs{file}")
        assert page.status_code == 200
        assert not re.search(r"(src|href|import|url\()\W{0,3}https?://", page.text)


def test_api10_unsafe_consumption_of_apis(tmp_path: Path) -> None:
    """API10:2023: a registry's word counts only when it is signed, fresh, new and well-formed."""
    settings = msgspec.structs.replace(SETTINGS, registry=Registry(webhook_secret=SECRET))
    with control_plane(tmp_path, settings) as plane:
        moved: list[tuple[str, str]] = []

        def alias(name: str, version: str, origin: str, alias: str = "champion") -> tuple[()]:
            moved.append((name, version))
            return ()

        plane.services.releases.alias_moved = alias  # type: ignore[method-assign]
        url, body, now = "/api/v1/webhooks/mlflow", alias_moved(), plane.clock.wall()
        assert plane.client.post(url, content=body).status_code == 401
        wrong = signed(body, now, secret="another")
        assert plane.client.post(url, content=body, headers=wrong).status_code == 401
        assert plane.client.post(url, content=alias_moved(version="5"), headers=signed(body, now)).status_code == 401
        assert plane.client.post(url, content=body, headers=signed(body, now - 301)).status_code == 401
        assert not moved
        assert plane.client.post(url, content=body, headers=signed(body, now)).status_code == 202
        assert plane.client.post(url, content=body, headers=signed(body, now)).status_code == 409
        assert moved == [("iris", "4")]
        strange = (
            b'{"entity":"model_version_alias","action":"created","data":{"name":"x","alias":"champion","version":"-1"}}'
        )
        assert plane.client.post(url, content=strange, headers=signed(strange, now, "d-2")).status_code == 400
