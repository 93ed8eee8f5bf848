"""A report's page in a real browser: complete without the internet, and harmless where somebody is signed in."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext

from tests.e2e.conftest import Visit
from tests.e2e.plane import Plane
from tidegate.control.monitoring.report_job import keep
from tidegate.control.monitoring.reports import of_tables, unpacked

pytestmark = pytest.mark.slow

ID = "doc-browser"
EVIL = "</script><script>document.title='taken over'</script><img src='http://elsewhere.test/x'>"
STEAL = """async () => {
  const tried = {};
  try { tried.cookie = document.cookie } catch (error) { tried.cookie = error.name }
  try { tried.fetched = (await fetch('/api/v1/session')).status } catch (error) { tried.fetched = error.name }
  try { localStorage.setItem('a', 'b'); tried.kept = 'yes' } catch (error) { tried.kept = error.name }
  return tried
}"""


@pytest.fixture(scope="module")
def report(up: Plane) -> str:
    rng = np.random.default_rng(0)
    reference = {"age": rng.normal(40, 10, 500), "plan": rng.choice(["pro", EVIL], 500).tolist(), EVIL: [1.0] * 500}
    production = {**reference, "age": rng.normal(50, 10, 500)}
    made = of_tables("summary", reference, production, now=0.0, title=f"iris {EVIL}")
    about = msgspec.structs.replace(made.summary, id=ID, endpoint="iris")
    keep(up.services.store, msgspec.structs.replace(made, summary=about))
    return f"/api/v1/reports/{ID}/document"


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    found = browser.new_context()
    yield found
    found.close()


def test_a_page_is_whole_loads_nothing_and_cannot_act_for_who_reads_it(
    up: Plane, report: str, context: BrowserContext
) -> None:
    Visit(context, up.url).sign_in(up.keys["operate"])
    visit = Visit(context, up.url)
    visit.open(report)
    page = visit.page
    page.get_by_text("Drift, by Tidegate and by Evidently").wait_for()
    page.locator("svg.main-svg").first.wait_for()
    assert page.get_by_text("Dataset Drift").count() > 0
    assert page.title() != "taken over"
    visit.check()
    assert [url for url in visit.requested if url.startswith("http")] == [up.url + report]
    tried = page.evaluate(STEAL)
    assert tried == {"cookie": "SecurityError", "fetched": "TypeError", "kept": "SecurityError"}


def test_a_page_that_was_saved_loads_nothing_either(up: Plane, report: str, context: BrowserContext) -> None:
    with up.services.store.read() as unit:
        row = unit.documents.get(ID)
    assert row is not None
    visit = Visit(context, up.url)
    visit.page.set_content(unpacked(row.body).html)
    visit.page.locator("svg.main-svg").first.wait_for()
    visit.check()
