"""Monitoring, alerts, jobs, retrainings and reports in a real browser, over two days that the real monitor has looked at."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e import seed
from tests.e2e.conftest import Visit
from tests.e2e.plane import Plane, plane
from tests.e2e.test_pages import AXE, LOOKS
from tests.process import until
from tidegate.control.jobs.job import Progress
from tidegate.control.jobs.queue import job_of, row_of
from tidegate.control.monitoring.records import Alert

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

FEATURE = "/monitoring/churn/feature?name=monthly_charges"
PAGES = {
    "monitoring": "/monitoring",
    "monitored": "/monitoring/churn",
    "feature": FEATURE,
    "no reference": "/monitoring/fraud",
    "alerts": "/alerts",
    "alert": "/alerts/a-fraud-amount",
    "silence": "/alerts/a-fraud-amount/silence",
    "jobs": "/jobs",
    "job": "/jobs/j-train-1",
    "retrainings": "/retrainings",
    "retraining": "/retrainings/t-churn-1",
    "reports": "/reports",
    "report": "/reports/doc-churn-1",
}
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
RULES = {
    "light": "{runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'], iframes: false}",
    "dark": "{runOnly: {type: 'rule', values: ['color-contrast']}, iframes: false}",
    "phone": "{runOnly: {type: 'rule', values: ['scrollable-region-focusable', 'target-size']}, iframes: false}",
}
"""Of axe: everything once, and what the other looks may change."""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    with plane(tmp_path_factory.mktemp("watching"), watching=True) as found:
        yield found


@pytest.fixture
def visit(own: Plane, browser: Browser) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    found = Visit(context, own.url)
    found.sign_in(own.keys["admin"])
    yield found
    context.close()


@pytest.mark.parametrize("look", LOOKS)
def test_pages_are_whole_and_accessible(own: Plane, browser: Browser, look: str) -> None:
    width, height, scheme = LOOKS[look]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    visit = Visit(context, own.url)
    visit.sign_in(own.keys["admin"])
    bad = []
    for name, path in PAGES.items():
        visit.open(path)
        for figure in visit.page.locator("figure[data-chart]").all():
            expect(figure.locator("canvas").first).to_be_attached()
        assert visit.page.evaluate(WIDER) == 0, f"{name} scrolls sideways"
        visit.check()
        visit.page.evaluate(AXE.read_text("utf-8"))
        for violation in visit.page.evaluate(f"axe.run(document, {RULES[look]})")["violations"]:
            if violation["impact"] in ("serious", "critical"):
                bad += [f"{name}: {violation['id']}: {node['html'][:200]}" for node in violation["nodes"]]
        visit.wrong.clear()
    assert bad == []
    context.close()


def test_the_heat_map_leads_to_a_feature_in_its_window(visit: Visit) -> None:
    visit.open("/monitoring/churn")
    heat = visit.page.locator("table.heat")
    first = heat.locator("tbody tr").first
    expect(first.locator("th")).to_have_text("monthly_charges")
    expect(first.locator("td.hit").last).to_contain_text("drifted")
    expect(heat.locator("td.few")).to_have_count(4 * heat.locator("tbody tr").count())
    expect(heat.locator("thead th.new b")).to_have_text("v4")
    cell = first.locator("td.hit").nth(2)
    cell.hover()
    expect(cell).to_have_attribute("title", re.compile(r"monthly_charges, 2026-11-2. ..:00 UTC: .* drifted"))
    cell.click()
    visit.page.wait_for_url(re.compile(r"/feature\?name=monthly_charges.*start="))
    expect(visit.page.locator("h1 + .badge")).to_have_text("drifted")
    table = visit.page.locator("#shape-table")
    table.locator("summary").click()
    expect(table.get_by_role("row")).to_have_count(23)
    visit.page.get_by_role("link", name="Window before").click()
    expect(visit.page.locator("h1")).to_have_text("monthly_charges")
    visit.check()


def test_measured_and_estimated_accuracy_stand_beside_the_releases(visit: Visit) -> None:
    visit.open("/monitoring/churn")
    figures = visit.page.locator("#quality script.figures").text_content()
    drawn = msgspec.json.decode(figures or "")
    assert {one["name"]: one["dashed"] for one in drawn["series"]} == {"baseline": False, "baseline, estimated": True}
    assert [name for _, name, _ in drawn["marks"]] == ["v4 promoted", "v5 rolled back", "v4 promoted"]
    assert drawn["lines"] == [[0.86, "at least 0.86"]]
    choice = visit.page.get_by_role("group", name="Windows by the time of")
    choice.get_by_role("link", name="arrival").click()
    expect(choice.get_by_role("link", name="arrival")).to_have_attribute("aria-current", "true")
    arrived = msgspec.json.decode(visit.page.locator("#quality script.figures").text_content() or "")
    measured = [next(one["points"] for one in it["series"] if not one["dashed"]) for it in (drawn, arrived)]
    assert measured[0][-1][0] < measured[1][-1][0], "labels of the newest predictions are late"
    visit.check()


def test_an_endpoint_without_a_reference_says_what_to_do(visit: Visit) -> None:
    visit.open("/monitoring/fraud")
    drift = (
        visit.page.get_by_role("region")
        .or_(visit.page.locator("section"))
        .filter(has_text="There is nothing to compare with")
    )
    expect(drift.first).to_contain_text("tidegate baseline create")
    visit.check()


def test_an_alert_is_silenced_in_a_dialog_and_no_longer_counted(own: Plane, visit: Visit) -> None:
    visit.open("/alerts")
    count = visit.page.locator("#firing")
    before = int(re.sub(r"\D", "", count.inner_text()))
    visit.page.get_by_role("button", name="Silence amount of fraud").click()
    dialog = visit.page.get_by_role("dialog")
    expect(dialog).to_contain_text("It is watched on")
    dialog.get_by_label("How long").select_option("for a day")
    dialog.get_by_role("button", name="Silence").click()
    assert alert(own).silenced_until == 0, "without a reason nothing happens"
    dialog.get_by_label("Reason").fill("the supplier knows")
    dialog.get_by_role("button", name="Silence").click()
    expect(visit.page.locator("h1 + .badge")).to_have_text("firing, silenced")
    assert alert(own).silenced_until == seed.NOW + 86_400
    expect(count).to_have_text(re.compile(rf"^{before - 1}\b"))
    expect(visit.page.locator(".timeline")).to_contain_text("the supplier knows")
    visit.check()


def test_the_count_of_alerts_follows_what_happens(own: Plane, visit: Visit) -> None:
    visit.open("/jobs")
    before = visit.page.locator("#firing").inner_text()
    silenced = own.services.monitoring.alerts("churn", ("firing",))[0]
    own.services.monitoring.silence(silenced.id, 3600.0, who="Ada", reason="elsewhere")
    own.services.clock.advance(3.0)  # type: ignore[attr-defined]
    expect(visit.page.locator("#firing")).not_to_have_text(before, timeout=20_000)
    visit.check()


def test_a_command_is_copied(own: Plane, browser: Browser) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    visit = Visit(context, own.url)
    visit.sign_in(own.keys["operate"])
    visit.open("/alerts/a-fraud-amount")
    visit.page.get_by_role("button", name="Copy").click()
    expect(visit.page.get_by_role("button", name="Copied")).to_be_visible()
    assert visit.page.evaluate("navigator.clipboard.readText()") == alert(own).command
    visit.check()
    context.close()


def test_the_progress_of_a_job_is_followed_and_a_job_is_cancelled(own: Plane, visit: Visit) -> None:
    visit.open("/jobs/j-batch-1")
    expect(visit.page.locator(".far")).to_contain_text("412\u2009000 of 1\u2009000\u2009000")
    with own.services.store.begin() as unit:
        row = unit.jobs.get("j-batch-1")
        assert row is not None
        further = msgspec.structs.replace(job_of(row), progress=Progress(900_000, 1_000_000, "scoring"))
        moved = msgspec.structs.replace(further, revision=row.revision + 1)
        unit.jobs.save(row_of(moved, seed.NOW, row.holder, row.token, row.expires), row.revision)
    expect(visit.page.locator(".far")).to_contain_text("900\u2009000 of 1\u2009000\u2009000", timeout=20_000)
    visit.page.get_by_role("button", name="Cancel").click()
    dialog = visit.page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("the wrong file")
    dialog.get_by_role("button", name="Cancel the job").click()
    expect(visit.page.locator("h1 + .badge")).to_have_text("cancelling")
    until(lambda: own.services.jobs.get("j-batch-1").cancelling, "the job is asked to end")
    visit.check()


def test_a_report_shows_itself_and_reaches_nothing(visit: Visit) -> None:
    visit.open("/reports/doc-churn-1")
    frame = visit.page.frame_locator("iframe.report")
    expect(frame.locator("h1")).to_have_text("Drift of churn")
    expect(frame.locator("#out")).to_have_text("kept in")
    assert "taken" not in visit.page.title()


def test_the_keyboard_alone_reaches_a_feature(own: Plane, visit: Visit) -> None:
    visit.open("/monitoring")
    tab_to(visit.page, "churn")
    visit.page.keyboard.press("Enter")
    visit.page.wait_for_url(re.compile("/monitoring/churn$"))
    tab_to(visit.page, "tenure")
    visit.page.keyboard.press("Enter")
    visit.page.wait_for_url(re.compile("name=tenure"))
    expect(visit.page.locator("h1")).to_have_text("tenure")


def test_pages_read_without_a_script(own: Plane, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    visit = Visit(context, own.url)
    visit.sign_in(own.keys["admin"])
    for path in PAGES.values():
        visit.open(path)
    visit.open("/monitoring/churn")
    expect(visit.page.locator("table.heat td.hit").first).to_contain_text("times its threshold")
    visit.page.locator("#quality-table summary").click()
    expect(visit.page.locator("#quality-table")).to_contain_text("baseline v4, estimated")
    context.close()


def test_empty_pages_say_what_to_type(empty: Plane, browser: Browser) -> None:
    context = browser.new_context()
    visit = Visit(context, empty.url)
    visit.sign_in(empty.keys["admin"])
    for path, command in (
        ("/monitoring", "monitor: {window: 1h"), ("/jobs", "tidegate batch"), ("/retrainings", "retrain: {config"),
        ("/reports", "tidegate report"),
    ):  # fmt: skip
        visit.open(path)
        expect(visit.page.locator("#live pre").first).to_contain_text(command)
    visit.open("/alerts")
    expect(visit.page.locator("#live")).to_contain_text("Nothing is wrong")
    visit.check()
    context.close()


def alert(own: Plane) -> Alert:
    return own.services.monitoring.alert("a-fraud-amount")


def tab_to(page: Page, name: str) -> None:
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.innerText?.trim() ?? ''") == name:
            return
    raise AssertionError(f"{name} is not reached by Tab")
