"""The whole way of a release, on a real store with fake instances."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace
from sqlalchemy import select, update

from tests.unit.control.releases.plane import PLAN, Plane
from tidegate.control.releases.machine import IllegalTransition
from tidegate.control.releases.service import ReleaseService
from tidegate.errors import Conflict, InvalidInput, LostRace, ModelError, NotFound, UserError
from tidegate.settings import BudgetGuardrail, Guardrail, PrometheusGuardrail, ReleaseSettings, ShadowPlan
from tidegate.storage.records import ExperimentRow
from tidegate.storage.tables import release_evidence, windows
from tidegate.types import ModelRef, Variant

Make = Callable[..., Plane]


def test_a_good_candidate_is_promoted(plane: Plane) -> None:
    release = plane.start(reason="retrained")
    assert release.state == "pending"
    assert [variant.share for variant in plane.plan().variants] == [0, 0]

    seen: list[str] = [release.state]
    for _ in range(60):
        plane.seconds(1)
        release = plane.service.get(release.id)
        if release.state != seen[-1]:
            seen.append(release.state)
        if release.state == "promoted":
            break
    assert seen == ["pending", "ramping", "baking", "promoted"], release.waiting
    assert plane.plan().baseline.model.version == "2"
    assert [(variant.name, variant.share) for variant in plane.plan().variants] == [("baseline", 0), ("previous", 0)]
    plane.seconds(1)
    plane.check()
    replay = plane.service.replay(release.id)
    assert replay.agrees, replay.findings
    assert replay.windows > 0
    kinds = [line.kind for line in plane.service.events(release.id)]
    assert kinds[0] == "started"
    assert {"stepped", "in_force", "promoted", "alias_moved"} <= set(kinds)


def test_a_failing_candidate_is_rolled_back_with_its_reason(plane: Plane) -> None:
    """argoproj/argo-rollouts#404, #2087: the reason of an abort was not visible."""
    release = plane.start()
    release = plane.until(release.id, "rolled_back", candidate=0.5, requests=400)
    assert "of the candidate failed" in release.reason
    assert [one.outcome for one in release.verdicts if one.guardrail == "errors"] == ["fail"]
    assert [variant.name for variant in plane.plan().variants] == ["baseline"]
    plane.seconds(2)
    plane.check()
    assert plane.service.replay(release.id).agrees
    assert plane.registry.moves == []


def test_a_baseline_without_errors_does_not_pass_a_failing_candidate(plane: Plane) -> None:
    """spinnaker/kayenta#377: with no errors of the baseline nothing could be wrong with the canary."""
    release = plane.start()
    assert plane.until(release.id, "rolled_back", baseline=0.0, candidate=0.3, requests=400).share == 0


def test_both_failing_alike_is_no_reason_to_roll_back(plane: Plane) -> None:
    """fluxcd/flagger#739: the canary was judged against a constant, not against the baseline at the same time."""
    release = plane.start(plan=replace(PLAN, guardrails=PLAN.guardrails[:1]))
    plane.seconds(40, baseline=0.1, candidate=0.1, requests=200)
    assert plane.service.get(release.id).state in ("ramping", "baking", "promoted")


@pytest.mark.slow
def test_without_traffic_the_release_waits_and_says_so(plane: Plane) -> None:
    """fluxcd/flagger#1035, argoproj/argo-rollouts#1466, #1905, #4479."""
    release = plane.start()
    plane.seconds(120, requests=0)
    release = plane.service.get(release.id)
    assert (release.state, release.step) == ("ramping", 0)
    assert "no traffic for" in release.waiting
    assert plane.until(release.id, "promoted").state == "promoted"


def test_the_candidate_gets_a_share_only_when_every_instance_has_loaded_it(plane: Plane) -> None:
    """kserve/kserve#5983: 503 when the canary is not ready yet."""
    plane.instances[1].slow = True
    release = plane.start()
    plane.seconds(30)
    release = plane.service.get(release.id)
    assert release.state == "pending"
    assert release.waiting == "loading: 1 of 2 instances have it in force; waiting for instance-1"
    assert plane.plan().variants[1].share == 0
    plane.instances[1].slow = False
    plane.seconds(2)
    assert plane.service.get(release.id).share == 1000


