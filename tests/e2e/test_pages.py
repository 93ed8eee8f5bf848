"""Every page in a real browser: it says what it has to say, in every width and colour, and asks nobody else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.conftest import Visit
from tests.e2e.plane import Plane

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

PAGES = {
    "overview": "/",
    "endpoint": "/endpoints/iris",
    "releases": "/releases",
    "ramping": "/releases/r-iris-4",
    "rolled back": "/releases/r-iris-3",
    "shadow": "/releases/r-sentiment-4",
    "paused": "/releases/r-fraud-2",
    "failed": "/releases/r-fraud-1",
    "experiments": "/experiments",
    "experiment": "/experiments/homepage-order",
    "models": "/models",
    "model": "/models/iris",
    "audit": "/audit",
    "keys": "/keys",
    "confirm": "/releases/r-iris-4/promote",
}
LOOKS: dict[str, tuple[int, int, Literal["light", "dark"]]] = {
    "light": (1440, 900, "light"),
    "dark": (1440, 900, "dark"),
    "phone": (390, 844, "light"),
}
AXE = Path(__file__).parent / "vendor" / "axe.min.js"


@pytest.fixture(scope="module", params=list(LOOKS))
def visit(request: pytest.FixtureRequest, up: Plane, browser: Browser) -> Iterator[Visit]:
    """Signed in as administrator, in one of the looks."""
    width, height, scheme = LOOKS[request.param]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    found = Visit(context, up.url)
    found.sign_in(up.keys["admin"])
    yield found
    context.close()


@pytest.fixture
def tab(up: Plane, browser: Browser) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    yield Visit(context, up.url)
    context.close()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_in_every_look(visit: Visit, name: str) -> None:
    visit.open(PAGES[name])
    expect(visit.page.locator("h1, h2").first).to_be_visible()
    for figure in visit.page.locator("figure[data-chart]").all():
        expect(figure.locator("canvas").first).to_be_attached()
    wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert visit.page.evaluate(wider) == 0, "it scrolls sideways"
    visit.check()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_accessible(visit: Visit, name: str) -> None:
    visit.open(PAGES[name])
    visit.page.evaluate(AXE.read_text("utf-8"))
    found = visit.page.evaluate(
        "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']})"
    )
    bad = [
        f"{violation['id']}: {node['html'][:200]} {node.get('failureSummary', '')}"
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]
    assert bad == []
    visit.wrong.clear()


def test_the_sign_in_page_is_accessible_and_takes_no_wrong_key(tab: Visit) -> None:
    tab.open("/sign-in")
    tab.page.evaluate(AXE.read_text("utf-8"))
    assert [found["id"] for found in tab.page.evaluate("axe.run()")["violations"]] == []
    tab.page.get_by_label("API key").fill("tg_000000000000_" + "x" * 43)
    tab.page.get_by_role("button", name="Sign in").click()
    expect(tab.page.get_by_role("alert")).to_contain_text("not valid")


def test_a_visitor_learns_three_things_at_once(tab: Visit, up: Plane) -> None:
    """argoproj/argo-rollouts#404, #2087: the reason is where the state is, without a click."""
    tab.page.set_viewport_size({"width": 1440, "height": 900})
    tab.sign_in(up.keys["operate"])
    card = tab.page.locator("#endpoint-iris")
    expect(card).to_contain_text("v3 answers 95\u2009% of users")
    expect(card).to_contain_text("5\u2009% of users by X-User-Id")
    expect(card).to_contain_text("Why it has not been promoted yet")
    expect(card).to_contain_text("1312 of 2000 requests")
    box = card.bounding_box()
    assert box is not None
    assert box["y"] + box["height"] < 900, "below the fold"


def test_every_page_reads_without_a_script(up: Plane, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    visit = Visit(context, up.url)
    visit.sign_in(up.keys["admin"])
    for path in PAGES.values():
        visit.open(path)
    visit.open("/releases/r-iris-4")
    evidence = visit.page.locator("#evidence-1 details")
    expect(visit.page.locator("#evidence-1-plot")).to_be_hidden()
    evidence.locator("summary").click()
    expect(evidence.get_by_role("row")).to_have_count(41)
    visit.page.get_by_role("button", name="Pause").click()
    expect(visit.page.get_by_role("heading", name=re.compile("Pause the release"))).to_be_visible()
    context.close()


def test_empty_pages_say_what_to_type(empty: Plane, browser: Browser) -> None:
    context = browser.new_context()
    visit = Visit(context, empty.url)
    visit.sign_in(empty.keys["admin"])
    for path, command in (
        ("/", "tidegate serve"),
        ("/releases", "tidegate release start"),
        ("/experiments", "tidegate experiment start"),
    ):
        visit.open(path)
        expect(visit.page.locator("#live pre").first).to_contain_text(command)
    visit.check()
    context.close()


def test_colours_are_chosen_and_kept(tab: Visit, up: Plane) -> None:
    tab.sign_in(up.keys["operate"])
    button = tab.page.get_by_role("button", name="Colours")
    button.click()
    button.click()
    assert tab.page.evaluate("document.documentElement.dataset.theme") == "dark"
    dark = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
    tab.open("/releases/r-iris-4")
    assert tab.page.evaluate("getComputedStyle(document.body).backgroundColor") == dark
    button.click()
    assert tab.page.evaluate("document.documentElement.dataset.theme ?? 'system'") == "system"
    tab.check()
