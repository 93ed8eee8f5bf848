"""Pages over HTTP without a browser: who may see them, what protects them, what errors look like."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from fastapi import FastAPI

from tests.e2e import seed
from tests.e2e.plane import services_of
from tests.stores import sqlite_store
from tests.unit.control.api.client import Client
from tidegate.clock import ManualClock
from tidegate.console.assets import FOLDER, TYPES, Assets
from tidegate.console.pages.door import safe
from tidegate.console.pages.models import FRESH_SECONDS
from tidegate.control.api.app import make_app
from tidegate.control.api.services import Services
from tidegate.control.releases.history import release_of, row_of
from tidegate.keys import KeyFacts, KeyRole
from tidegate.storage.records import ReleaseEventRow
from tidegate.storage.store import Unit

PATHS = (
    "/", "/endpoints/iris", "/releases", "/releases/r-iris-4", "/releases/r-sentiment-4", "/releases/r-churn-4",
    "/releases/r-pricing-4", "/experiments", "/experiments/homepage-order", "/experiments/button-colour", "/models",
    "/models/iris", "/audit", "/keys",
)  # fmt: skip


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    folder = tmp_path_factory.mktemp("site")
    clock = ManualClock(seed.NOW)
    store = sqlite_store(folder, clock)
    seed.seed(store, windows=4)
    yield services_of(store, seed.settings(), clock, folder)
    store.close()


@pytest.fixture(scope="module")
def app(services: Services) -> FastAPI:
    return make_app(services)


@pytest.fixture
def client(app: FastAPI) -> Iterator[Client]:
    found = Client(app)
    yield found
    found.close()


def sign_in(client: Client, services: Services, role: KeyRole = "admin", **more: tuple[str, ...]) -> None:
    key = services.access.keys.create(KeyFacts(name=role, roles=(role,), **more), who="test").key  # type: ignore[arg-type]
    answer = client.post("/sign-in", data={"key": key, "next": "/models"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/models")


def later(services: Services) -> None:
    """The registry is asked again."""
    services.clock.advance(FRESH_SECONDS)  # type: ignore[attr-defined]


def token(client: Client) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', client.get("/").text)
    assert found is not None
    return found.group(1)


@pytest.mark.parametrize("path", PATHS)
def test_pages_are_shown_to_who_is_signed_in(client: Client, services: Services, path: str) -> None:
    away = client.get(path)
    assert away.status_code == 303
    assert away.headers["location"].startswith("/sign-in")
    sign_in(client, services)
    shown = client.get(path)
    assert shown.status_code == 200, shown.text[:500]
    assert "<title>" in shown.text
    assert shown.headers["cache-control"] == "no-store"
    policy = shown.headers["content-security-policy"]
    assert "unsafe-inline" not in policy
    assert "script-src 'self'" in policy
    assert not re.search(r"<[^>]+\s(style|on[a-z]+)=", shown.text), "the policy would refuse it"
    assert not re.search(r"<script(?![^>]*(\ssrc=|type=\"application/json\"))", shown.text)
    assert not re.search(r"(src|href)=\"(https?:)?//", shown.text), "everything comes from here"


def test_a_live_part_comes_without_its_frame(client: Client, services: Services) -> None:
    sign_in(client, services)
    part = client.get("/releases/r-iris-4", headers={"HX-Request": "true"}).text
    assert part.strip().startswith('<div id="live"')
    assert "<html" not in part
    client.cookies.clear()
    gone = client.get("/releases/r-iris-4", headers={"HX-Request": "true"})
    assert (gone.status_code, gone.headers["hx-redirect"]) == (401, "/sign-in?next=/releases/r-iris-4")


@pytest.mark.parametrize("form", [{}, {"csrf": ""}, {"csrf": "wrong"}])
def test_a_form_without_the_sessions_token_does_nothing(
    client: Client, services: Services, form: dict[str, str]
) -> None:
    sign_in(client, services)
    answer = client.post("/releases/r-iris-4/pause", data={"reason": "x", **form})
    assert answer.status_code == 403
    assert services.releases.get("r-iris-4").state == "ramping"


def test_a_form_from_another_site_does_nothing(client: Client, services: Services) -> None:
    sign_in(client, services)
    form = {"reason": "x", "csrf": token(client)}
    for header in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://elsewhere.example"}):
        assert client.post("/releases/r-iris-4/pause", data=form, headers=header).status_code == 403
    assert services.releases.get("r-iris-4").state == "ramping"


def test_actions_go_through_the_service_with_who_and_why(client: Client, services: Services) -> None:
    sign_in(client, services, "operate")
    csrf = token(client)
    assert client.post("/releases/r-sentiment-4/pause", data={"reason": " ", "csrf": csrf}).status_code == 422
    done = client.post("/releases/r-sentiment-4/pause", data={"reason": "a look", "csrf": csrf})
    assert (done.status_code, done.headers["location"]) == (303, "/releases/r-sentiment-4")
    assert services.releases.get("r-sentiment-4").state == "paused"
    with services.store.read() as unit:
        row = unit.audit.last()
    assert row is not None
    assert row.action == "release.paused"
    assert row.who.startswith("operate (")
    assert "a look" in row.body
    again = client.post("/releases/r-sentiment-4/pause", data={"reason": "again", "csrf": csrf})
    assert again.status_code == 409
    assert "paused" in again.text


def test_a_key_sees_and_changes_only_what_it_may(client: Client, services: Services) -> None:
    sign_in(client, services, "operate", endpoints=("iris",))
    overview = client.get("/").text
    assert 'id="endpoint-iris"' in overview
    assert 'id="endpoint-fraud"' not in overview
    announced = re.search(r'data-announce="([^"]*)"', overview)
    assert announced is not None
    assert "iris:" in announced.group(1)
    assert "fraud:" not in announced.group(1)
    assert "r-fraud-2" not in client.get("/releases").text
    for path in ("/endpoints/fraud", "/releases/r-fraud-2", "/releases/r-fraud-2/promote", "/audit", "/keys"):
        assert client.get(path).status_code == 403, path
    assert "homepage-order" not in client.get("/experiments").text
    for path in ("/experiments/homepage-order", "/experiments/homepage-order/stop"):
        assert client.get(path).status_code == 403, path
    assert "/endpoints/iris" in client.get("/models/iris").text
    for path in ("/models", "/models/fraud"):
        assert "/endpoints/fraud" not in client.get(path).text, path


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Services]:
    """A seeded store that the test may change."""
    clock = ManualClock(seed.NOW)
    store = sqlite_store(tmp_path, clock)
    seed.seed(store, windows=1)
    yield services_of(store, seed.settings(), clock, tmp_path)
    store.close()


@pytest.fixture
def own_client(own: Services) -> Iterator[Client]:
    found = Client(make_app(own))
    yield found
    found.close()


def test_no_page_of_a_limited_key_is_empty_while_there_is_more(own: Services, own_client: Client) -> None:
    with own.store.begin() as unit:
        release, experiment = unit.releases.get("r-fraud-1"), unit.experiments.get("homepage-order")
        assert release is not None
        assert experiment is not None
        for number in range(70):  # newer than what the key may see
            id_, created = f"r-many-{number}", seed.NOW + number
            row = msgspec.structs.replace(release, id=id_, created=created)
            unit.releases.add(row, ReleaseEventRow(id_, 0, created, "start", "{}"))
            unit.experiments.add(msgspec.structs.replace(experiment, name=id_, created=created))
        body = experiment.body.replace('"endpoint":"ranking"', '"endpoint":"iris"')
        unit.experiments.add(msgspec.structs.replace(experiment, name="own", endpoint="iris", created=1.0, body=body))
    sign_in(own_client, own, "operate", endpoints=("iris",))
    assert "r-iris-4" in own_client.get("/releases").text
    assert "on iris" in own_client.get("/experiments").text


def add_busy(unit: Unit) -> None:
    """120 releases of another endpoint, newer than all that there are and ended."""
    found = unit.releases.get("r-fraud-1")
    assert found is not None
    for number in range(120):
        id_, created = f"r-many-{number}", seed.NOW + number
        release = msgspec.structs.replace(release_of(found), id=id_, endpoint="busy", created=created)
        unit.releases.add(row_of(release), ReleaseEventRow(id_, 0, created, "start", "{}"))


def test_a_quiet_endpoint_keeps_its_last_release_in_sight(own: Services, own_client: Client) -> None:
    with own.store.begin() as unit:
        add_busy(unit)
        quiet = [row for row in unit.releases.list(open=False, limit=1000) if row.endpoint != "busy"]
        open_ = {row.endpoint for row in unit.releases.list(open=True, limit=1000)}
    last = {row.endpoint: row.id for row in reversed(quiet) if row.endpoint not in open_}
    sign_in(own_client, own)
    overview = own_client.get("/").text
    cards = re.findall(r'<dt>Last release</dt>\s*<dd class="why"><a href="/releases/([^"]+)"', overview)
    assert last
    assert sorted(cards) == sorted(last.values())
    assert re.findall(r'href="/releases/(r-many-\d+)"', overview)[:2] == ["r-many-119", "r-many-118"]


def test_a_limited_key_sees_what_ended_on_its_endpoints(own: Services, own_client: Client) -> None:
    with own.store.begin() as unit:
        add_busy(unit)
        wanted = [row.id for name in ("iris", "fraud") for row in unit.releases.list(name, open=False, limit=5)]
    sign_in(own_client, own, "operate", endpoints=("iris", "fraud"))
    ended = own_client.get("/").text.partition('id="ended-name"')[2]
    found = re.findall(r'href="/releases/([^"]+)"', ended)
    assert 0 < len(found) <= 5
    assert set(found) <= set(wanted)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/endpoints/none", 404),
        ("/releases/none", 404),
        ("/experiments/none", 404),
        ("/models/none", 404),
        ("/releases/r-iris-4/explode", 404),
        ("/keys/none/revoke", 404),
        ("/audit?before=x", 422),
        ("/audit?before=%C2%B2", 422),
        (f"/audit?before={'9' * 40}", 422),
    ],
)
def test_errors_are_pages(client: Client, services: Services, path: str, status: int) -> None:
    sign_in(client, services)
    answer = client.get(path)
    assert answer.status_code == status
    assert "To the overview" in answer.text
    assert "Traceback" not in answer.text


def test_a_store_that_is_away_is_said_so(client: Client, services: Services) -> None:
    sign_in(client, services)
    later(services)
    services.registry.away = True  # type: ignore[attr-defined]
    answer = client.get("/models")
    services.registry.away = False  # type: ignore[attr-defined]
    later(services)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert "Not at the moment" in answer.text


def test_names_that_are_markup_stay_text(client: Client, services: Services) -> None:
    sign_in(client, services)
    page = client.post(
        "/keys", data={"csrf": token(client), "name": "<img src=x>", "role": "predict", "expires": "0"}
    ).text
    assert "<img" not in page
    assert "&lt;img src=x&gt;" in page


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"name": "", "role": "predict"}, "name"),
        ({"name": "x", "role": "king"}, "role"),
        ({"name": "x", "role": "admin", "expires": "5"}, "expiry"),
    ],
)
def test_a_key_that_cannot_be_is_refused_in_place(
    client: Client, services: Services, form: dict[str, str], said: str
) -> None:
    sign_in(client, services)
    answer = client.post("/keys", data={"csrf": token(client), "expires": "0", **form})
    assert answer.status_code == 422
    assert said in re.findall(r'role="alert">([^<]+)<', answer.text)[0]


def test_a_key_that_may_only_predict_does_not_sign_in(client: Client, services: Services) -> None:
    key = services.access.keys.create(KeyFacts(name="p"), who="test").key
    assert client.post("/sign-in", data={"key": key}).status_code == 403
    wrong = client.post("/sign-in", data={"key": "tg_nonsense"})
    assert wrong.status_code == 401
    assert "set-cookie" not in wrong.headers


def test_signing_out_ends_the_session(client: Client, services: Services) -> None:
    sign_in(client, services)
    cookie = dict(client.cookies)
    assert client.post("/sign-out", data={"csrf": token(client)}).status_code == 303
    client.cookies.update(cookie)
    assert client.get("/").status_code == 303


@pytest.mark.parametrize(
    ("path", "gone_to"),
    [
        ("/keys", "/keys"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("/a\nb", "/"),
    ],
)
def test_a_sign_in_leads_to_this_console_only(path: str, gone_to: str) -> None:
    assert safe(path) == gone_to


def test_files_are_kept_for_ever_under_the_hash_of_their_contents(client: Client) -> None:
    assets = Assets()
    for name in ("console.css", "vendor/htmx.min.js"):
        answer = client.get(assets.path(name))
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.content == (FOLDER / name).read_bytes()
    other = client.get("/static/000000000000/console.css")
    assert (other.status_code, other.headers["cache-control"]) == (200, "no-cache")
    assert client.get(f"/static/{assets.version}/none.css").status_code == 404
    assert client.get(f"/static/{assets.version}/%2e%2e/site.py").status_code == 404
    with pytest.raises(KeyError):
        assets.path("none.css")


def test_another_content_is_another_path(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("a {}")
    first = Assets(tmp_path).path("a.css")
    assert Assets(tmp_path).path("a.css") == first
    (tmp_path / "a.css").write_text("b {}")
    assert Assets(tmp_path).path("a.css") != first


def test_what_is_shipped_is_what_its_note_says() -> None:
    """Versions and hashes of the libraries stand beside them, with their licences."""
    from hashlib import sha256

    note = (FOLDER / "vendor" / "README.md").read_text("utf-8")
    shipped = [path for path in (FOLDER / "vendor").iterdir() if path.suffix in TYPES]
    for path in shipped:
        assert f"`{path.name}`" in note
        assert sha256(path.read_bytes()).hexdigest() in note
        assert (path.parent / f"{path.name.split('.')[0].removesuffix('-ext')}.LICENSE").exists()
    assert len(shipped) == 5