def test_a_dead_instance_is_not_waited_for(plane: Plane) -> None:
    plane.seconds(1)
    plane.instances[1].alive = False
    release = plane.start()
    plane.seconds(15)
    assert plane.service.get(release.id).state == "ramping"
    lost = [line.text for line in plane.service.events(release.id) if line.kind == "instance_lost"]
    assert lost == ["instance instance-1 is gone, 1 are left"]


def test_a_candidate_that_cannot_be_loaded_fails(plane: Plane) -> None:
    plane.instances[1].refuses = "not enough memory"
    release = plane.start()
    plane.seconds(2)
    release = plane.service.get(release.id)
    assert release.state == "failed"
    assert release.reason == "instance-1 cannot load the candidate: not enough memory"
    assert [variant.name for variant in plane.plan().variants] == ["baseline"]
    plane.instances[1].refuses = ""
    plane.seconds(2)
    plane.check()


def test_shadow_answers_copies_first(make: Make) -> None:
    plane = make(replace(PLAN, shadow=ShadowPlan(min_requests=300, min_agreement=0.9)))
    release = plane.start()
    plane.seconds(2)
    assert [(one.shadow, one.share) for one in plane.plan().variants] == [(False, 0), (True, 0)]
    assert "of 300 copies" in plane.service.get(release.id).waiting
    assert plane.until(release.id, "promoted").share == 10_000
    replay = plane.service.replay(release.id)
    assert replay.agrees, replay.findings


def test_a_failing_shadow_never_gets_users(make: Make) -> None:
    plane = make(replace(PLAN, shadow=ShadowPlan(min_requests=100_000)))
    release = plane.start()
    plane.until(release.id, "rolled_back", candidate=0.5)
    assert all(point.share == 0 for point in plane.service.evidence(release.id))


def test_budget_counts_failures_over_all_steps(make: Make) -> None:
    plane = make(replace(PLAN, guardrails=(Guardrail(budget=BudgetGuardrail(max_failures=10)),)))
    release = plane.start()
    assert "10" in plane.until(release.id, "rolled_back", candidate=0.1).reason


@pytest.mark.parametrize("phase", ["pending", "ramping", "baking", "promoted"])
def test_rollback_is_one_publication_from_anywhere(make: Make, phase: str) -> None:
    """argoproj/argo-rollouts#574, #2939."""
    plane = make(replace(PLAN, bake_seconds=30))
    release = plane.start()
    plane.until(release.id, phase)
    with plane.store.read() as unit:
        before = unit.snapshots.latest()
    back = plane.service.rollback(release.id, who="ann", reason="customers call")
    with plane.store.read() as unit:
        after = unit.snapshots.latest()
    assert before is not None
    assert after is not None
    assert after.number == before.number + 1
    assert (after.release, after.reason) == (release.id, "customers call")
    assert back.reason == "customers call"
    assert plane.plan().baseline.model.version == "1"
    plane.seconds(3)
    plane.check()
    assert plane.service.replay(release.id).agrees


@pytest.mark.slow
def test_after_the_warm_time_there_is_no_way_back(plane: Plane) -> None:
    release = plane.start()
    plane.until(release.id, "promoted")
    plane.seconds(120)
    assert [variant.name for variant in plane.plan().variants] == ["baseline"]
    with pytest.raises(IllegalTransition, match="pending → ramping → baking → promoted"):
        plane.service.rollback(release.id, who="ann")
    plane.check()
    assert plane.service.replay(release.id).agrees


def test_a_person_pauses_resumes_and_promotes(plane: Plane) -> None:
    release = plane.start()
    plane.until(release.id, "ramping")
    plane.service.pause(release.id, who="ann", reason="lunch")
    share = plane.plan().variants[1].share
    plane.seconds(30)
    paused = plane.service.get(release.id)
    assert (paused.state, paused.reason, plane.plan().variants[1].share) == ("paused", "lunch", share)
    plane.service.resume(release.id, who="ann")
    plane.seconds(1)
    promoted = plane.service.promote(release.id, who="ann", reason="it is fine")
    assert promoted.state == "promoted"
    plane.seconds(2)
    plane.check()
    replay = plane.service.replay(release.id)
    assert replay.agrees, replay.findings
    with plane.store.read() as unit:
        acts = [(row.who, row.action) for row in unit.audit.list(target=f"release:{release.id}")][::-1]
    assert ("ann", "release.start") in acts
    assert ("ann", "release.paused") in acts
    assert ("ann", "release.promoted") in acts


