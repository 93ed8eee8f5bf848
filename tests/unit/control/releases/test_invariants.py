"""Whatever happens to a release, in whatever order."""

from __future__ import annotations

from typing import Any

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from tests.unit.control.releases.cases import PLAN, judged, release
from tidegate.control.releases.enact import noted
from tidegate.control.releases.events import (
    Acknowledged,
    AliasMoved,
    Happened,
    InstanceLost,
    LoadRefused,
    Looked,
    Pause,
    Promote,
    Publish,
    Resume,
    Rollback,
    Superseded,
)
from tidegate.control.releases.machine import IllegalTransition, Transition, advance
from tidegate.control.releases.plans import plan_after
from tidegate.control.releases.release import Release, Side
from tidegate.settings import ShadowPlan
from tidegate.types import EndpointPlan, Outcome, Variant

OUTCOMES = st.sampled_from(["pass"] * 8 + ["undecided", "undecided", "no_data", "fail"])
SPLITS = st.sampled_from(["undecided"] * 7 + ["fail"])
NAMES = ("baseline", "candidate", "previous")


class Lived(RuleBasedStateMachine):
    """Drives the machine and the plan of its endpoint, with two instances that follow publications."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 10_000.0
        self.release = release(created=self.now, looked=self.now)
        self.plan = EndpointPlan("iris", (Variant("baseline", self.release.baseline),))
        self.number = 1
        self.loaded_everywhere = False
        self.waiting_for_ack = True
        self.shares: list[int] = []
        self.publications = 0
        self.last_verdicts = judged()
        self.last: Transition | None = None
        self._publish(Publish("split", "start"), self.release)

    @initialize(
        shadow=st.booleans(), wish=st.sampled_from(["hold", "promote", "rollback"]), bake=st.sampled_from([0, 5])
    )
    def planned(self, shadow: bool, wish: Any, bake: int) -> None:
        plan = replace(PLAN, on_inconclusive=wish, bake_seconds=bake)
        plan = replace(plan, shadow=ShadowPlan(min_requests=50) if shadow else None)
        self.release = replace(self.release, plan=plan)

    @rule()
    @precondition(lambda self: self.waiting_for_ack)
    def acknowledged(self) -> None:
        self.waiting_for_ack = False
        self.loaded_everywhere = self.loaded_everywhere or self.release.open
        self._happen(Acknowledged(now=self.now, seconds=0.1))

    @rule(
        passed=st.sampled_from([1.0, 5.0, 40.0, 3600.0]), errors=OUTCOMES, budget=OUTCOMES, split=SPLITS,
        requests=st.sampled_from([0, 50, 500]), quiet=st.booleans(), agree=st.sampled_from([0, 40, 500]),
    )  # fmt: skip
    def looked(
        self, passed: float, errors: Outcome, budget: Outcome, split: Outcome, requests: int, quiet: bool, agree: int
    ) -> None:
        self.now += passed
        self.last_verdicts = judged(errors, budget, split) if self.release.first else ()
        self._happen(
            Looked(
                now=self.now,
                verdicts=self.last_verdicts,
                requests=requests,
                traffic=0.0 if quiet else self.now - 0.5,
                sides={"shadow": Side(requests=agree, outcomes={"agree": agree})},
                live=2,
                awaited=("web-1",) if self.waiting_for_ack else (),
            )
        )

    @rule(kind=st.sampled_from([Pause, Resume, Resume, Promote, Rollback]), chance=st.integers(0, 2))
    def a_person_acts(self, kind: type[Happened], chance: int) -> None:
        if kind is Rollback and chance and self.release.open:
            return
        self._happen(kind(now=self.now, who="ann"))  # type: ignore[call-arg]

    @rule(often=st.sampled_from([1, 2, 3]))
    def goes_well(self, often: int) -> None:
        """So that the later states are reached often enough."""
        for _ in range(often):
            if self.release.state in ("paused", "inconclusive"):
                self._happen(Resume(now=self.now, who="ann"))
            if self.waiting_for_ack:
                self.acknowledged()
            self.now += 40.0
            self.last_verdicts = judged() if self.release.first else ()
            copies = {"shadow": Side(requests=500, outcomes={"agree": 500})}
            for _ in range(2):
                self.now += 9.0
                look = Looked(
                    now=self.now, verdicts=self.last_verdicts, requests=500, traffic=self.now, sides=copies, live=2
                )
                self._happen(look)

    @rule(chance=st.integers(0, 9))
    @precondition(lambda self: self.waiting_for_ack)
    def refused(self, chance: int) -> None:
        if chance == 7:
            self._happen(LoadRefused(now=self.now, instance="web-1", error="out of memory"))

    @rule()
    def lost(self) -> None:
        self._happen(InstanceLost(now=self.now, instance="web-1", live=1))

    @rule(error=st.sampled_from(["", "away"]))
    @precondition(lambda self: self.release.alias_pending)
    def alias_moved(self, error: str) -> None:
        self._happen(AliasMoved(now=self.now, version=self.release.alias_version, error=error))

    @rule()
    @precondition(lambda self: self.release.state == "promoted")
    def superseded(self) -> None:
        self._happen(Superseded(now=self.now, release="r-2"))

    @invariant()
    def one_baseline(self) -> None:
        names = [variant.name for variant in self.plan.variants]
        assert names[0] == "baseline"
        assert len(set(names)) == len(names)

    @invariant()
    def the_snapshot_is_what_the_release_says(self) -> None:
        state = self.release.state
        by_name = {variant.name: variant for variant in self.plan.variants}
        expected = self.release.candidate if state == "promoted" else self.release.baseline
        assert by_name["baseline"].model == expected
        assert ("candidate" in by_name) == self.release.open
        if self.release.open:
            assert by_name["candidate"].share == self.release.share
            assert by_name["candidate"].shadow == (self.release.phase == "shadow")
        if "previous" in by_name:
            assert state == "promoted"
            assert by_name["previous"].share == 0

    @invariant()
    def the_share_only_grows_or_falls_to_nothing(self) -> None:
        for before, after in zip(self.shares, self.shares[1:], strict=False):
            assert after >= before or after == 0

    @invariant()
    def nobody_gets_what_is_not_loaded(self) -> None:
        candidate = next((variant for variant in self.plan.variants if variant.name == "candidate"), None)
        if candidate is not None and (candidate.share or candidate.shadow):
            assert self.loaded_everywhere

    def _happen(self, event: Happened) -> None:
        before = self.release
        try:
            moved = advance(before, event)
        except IllegalTransition:
            return
        self.release = moved.release
        publications = [one for one in moved.instructions if isinstance(one, Publish)]
        for wish in publications:
            self._publish(wish, moved.release)
        if moved.release.state != before.state:
            self._judge(before, moved.release, event, len(publications))

    def _publish(self, wish: Publish, release: Release) -> None:
        self.number += 1
        self.plan = plan_after(self.plan, release, wish.change)
        self.release = noted(release, self.number, self.now)
        self.waiting_for_ack = True
        taken = [variant.share for variant in self.plan.variants if variant.name == "candidate"]
        self.shares.append(taken[0] if taken else 10_000 if self.release.state == "promoted" else 0)
        if self.release.state in ("rolled_back", "failed"):
            self.shares = []

    def _judge(self, before: Release, after: Release, event: Happened, publications: int) -> None:
        guardrails = [one.outcome for one in self.last_verdicts if one.guardrail != "split"]
        if after.state == "promoted":
            by_default = before.plan.on_inconclusive == "promote"
            assert isinstance(event, Promote) or by_default or self._passed_the_gate
        if after.state == "baking" and isinstance(event, Looked):
            self._passed_the_gate = guardrails == ["pass", "pass"]
            assert self._passed_the_gate or before.plan.on_inconclusive == "promote"
            assert "no_data" not in guardrails
        if after.state == "rolled_back":
            assert publications == 1
            assert after.reason

    _passed_the_gate = False


Lived.TestCase.settings = hypothesis_settings(max_examples=80, stateful_step_count=40, deadline=None)
TestLived = Lived.TestCase
