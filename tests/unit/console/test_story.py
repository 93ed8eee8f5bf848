"""The page of a release while a real one runs: every stage that the release service goes through can be read."""

from __future__ import annotations

import html
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.unit.control.api.client import Client
from tests.unit.control.releases.plane import PLAN, Plane
from tidegate.control.access.gate import Access
from tidegate.control.api.app import make_app
from tidegate.control.api.services import Services
from tidegate.control.experiments.service import ExperimentService
from tidegate.control.figures import Figures
from tidegate.control.jobs.batches import Batches
from tidegate.control.jobs.queue import Queue
from tidegate.control.jobs.schedule import Schedules
from tidegate.control.monitoring.service import MonitorService
from tidegate.control.training.retrain import RetrainService
from tidegate.keys import KeyFacts
from tidegate.settings import (
    BudgetGuardrail,
    ErrorsGuardrail,
    Guardrail,
    LatencyGuardrail,
    OutputsGuardrail,
    ReleaseSettings,
    ShadowPlan,
)

pytestmark = pytest.mark.slow

STORY = msgspec.structs.replace(
    PLAN,
    shadow=ShadowPlan(min_requests=3000),
    bake_seconds=2,
    guardrails=(
        Guardrail(errors=ErrorsGuardrail(acceptable_rate=0.05)),
        Guardrail(latency=LatencyGuardrail()),
        Guardrail(outputs=OutputsGuardrail()),
        Guardrail(budget=BudgetGuardrail(max_failures=100_000)),
    ),
)


class Reader:
    """Follows the page of one endpoint's release."""

    def __init__(self, folder: Path, plan: ReleaseSettings) -> None:
        self.plane = Plane(folder, plan)
        plane = self.plane
        access = Access(plane.store, plane.settings.control, plane.clock, folder)
        jobs = Queue(plane.store, plane.settings.jobs, plane.clock)
        services = Services(
            store=plane.store,
            registry=plane.registry,
            releases=plane.service,
            experiments=ExperimentService(plane.store, plane.registry, plane.settings, plane.clock, "one"),
            figures=Figures(plane.store, plane.settings, plane.clock),
            jobs=jobs,
            batches=Batches(plane.store, jobs, plane.settings.jobs, plane.clock, folder / "jobs"),
            schedules=Schedules(plane.store, jobs, plane.clock, "test", 10.0),
            monitoring=MonitorService(plane.store, plane.registry, plane.settings, plane.clock, "one"),
            retraining=RetrainService(
                plane.store, plane.registry, plane.settings, jobs, plane.service, plane.clock, "one"
            ),
            access=access,
            settings=plane.settings,
            clock=plane.clock,
            stopping=threading.Event(),
        )
        self.client = Client(make_app(services))
        key = access.keys.create(KeyFacts(name="Ada", roles=("admin",)), who="test").key
        self.client.post("/sign-in", data={"key": key})

    def read(self, path: str) -> str:
        """The text of a page."""
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        text = re.sub(r"(?s)<(script|svg).*?</\1>", " ", answer.text)
        return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", text)))

    def close(self) -> None:
        self.client.close()
        self.plane.close()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    (tmp_path / "plane").mkdir()
    found = Reader(tmp_path / "plane", STORY)
    yield found
    found.close()


def test_a_good_candidate_is_followed_to_its_promotion(reader: Reader) -> None:
    id_ = reader.plane.start().id
    told: dict[str, str] = {}
    for _ in range(90):
        release = reader.plane.service.get(id_)
        told[release.state] = page = reader.read(f"/releases/{id_}")
        assert release.waiting.split(";")[0][1:] in page, "the page says what the service waits for"
        reader.read("/")
        if release.state == "promoted":
            break
        reader.plane.seconds(1, requests=600)
    assert list(told) == ["pending", "shadow", "ramping", "baking", "promoted"]
    assert "Nobody yet it is being loaded everywhere first" in told["pending"]
    assert re.search(r"[0-9]+ as the baseline", told["shadow"])
    assert "Requests in this step" in told["ramping"]
    assert "Evidence over time" in told["promoted"]
    assert "Why it was promoted" in told["promoted"]
    assert "Guardrails: 4 passed Load" in told["promoted"], "the check of the split is no guardrail"
    overview = reader.read("/")
    assert "v2 answers every user" in overview
    assert "v1 is kept loaded, to return at once" in overview


def test_a_bad_candidate_is_rolled_back_with_its_reason(reader: Reader) -> None:
    """argoproj/argo-rollouts#404, #2087: why it was rolled back is on the page, with counts."""
    id_ = reader.plane.start().id
    reader.plane.until(id_, "ramping", requests=600)
    reader.plane.until(id_, "rolled_back", requests=600, candidate=0.3)
    page = reader.read(f"/releases/{id_}")
    assert "Why it was rolled back" in page
    assert re.search(r"of the candidate failed, 0 of [0-9 ]+ of the baseline", page)
    assert "v1 answers every user" in page
    assert "Pause" not in page


def test_without_traffic_it_says_that_it_waits(reader: Reader) -> None:
    """fluxcd/flagger#1035, argoproj/argo-rollouts#1466: no traffic is neither good nor bad."""
    id_ = reader.plane.start().id
    reader.plane.seconds(30, requests=0)
    assert "no traffic for" in reader.read(f"/releases/{id_}")
    assert "no traffic for" in reader.read("/")