def test_a_newer_release_ends_the_warm_time_of_the_older_one(plane: Plane) -> None:
    first = plane.start()
    plane.until(first.id, "promoted")
    plane.seconds(2)
    second = plane.start(3)
    assert [variant.model.version for variant in plane.plan().variants] == ["2", "3"]
    with pytest.raises(IllegalTransition):
        plane.service.rollback(first.id, who="ann")
    plane.until(second.id, "promoted")
    plane.seconds(2)
    plane.check()
    assert plane.service.replay(first.id).agrees


def test_what_cannot_begin_is_refused(plane: Plane) -> None:
    with pytest.raises(NotFound, match="no endpoint 'wine'"):
        plane.service.start("wine", "models:/iris/2", who="ann")
    with pytest.raises(NotFound, match="no version 77"):
        plane.start(77)
    with pytest.raises(InvalidInput, match="serves already"):
        plane.start(1)
    with pytest.raises(ModelError, match="no such file"):
        plane.service.start("iris", "./missing", who="ann")
    with pytest.raises(ModelError, match="not listed in trust"):
        plane.service.start("iris", "s3://bucket/model", who="ann")
    with pytest.raises(InvalidInput, match="percentages that grow"):
        plane.start(plan=ReleaseSettings(steps=(50, 10, 100)))
    endless = PrometheusGuardrail(query="up", url="http://prometheus", max=float("inf"))
    with pytest.raises(InvalidInput, match="max must be a finite number") as refused:
        plane.start(plan=replace(PLAN, guardrails=(Guardrail(prometheus=endless),)))
    assert refused.value.loc == ("plan", "guardrails", 0, "prometheus", "max")
    open_ = plane.start()
    with pytest.raises(Conflict, match=f"release {open_.id} is open"):
        plane.start(3)
    assert len(plane.service.list()) == 1


def test_a_start_that_loses_a_race_is_run_again(plane: Plane) -> None:
    """The id is taken, as by another control plane that was first."""
    ended = plane.service.rollback(plane.start().id, who="ann")
    ids = iter((ended.id, "r-free"))
    service = ReleaseService(plane.store, plane.registry, plane.settings, plane.clock, "two", new_id=lambda: next(ids))
    assert service.start("iris", "models:/iris/3", who="ann").id == "r-free"


def test_a_race_that_is_lost_again_and_again_is_told(plane: Plane) -> None:
    ended = plane.service.rollback(plane.start().id, who="ann")
    tried: list[str] = []
    service = ReleaseService(
        plane.store, plane.registry, plane.settings, plane.clock, "two",
        new_id=lambda: tried.append(ended.id) or ended.id,  # type: ignore[func-returns-value]
    )  # fmt: skip
    with pytest.raises(LostRace):
        service.start("iris", "models:/iris/3", who="ann")
    assert len(tried) == 3


def test_an_experiment_keeps_releases_away(plane: Plane) -> None:
    with plane.store.begin() as unit:
        unit.experiments.add(ExperimentRow("colours", "iris", "running", 1.0, 0, "{}"))
    with pytest.raises(Conflict, match="experiment colours is running"):
        plane.start()


def test_variants_of_the_configuration_keep_releases_away(plane: Plane) -> None:
    with plane.store.begin() as unit:
        newest = unit.snapshots.latest()
        assert newest is not None
        plan = newest.snapshot.endpoints["iris"]
        split = replace(plan, variants=(*plan.variants, Variant("b", plan.baseline.model, 500)))
        unit.snapshots.publish(replace(newest.snapshot, endpoints={"iris": split}), reason="", author="", at=1.0)
    with pytest.raises(Conflict, match="splits its traffic with b already"):
        plane.start()


def test_an_unknown_release_is_not_found(plane: Plane) -> None:
    for call in (plane.service.get, plane.service.events, plane.service.evidence, plane.service.replay):
        with pytest.raises(NotFound):
            call("r-none")
    with pytest.raises(NotFound):
        plane.service.pause("r-none", who="ann")


def test_a_baseline_that_somebody_else_changed_ends_the_release(plane: Plane) -> None:
    release = plane.start()
    plane.until(release.id, "ramping")
    with plane.store.begin() as unit:
        newest = unit.snapshots.latest()
        assert newest is not None
        plan = newest.snapshot.endpoints["iris"]
        other = Variant("baseline", plane.registry.ref("models:/iris/5"))
        plan = replace(plan, variants=(other, *plan.variants[1:]))
        unit.snapshots.publish(replace(newest.snapshot, endpoints={"iris": plan}), reason="x", author="bob", at=1.0)
    plane.seconds(2)
    assert plane.service.get(release.id).state == "failed"
    assert [variant.model.version for variant in plane.plan().variants] == ["5"]


