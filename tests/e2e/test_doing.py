"""What a person does in the console, in a real browser, and what becomes of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from playwright.sync_api import Browser, expect

from tests.e2e import seed
from tests.e2e.conftest import Visit
from tests.e2e.plane import Plane, plane
from tests.process import until
from tidegate.control.releases.history import release_of, row_of
from tidegate.observations import VariantWindow

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Plane]:
    """A control port that the test may change."""
    with plane(tmp_path) as found:
        yield found


@pytest.fixture
def visit(own: Plane, browser: Browser) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    found = Visit(context, own.url)
    found.sign_in(own.keys["admin"])
    yield found
    context.close()


def state_of(own: Plane, release: str) -> str:
    with own.services.store.read() as unit:
        row = unit.releases.get(release)
    assert row is not None
    return row.state


def test_a_pause_needs_a_reason_and_is_in_the_audit_log(own: Plane, visit: Visit) -> None:
    visit.open("/releases/r-iris-4")
    visit.page.get_by_role("button", name="Pause").click()
    dialog = visit.page.get_by_role("dialog")
    expect(dialog).to_contain_text("Guardrails still watch it")
    dialog.get_by_role("button", name="Pause").click()
    assert state_of(own, "r-iris-4") == "ramping", "without a reason nothing happens"
    dialog.get_by_label("Reason").fill("the on-call engineer wants to look")
    dialog.get_by_role("button", name="Pause").click()
    expect(visit.page.locator("h1 + .badge")).to_have_text("paused")
    expect(visit.page.get_by_text("Why it is paused")).to_be_visible()
    expect(visit.page.get_by_role("button", name="Resume")).to_be_visible()
    assert state_of(own, "r-iris-4") == "paused"
    visit.open("/audit")
    first = visit.page.locator("table.audit tbody tr").filter(has_text="release.pause").first
    expect(first).to_contain_text("the on-call engineer wants to look", ignore_case=True)
    expect(first).to_contain_text("Ada")
    expect(visit.page.get_by_text("The log is whole.")).to_be_visible()
    visit.check()


def test_a_rollback_is_two_clicks_and_a_reason(own: Plane, visit: Visit) -> None:
    visit.open("/releases/r-iris-4")
    visit.page.get_by_role("button", name="Roll back").click()
    dialog = visit.page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("customers call")
    dialog.get_by_role("button", name="Roll back").click()
    expect(visit.page.locator("h1 + .badge")).to_have_text("rolled back")
    expect(visit.page.get_by_role("button", name="Promote")).to_have_count(0)
    visit.check()


def test_the_dialog_can_be_left(visit: Visit) -> None:
    visit.open("/releases/r-iris-4")
    for leave in ("Cancel", "Escape"):
        visit.page.get_by_role("button", name="Promote").click()
        dialog = visit.page.get_by_role("dialog")
        expect(dialog.get_by_label("Reason")).to_be_focused()
        if leave == "Escape":
            visit.page.keyboard.press("Escape")
        else:
            dialog.get_by_role("button", name="Cancel").or_(dialog.get_by_text("Cancel")).click()
        expect(dialog).to_be_hidden()
        expect(visit.page.get_by_role("button", name="Promote")).to_be_focused()
    visit.check()


def test_a_dialog_that_cannot_be_had_says_why(own: Plane, visit: Visit) -> None:
    visit.open("/releases/r-iris-4")
    promote, dialog = visit.page.get_by_role("button", name="Promote"), visit.page.get_by_role("dialog")
    said = visit.page.locator("#refused")
    elsewhere = f"{own.url}/releases/r-gone/promote"
    problem = '{"title": "Too many calls", "detail": "This key may call 5 times a minute"}'
    for answer, words in (
        (lambda route: route.continue_(url=elsewhere), "There is nothing here. There is no release r-gone."),
        (lambda route: route.fulfill(status=429, body=problem), "Too many calls. This key may call 5 times a minute"),
        (lambda route: route.fulfill(status=502, body="<hr>"), "The control plane answered 502."),
        (lambda route: route.abort(), "The control plane does not answer. Try again in a moment."),
    ):
        visit.page.route("**/promote", answer)
        promote.click()
        expect(said).to_have_text(words)
        expect(said).to_be_in_viewport()
        expect(dialog).to_be_hidden()
        visit.page.unroute("**/promote")
    promote.click()
    expect(dialog.get_by_label("Reason")).to_be_focused()
    expect(said).to_be_hidden()


def test_a_key_is_made_shown_once_rotated_and_revoked(own: Plane, visit: Visit) -> None:
    visit.open("/keys")
    visit.page.get_by_label("Name").fill("nightly job")
    visit.page.get_by_role("radio", name="operate").check()
    visit.page.get_by_role("button", name="Create the key").click()
    shown = visit.page.locator("#secret").inner_text()
    assert re.fullmatch(r"tg_[a-z0-9]+_[A-Za-z0-9_-]{40,}", shown)
    assert own.services.access.keys.recognise(shown).facts.name == "nightly job"
    visit.page.get_by_text("I have it").click()
    assert shown not in visit.page.content()
    visit.page.get_by_role("button", name="Rotate nightly job").click()
    visit.page.get_by_role("dialog").get_by_label("The old key ends").select_option("at once")
    visit.page.get_by_role("dialog").get_by_role("button", name="Rotate").click()
    fresh = visit.page.locator("#secret").inner_text()
    assert fresh != shown
    visit.page.get_by_text("I have it").click()
    visit.page.get_by_role("button", name="Revoke nightly job").first.click()
    visit.page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(visit.page.get_by_role("row").filter(has_text="nightly job").filter(has_text="revoked")).to_have_count(2)
    visit.check()


def test_the_keyboard_alone_is_enough(own: Plane, browser: Browser) -> None:
    """From the sign-in to a paused release without a mouse."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    visit = Visit(context, own.url)
    visit.open("/sign-in")
    visit.page.keyboard.type(own.keys["operate"])
    visit.page.keyboard.press("Enter")
    visit.page.wait_for_url(f"{own.url}/")
    visit.page.keyboard.press("Tab")
    expect(visit.page.get_by_role("link", name="Skip to the content")).to_be_focused()
    visit.page.keyboard.press("Enter")
    tab_to(visit, "Release r-iris-4")
    visit.page.keyboard.press("Enter")
    visit.page.wait_for_url(re.compile("/releases/r-iris-4"))
    tab_to(visit, "Pause")
    visit.page.keyboard.press("Space")
    expect(visit.page.get_by_role("dialog").get_by_label("Reason")).to_be_focused()
    visit.page.keyboard.type("lunch")
    tab_to(visit, "Pause")
    visit.page.keyboard.press("Enter")
    expect(visit.page.locator("h1 + .badge")).to_have_text("paused")
    visit.check()
    context.close()


