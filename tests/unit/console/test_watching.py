"""The pages of monitoring, alerts, jobs, retrainings and reports over HTTP: who sees them, what they change, what they say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from fastapi import FastAPI

from tests.e2e import production, seed, watched
from tests.e2e.plane import services_of
from tests.stores import sqlite_store
from tests.unit.console.test_site import sign_in, token
from tests.unit.control.api.client import Client
from tidegate.clock import ManualClock
from tidegate.console import chains
from tidegate.console.pages.alerts import line_of
from tidegate.console.pages.jobs import actions, written
from tidegate.console.sentences import about, judged
from tidegate.control.api.app import make_app
from tidegate.control.api.services import Services
from tidegate.control.monitoring.raising import AlertChange
from tidegate.control.monitoring.records import Finding

PATHS = (
    "/monitoring", "/monitoring/churn", "/monitoring/fraud", "/alerts", "/alerts?endpoint=fraud", "/alerts/a-fraud-amount",
    "/alerts/a-fraud-amount/silence", "/jobs", "/jobs?state=failed", "/jobs?kind=batch", "/jobs/j-batch-1", "/jobs/j-train-1",
    "/jobs/j-batch-1/cancel", "/retrainings", "/retrainings/t-churn-1", "/retrainings/t-churn-2", "/retrainings/t-iris-1",
    "/retrainings/t-iris-1/cancel", "/reports", "/reports/doc-churn-1",
)  # fmt: skip


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    folder = tmp_path_factory.mktemp("watching")
    clock = ManualClock(seed.NOW)
    store = sqlite_store(folder, clock)
    seed.seed(store, windows=1)
    watched.add(store)
    yield services_of(store, production.settings(), clock, folder)
    store.close()


@pytest.fixture(scope="module")
def app(services: Services) -> FastAPI:
    return make_app(services)


@pytest.fixture(scope="module")
def client(app: FastAPI, services: Services) -> Iterator[Client]:
    """Signed in as administrator."""
    found = Client(app)
    sign_in(found, services)
    yield found
    found.close()


@pytest.fixture
def limited(app: FastAPI, services: Services) -> Iterator[Client]:
    """Signed in with a key for iris alone."""
    found = Client(app)
    sign_in(found, services, "operate", endpoints=("iris",))
    yield found
    found.close()


@pytest.mark.parametrize("path", PATHS)
def test_pages_are_shown_and_what_is_markup_stays_text(client: Client, path: str) -> None:
    shown = client.get(path)
    assert shown.status_code == 200, shown.text[:500]
    assert "<img" not in shown.text
    assert "never-shown" not in shown.text
    tags = re.sub(r'"[^"]*"', '""', shown.text)
    assert not re.search(r"<[^>]+\s(style|on[a-z]+)=", tags), "the policy would refuse it"
    assert not re.search(r"(src|href)=\"(https?:)?//", shown.text), "everything comes from here"
    frames = "frame-src" in shown.headers["content-security-policy"]
    assert frames == (path == "/reports/doc-churn-1"), "only a report is shown in a frame"


def test_a_report_is_shown_in_a_frame_that_can_do_nothing(client: Client) -> None:
    page = client.get("/reports/doc-churn-1").text
    frame = re.search(r"<iframe[^>]+>", page)
    assert frame is not None
    assert 'sandbox="allow-scripts"' in frame.group(0)
    address = re.search(r'src="([^"]+)"', frame.group(0))
    assert address is not None
    document = client.get(address.group(1))
    assert document.status_code == 200
    assert "sandbox allow-scripts" in document.headers["content-security-policy"]
    assert "frame-ancestors 'self'" in document.headers["content-security-policy"]


@pytest.mark.slow
def test_a_limited_key_sees_what_is_of_its_endpoints(limited: Client) -> None:
    for path in PATHS:
        wanted = 200 if path in ("/monitoring", "/alerts", "/jobs", "/retrainings", "/reports") or "?" in path else 403
        if "iris" in path:
            wanted = 200
        if path == "/alerts?endpoint=fraud":
            wanted = 403
        answer = limited.get(path)
        assert answer.status_code == wanted, path
        if wanted == 200:
            assert not re.search(
                r"churn|fraud|j-dvc-1", re.sub(r"<details.*?</details>", "", answer.text, flags=re.DOTALL)
            ), path
    assert "j-batch-2" in limited.get("/jobs").text
    assert re.search(r'id="firing"[^>]* hidden', limited.get("/").text), "no alert of others is counted"


def test_the_menu_counts_what_fires_and_is_not_silenced(client: Client) -> None:
    counted = r'<span class="count" id="firing"(?![^>]*hidden)[^>]*>1<'
    assert re.search(counted, client.get("/models").text)
    part = client.get("/jobs", headers={"HX-Request": "true"}).text
    assert 'hx-swap-oob="true"' in part
    overview = client.get("/").text
    assert len(re.findall(r'href="/alerts\?endpoint=fraud"', overview)) == 1
    assert "1 alert<" in overview


def test_an_alert_is_silenced_with_a_reason_and_for_so_long(client: Client, services: Services) -> None:
    csrf = token(client)
    path = "/alerts/a-fraud-amount/silence"
    assert client.post(path, data={"csrf": "wrong", "reason": "x", "seconds": "3600"}).status_code == 403
    for form in (
        {"reason": " ", "seconds": "3600"},
        {"reason": "x" * 501, "seconds": "3600"},
        {"reason": "x", "seconds": "5"},
    ):
        assert client.post(path, data={"csrf": csrf, **form}).status_code == 422
    assert services.monitoring.alert("a-fraud-amount").silenced_until == 0
    done = client.post(path, data={"csrf": csrf, "reason": "we know; <b>wait</b>", "seconds": "14400"})
    assert (done.status_code, done.headers["location"]) == (303, "/alerts/a-fraud-amount")
    assert services.monitoring.alert("a-fraud-amount").silenced_until == seed.NOW + 14_400
    page = client.get("/alerts/a-fraud-amount").text
    assert "firing, silenced" in page
    assert "we know; &lt;b&gt;wait&lt;/b&gt;" in page
    assert re.search(r'id="firing"[^>]* hidden', page), "what is silenced is not counted"
    with services.store.read() as unit:
        last = unit.audit.last()
    assert last is not None
    assert last.action == "alert.silence"
    assert last.who.startswith("admin (")
    ended = client.post("/alerts/a-fraud-amount/unsilence", data={"csrf": csrf, "reason": "enough"})
    assert ended.status_code == 303
    assert services.monitoring.alert("a-fraud-amount").silenced_until <= seed.NOW
    assert "Silence ended" in client.get("/alerts/a-fraud-amount").text


def test_jobs_are_cancelled_and_tried_again_through_the_queue(client: Client, services: Services) -> None:
    csrf = token(client)
    assert client.post("/jobs/j-batch-1/cancel", data={"csrf": csrf, "reason": ""}).status_code == 422
    assert client.post("/jobs/j-batch-1/cancel", data={"csrf": csrf, "reason": "the wrong file"}).status_code == 303
    assert services.jobs.get("j-batch-1").cancelling
    page = client.get("/jobs/j-batch-1").text
    assert "cancelling" in page
    assert "/jobs/j-batch-1/cancel" not in page, "it is asked for already"
    assert client.post("/jobs/j-train-1/retry", data={"csrf": csrf, "reason": "the column is there"}).status_code == 303
    assert services.jobs.get("j-train-1").state == "queued"
    assert client.post("/jobs/j-batch-3/retry", data={"csrf": csrf, "reason": "again"}).status_code == 409
    done = client.get("/jobs/j-batch-3").text
    for name in ("results", "errors"):
        assert f'href="/api/v1/batch-jobs/j-batch-3/{name}"' in done
    assert 'href="/reports/doc-churn-1"' in client.get("/jobs/j-report-1").text


def test_a_retraining_is_started_and_cancelled_with_a_reason(client: Client, services: Services) -> None:
    csrf = token(client)
    path = "/retrainings/of/churn/start"
    assert "Train churn anew?" in client.get(path).text
    assert client.post(path, data={"csrf": csrf, "reason": " "}).status_code == 422
    begun = client.post(path, data={"csrf": csrf, "reason": "new data"})
    assert begun.status_code == 303
    page = begun.headers["location"]
    found = services.retraining.get(page.removeprefix("/retrainings/"))
    assert (found.endpoint, found.reason, found.open) == ("churn", "new data", True)
    assert client.post(path, data={"csrf": csrf, "reason": "twice"}).status_code == 409
    assert client.post(f"{page}/cancel", data={"csrf": csrf, "reason": "x" * 501}).status_code == 422
    assert client.post(f"{page}/cancel", data={"csrf": csrf, "reason": "not yet"}).status_code == 303
    assert not services.retraining.get(found.id).open
    assert "Cancel</a>" not in client.get(page).text


def test_a_retraining_is_one_line_from_its_cause_to_its_outcome(client: Client) -> None:
    page = client.get("/retrainings/t-churn-1").text
    chain = page[page.index('id="chain-name"') : page.index('id="history-name"')]
    names = re.findall(r"<b>([^<]+)</b>", chain)
    assert names == ["Alert", "Drift report", "Data", "Training", "Gate", "Version", "Release", "Promoted"]
    for href in (
        "/alerts/a-fraud-amount",
        "/monitoring/churn",
        "/jobs/j-train-2",
        "/models/churn",
        "/releases/r-churn-4",
    ):
        assert f'href="{href}"' in chain, href
    assert chain.count('href="/alerts/') == 1, "an alert that is gone has no page"


def test_what_is_to_come_is_said_so() -> None:
    found = {one.id: chains.chain(one, {}, None) for one in watched.retrainings()}
    assert [step.mark for step in found["t-iris-1"]] == ["done", "", "now", "", "", "", ""]
    assert [step.mark for step in found["t-churn-2"]] == ["done", "", "stop", "", "", "", "stop"]
    assert [step.mark for step in found["t-churn-1"]] == ["done"] * 8


def test_nobody_sees_them_without_a_session(app: FastAPI) -> None:
    stranger = Client(app)
    for path in PATHS:
        assert stranger.get(path).status_code == 303, path
        assert stranger.post(path, data={"reason": "x"}).status_code in (303, 405), path
    stranger.close()


def test_the_older_half_of_alerts_is_on_another_page(tmp_path: Path) -> None:
    clock = ManualClock(seed.NOW)
    store = sqlite_store(tmp_path, clock)
    services = services_of(store, production.settings(), clock, tmp_path)
    with store.begin() as unit:
        for number in range(40):
            state = {"state": "resolved", "resolved": seed.NOW, "changed": seed.NOW - number, "column": f"c{number}"}
            watched.add_alert(unit, watched.alert(f"a-{number}", **state))
    client = Client(make_app(services))
    sign_in(client, services)
    first = client.get("/alerts").text
    following = re.search(r'href="(/alerts\?cursor=[^"]+)">Older', first)
    assert following is not None
    second = client.get(following.group(1)).text
    shown = [set(re.findall(r'href="/alerts/(a-\d+)"', page)) for page in (first, second)]
    assert (len(shown[0]), len(shown[1])) == (30, 10)
    assert not shown[0] & shown[1]
    client.close()
    store.close()


def test_an_alert_counts_in_the_list_that_shows_it_however_often_people_look(tmp_path: Path) -> None:
    clock = ManualClock(seed.NOW)
    store = sqlite_store(tmp_path, clock)
    services = services_of(store, production.settings(), clock, tmp_path)
    client = Client(make_app(services))
    sign_in(client, services)
    assert "firing" not in client.get("/alerts").text.split("raised-name")[1].split("</section>")[0]
    with store.begin() as unit:
        watched.add_alert(unit, watched.alert("a-new"))
        watched.add_alert(unit, watched.alert("a-quiet", silenced_until=seed.NOW + 60))
    assert "1 firing, 1 silenced" in client.get("/alerts").text
    client.close()
    store.close()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/monitoring/none", 404), ("/monitoring/iris", 404), ("/monitoring/churn?until=x", 422),
        ("/monitoring/churn?until=nan", 422), ("/monitoring/churn?until=1e300", 422), ("/monitoring/churn?until=5", 200),
        ("/monitoring/churn?variant=<b>&metric=<b>&by=<b>", 200), ("/monitoring/churn/feature?name=none", 404),
        ("/monitoring/churn/feature", 404), ("/alerts/none", 404), ("/alerts/a-fraud-amount/explode", 404),
        ("/jobs/none", 404), ("/jobs/j-batch-1/explode", 404), ("/jobs?state=<b>", 200), ("/jobs?cursor=none", 200),
        ("/retrainings/none", 404), ("/retrainings/of/iris/start", 404), ("/reports/none", 404), ("/reports?cursor=x", 200),
    ],
)  # fmt: skip
def test_odd_addresses_are_answered(client: Client, path: str, status: int) -> None:
    answer = client.get(path)
    assert answer.status_code == status
    assert "<b>&" not in answer.text
    assert "Traceback" not in answer.text


def test_secrets_in_a_payload_are_not_shown() -> None:
    shown = written({"api_key": "a", "nested": [{"password": "b", "name": "c"}], "keep": ["d"], "token": "", "keys": 1})
    assert '"a"' not in shown
    assert '"b"' not in shown
    assert '"c"' in shown
    assert '"d"' in shown
    assert written({}) == ""
    assert len(written({"text": "x" * 100_000})) < 21_000


def test_only_what_can_be_done_is_offered() -> None:
    offered = {job.id: actions(job) for job in watched.jobs()}
    assert offered == {
        "j-batch-1": ["cancel"], "j-batch-2": ["cancel"], "j-batch-3": [], "j-report-1": [], "j-train-1": ["retry"], "j-train-2": [],
        "j-dvc-1": ["retry"],
    }  # fmt: skip
    assert actions(msgspec.structs.replace(watched.jobs()[0], cancelling=True)) == []


def test_what_happened_to_an_alert_is_said_in_words() -> None:
    silence = AlertChange(
        event="silence", before="firing", after="firing", who="Ada (k1)", reason="lunch", text="psi 3"
    )
    assert line_of(5.0, silence)[1:] == ("", "Silenced", "Ada (k1)", "lunch", False)
    fired = AlertChange(event="fired", before="pending", after="firing", text="psi 3", notified=True)
    assert line_of(5.0, fired)[1:] == ("bad", "Fired", "", "psi 3", True)
    assert line_of(5.0, msgspec.structs.replace(fired, event="brand_new")).heading == "Brand new"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "monthly_charges"),
        ({"source": "quality", "statistic": "new_categories"}, "new categories in monthly_charges"),
        ({"source": "quality", "statistic": "volume", "column": ""}, "volume"),
        ({"source": "performance", "statistic": "roc_auc", "column": ""}, "roc auc"),
    ],
)
def test_an_alert_is_named_by_what_it_is_about(more: dict[str, str], said: str) -> None:
    assert about(watched.alert("a", **more)) == said


@pytest.mark.parametrize(
    ("check", "value", "broken", "outcome"),
    [
        ("missing", 0.2, True, "fail"), ("missing", 0.2, False, "undecided"), ("missing", 0.05, False, "pass"),
        ("volume", 5.0, False, "pass"), ("volume", 0.05, False, "undecided"),
    ],
)  # fmt: skip
def test_beyond_a_bound_by_chance_is_undecided(check: str, value: float, broken: bool, outcome: str) -> None:
    found = Finding(check=check, value=value, bound=0.1, count=1, rows=20, broken=broken)  # type: ignore[arg-type]
    assert judged(found) == outcome
