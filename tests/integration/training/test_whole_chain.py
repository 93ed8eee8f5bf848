"""Everything on one PostgreSQL server: the store, the data that is trained on, and the whole way from an alert to a promotion."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy.engine import make_url

from tests.databases import create_database, migrated, server
from tests.integration.training.customers import Database, everything, none_of
from tests.integration.training.place import RETRAIN, Place
from tests.integration.training.test_retrain import Plane
from tests.unit.control.releases.plane import PLAN, Instance
from tidegate.clock import SystemClock
from tidegate.control.monitoring.service import MonitorService
from tidegate.control.training.retraining import Retraining

__all__ = ["migrated", "server"]

pytestmark = pytest.mark.slow

HOUR = 3600.0
QUERY = "SELECT age, charges, plan, churned FROM customers"


class Chain(Plane):
    """The monitor, the retrainings and the releases of one control plane, and two instances that serve."""

    def __init__(self, place: Place, store: Any) -> None:
        hour = (SystemClock().wall() // HOUR - 2) * HOUR
        super().__init__(place, store, hour)
        settings = place.loaded.settings
        self.monitor = MonitorService(store, self.registry, settings, self.clock, "one", base=place.folder)
        self.instances = [Instance(self, "a"), Instance(self, "b")]

    def second(self) -> None:
        """Requests are answered and counted, and the control plane looks at the release."""
        self.clock.advance(1)
        with self.store.begin(durable=False) as unit:
            newest = unit.snapshots.latest()
            counted = [window for one in self.instances for window in one.windows(unit, {}, 100)]
            for one in self.instances:
                one.follow(unit, newest, self.clock.wall())
            unit.windows.add(counted)
        self.releases.tick()

    def found(self) -> Retraining:
        [one] = self.service.list()
        return one


def test_from_an_alert_to_the_promotion(
    tmp_path: Path, server: str, migrated: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url, customers = create_database(server, migrated), Database(server)
    endpoint = {
        "model": "models:/churn@champion",
        "monitor": {"retrain": RETRAIN},
        "release": msgspec.to_builtins(PLAN),
    }
    place = Place(tmp_path, store={"url": url}, endpoints={"churn": endpoint})
    place.describe(data=customers.source(QUERY), families={"decision_tree": {"max_depth": 4}}, schema=None)
    first = place.train()
    assert (first.version, first.origins[0].kind) == ("1", "sql")
    store = place.store()
    chain = Chain(place, store)
    chain.publish()
    chain.monitor.tick()
    begin = chain.clock.wall()
    chain.production(650, begin, begin + 690)
    chain.service.tick()
    assert not chain.service.list(), "nobody has looked at the predictions yet"

    chain.clock.advance(700)
    chain.monitor.tick()
    firing = {alert.id: alert for alert in chain.monitor.alerts(states=("firing",))}
    chain.service.tick()
    begun = chain.found()
    assert (begun.state, begun.trigger, begun.mode) == ("queued", "alert", "combined")
    assert begun.alerts
    assert set(begun.alerts) <= set(firing)
    assert [chain.monitor.report(id).drifted for id in begun.reports] == [True]  # noqa: A001

    job = place.run_job(store)
    assert (job.state, job.error, job.parent) == ("done", "", begun.id)
    accepted = chain.tick()
    assert accepted.state == "accepted", accepted.events
    outcome = accepted.outcome
    assert outcome is not None
    assert (outcome.version, outcome.gate.champion_version, outcome.rows.production) == ("2", "1", 600)
    assert outcome.origins[0].kind == "sql"
    releasing = chain.tick()
    release = chain.releases.get(releasing.release)
    assert (release.candidate.version, release.baseline.version, release.requested_by) == ("2", "1", "training")

    for _ in range(120):
        chain.second()
        if chain.releases.get(release.id).state == "promoted":
            break
    promoted = chain.tick()
    assert [event.state for event in promoted.events] == ["queued", "accepted", "releasing", "promoted"]
    assert chain.registry.get("churn", "champion").version == "2"
    assert chain.releases.replay(release.id).agrees
    with store.read() as unit:
        newest = unit.snapshots.latest()
        audited = [row.action for row in unit.audit.rows()]
    assert newest is not None
    assert newest.snapshot.endpoints["churn"].baseline.model.version == "2"
    assert "retraining.start" in audited

    chain.clock.advance(60)
    chain.service.tick()
    assert chain.found() == promoted, "the alert was about version 1"
    kept = [file.read_bytes().decode("utf-8", "replace") for file in (tmp_path / "run").rglob("*") if file.is_file()]
    written = everything(store)
    none_of(customers.url, caplog.text, written, *kept)
    assert str(make_url(url).password) not in caplog.text + written + "".join(kept)
    store.close()