def test_a_later_snapshot_is_refused_for_its_own_models_or_for_the_releases(plane: Plane) -> None:
    """An instance that goes straight to a later snapshot says nothing of the one that it left out."""
    release, late = plane.start(), plane.instances[1]
    late.slow, late.refuses = True, "/models/wine: not a model"
    wine = replace(plane.plan(), name="wine", variants=(Variant("baseline", ModelRef("/models/wine", "", "1")),))
    with plane.store.begin() as unit:
        newest = unit.snapshots.latest()
        assert newest is not None
        both = replace(newest.snapshot, endpoints={**newest.snapshot.endpoints, "wine": wine})
        late.refused = unit.snapshots.publish(both, reason="wine", author="bob", at=1.0).number
    plane.seconds(3)
    release = plane.service.get(release.id)
    assert release.state == "pending"
    assert release.waiting == "loading: 1 of 2 instances have it in force; waiting for instance-1"
    with plane.store.begin() as unit:
        late.refused = unit.snapshots.publish(newest.snapshot, reason="no wine", author="bob", at=2.0).number
    plane.seconds(2)
    assert plane.service.get(release.id).reason == "instance-1 cannot load the candidate: /models/wine: not a model"


def test_the_effect_of_a_decision_is_measured(plane: Plane) -> None:
    release = plane.start()
    plane.instances[1].slow = True
    plane.seconds(2)
    plane.instances[1].slow = False
    plane.seconds(1)
    release = plane.service.get(release.id)
    lines = [line.text for line in plane.service.events(release.id)]
    assert release.state == "ramping"
    plane.seconds(1)
    assert plane.service.get(release.id).effect_seconds == 1.0
    assert "step 1 of 3 (10 %) in force everywhere after 1.00 s" in [
        line.text for line in plane.service.events(release.id)
    ]
    assert lines[0] == "release of iris version 2"


def test_looks_are_stored_only_when_there_is_something_to_store(plane: Plane) -> None:
    release = plane.start()
    plane.seconds(3)
    for _ in range(100):
        plane.service.tick()
    seen = len(plane.service.evidence(release.id))
    assert seen < 10
    plane.until(release.id, "promoted")
    plane.seconds(3)
    for _ in range(20):
        plane.service.tick()
    ended = plane.service.get(release.id)
    plane.seconds(20)
    assert plane.service.get(release.id) == ended


def test_a_changed_window_is_found_and_named(plane: Plane) -> None:
    release = plane.start()
    plane.until(release.id, "promoted")
    assert plane.service.replay(release.id).agrees
    with plane.store.begin() as unit:
        row = unit.connection.execute(
            select(windows).where(windows.c.variant == "candidate", windows.c.failures == 0)
        ).first()
        assert row is not None
        body = row.body.replace('"requests":', '"failures":1,"requests":')
        unit.connection.execute(update(windows).where(windows.c.id == row.id).values(body=body))
    found = plane.service.replay(release.id)
    assert not found.agrees
    assert f"window {row.id} (candidate of {row.process}) was changed" in found.findings[0]


def test_a_changed_verdict_is_found_and_named(plane: Plane) -> None:
    release = plane.start()
    plane.until(release.id, "promoted")
    with plane.store.begin() as unit:
        rows = unit.connection.execute(select(release_evidence).order_by(release_evidence.c.tick)).all()
        row = next(row for row in rows if '"outcome":"pass"' in row.body)
        body = row.body.replace('"outcome":"pass"', '"outcome":"fail"', 1)
        unit.connection.execute(update(release_evidence).where(release_evidence.c.tick == row.tick).values(body=body))
    found = plane.service.replay(release.id)
    assert found.findings == (f"look {row.tick}: the verdict errors is fail in the store, recomputed it is pass",)


def test_an_act_that_makes_no_sense_is_refused_and_changes_nothing(plane: Plane) -> None:
    release = plane.start()
    with pytest.raises(UserError, match=r"is pending \(pending\): it is not paused"):
        plane.service.resume(release.id, who="ann")
    assert plane.service.get(release.id) == release