def tab_to(visit: Visit, name: str) -> None:
    for _ in range(80):
        visit.page.keyboard.press("Tab")
        if visit.page.evaluate("document.activeElement.innerText?.trim() ?? ''") == name:
            return
    raise AssertionError(f"{name} is not reached by Tab")


def test_a_page_follows_what_happens_without_losing_the_focus(own: Plane, visit: Visit) -> None:
    visit.open("/releases/r-iris-4")
    visit.page.locator("#evidence-1-table summary").click()
    visit.page.locator("#do-pause").focus()
    visit.page.evaluate("document.querySelector('#evidence-1 canvas').dataset.mark = 'same'")
    with own.services.store.begin() as unit:
        row = unit.releases.get("r-iris-4")
        assert row is not None
        release = msgspec.structs.replace(release_of(row), waiting="step 2 of 5 (5 %): 1999 of 2000 requests")
        unit.releases.save(row_of(release), None, row.revision)
    expect(visit.page.get_by_text("1999 of 2000 requests")).to_be_visible(timeout=20_000)
    expect(visit.page.locator("#do-pause")).to_be_focused()
    assert visit.page.evaluate("document.querySelector('#evidence-1-table').open"), "the open table was shut"
    assert visit.page.evaluate("document.querySelector('#evidence-1 canvas').dataset.mark") == "same", "drawn anew"
    visit.check()


def test_a_page_says_when_it_is_cut_off_and_recovers(visit: Visit) -> None:
    visit.open("/")
    visit.page.route("**/*", lambda route: route.abort())
    lost = visit.page.get_by_text("The control plane does not answer.")
    expect(lost).to_be_visible(timeout=20_000)
    expect(visit.page.locator("#endpoint-iris")).to_be_visible()
    visit.page.unroute("**/*")
    expect(lost).to_be_hidden(timeout=20_000)


def test_figures_follow_the_traffic(own: Plane, visit: Visit) -> None:
    visit.open("/")
    window = VariantWindow(
        process="late", sequence=1, endpoint="churn", variant="baseline", version="4", snapshot=2, share=10_000,
        start=seed.NOW - 5, seconds=1, requests=600_000, outcomes={"ok": 600_000}, latency={500: 600_000},
    )  # fmt: skip
    with own.services.store.begin() as unit:
        unit.windows.add([window])
    own.services.clock.advance(1.5)  # type: ignore[attr-defined]
    expect(visit.page.locator("#endpoint-churn .figure").first).to_contain_text("10.1\u2009k", timeout=20_000)


def test_an_operator_sees_no_keys_and_a_form_from_elsewhere_does_nothing(own: Plane, browser: Browser) -> None:
    context = browser.new_context()
    visit = Visit(context, own.url)
    visit.sign_in(own.keys["operate"])
    answer = visit.page.goto(f"{own.url}/keys")
    assert answer is not None
    assert answer.status == 403
    refused = context.request.post(f"{own.url}/releases/r-iris-4/pause", form={"reason": "x", "csrf": "wrong"})
    assert refused.status == 403
    assert state_of(own, "r-iris-4") == "ramping"
    context.close()


def test_a_session_that_ends_leads_to_the_door(own: Plane, visit: Visit) -> None:
    visit.open("/releases/r-iris-4")
    own.services.clock.advance(7200.0)  # type: ignore[attr-defined]
    visit.page.wait_for_url(re.compile(r"/sign-in\?next=/releases/r-iris-4"), timeout=20_000)
    until(lambda: visit.page.get_by_label("API key").is_visible(), "the sign-in form")
