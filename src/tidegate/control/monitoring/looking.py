"""One look at one endpoint, in three parts: new predictions are folded, windows are checked, labels are measured.

Each part takes the page that the one before it wrote, reads, decides apart from any transaction, and writes in one.
"""

from __future__ import annotations

from msgspec.structs import replace

from tidegate.clock import Clock
from tidegate.control.monitoring.book import Book, Lead, Page
from tidegate.control.monitoring.labels import Labels
from tidegate.control.monitoring.predictions import Predictions
from tidegate.control.monitoring.raising import Tell
from tidegate.control.monitoring.references import References
from tidegate.control.monitoring.served import Served
from tidegate.control.monitoring.state import NOT_BEGUN, MonitorState, read_state, start_of
from tidegate.control.monitoring.windows import Windows
from tidegate.monitor_plan import MonitorPlan
from tidegate.section import seconds_of
from tidegate.settings import EndpointSettings
from tidegate.storage.records import MonitorRow
from tidegate.storage.store import Store
from tidegate.types import EndpointPlan


def look(
    store: Store,
    references: References,
    clock: Clock,
    tell: Tell,
    name: str,
    endpoint: EndpointSettings,
    plan: MonitorPlan,
    lead: Lead | None,
) -> bool:
    """Whether it stopped for want of time, with predictions left to read. ``lead`` is None where a person looks. Raises
    StoreAway, RegistryAway, LeaseLost, and LostRace when another looked at this moment."""
    book = Book(store, clock, name, seconds_of(plan.window), lead)
    page, published = _begin(book, clock.wall())
    served = Served(references, name, endpoint, plan, published)
    read = Predictions(book, served, clock).fold(page)
    page = Windows(book, served, plan, tell, clock).check(read.page, read.until)
    Labels(book, served, plan.performance, tell, clock).measure(page)
    return read.more


def _begin(book: Book, now: float) -> tuple[Page, EndpointPlan | None]:
    """Where the last look ended, and what is served now."""
    with book.reading() as unit:
        row = unit.monitors.get(book.endpoint)
        latest = unit.snapshots.latest()
        row = row or MonitorRow(book.endpoint, NOT_BEGUN, now, "")
        if row.cursor == NOT_BEGUN:
            # What came in the last whole window counts too; the rest is the past of before it was watched.
            first = unit.events.first_since(book.endpoint, start_of(now, book.seconds) - book.seconds)
            row = replace(row, cursor=first - 1 if first else unit.events.newest(book.endpoint))
    state = read_state(row.body) if row.body else MonitorState()
    published = None if latest is None else latest.snapshot.endpoints.get(book.endpoint)
    return Page(row, _in_windows(state, book.seconds, now)), published


def _in_windows(state: MonitorState, seconds: float, now: float) -> MonitorState:
    """The same, or begun anew where windows had another length."""
    if state.window == seconds:
        return state
    current = start_of(now, seconds)
    # On the first look the last window is whole; then, in windows of another length, the running one is not.
    whole = current + seconds if state.window else current - seconds
    return replace(state, window=seconds, open=(), counted={}, begun=whole, volume=max(whole, current), measure=())
