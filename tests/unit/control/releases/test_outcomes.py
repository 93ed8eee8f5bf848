"""Late labels: which predictions they judge, and how they decide."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from tests.unit.control.releases.plane import PLAN, Plane
from tidegate.control.analysis.means import Moments
from tidegate.control.releases.look import Look
from tidegate.control.releases.outcomes import Running, by_request, side_by_side, value_of
from tidegate.control.releases.release import Release
from tidegate.observations import Feedback, PredictionEvent
from tidegate.settings import Guardrail, OutcomeGuardrail
from tidegate.storage.records import Labelled


def event(number: int, variant: str, release: Release, time: float, **given: object) -> PredictionEvent:
    known = {
        "request_id": f"{variant}-{number}", "process": "p", "endpoint": "iris", "variant": variant, "version": "1",
        "snapshot": release.first, "time": time, "outputs": b'{"predictions":[1],"labels":["yes"]}',
    }  # fmt: skip
    return PredictionEvent(**{**known, **given})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("outputs", "label", "value"),
    [
        (b'{"predictions":[0],"labels":["yes"]}', "yes", 1.0),
        (b'{"predictions":[0],"labels":["yes"]}', "no", 0.0),
        (b'{"predictions":[2.0]}', "2", 1.0),
        (b'{"answer":[true]}', "true", 1.0),
        (b"", "yes", None),
        (b'{"predictions":[[1,2]]}', "yes", None),
    ],
)
def test_a_label_is_compared_with_what_was_predicted(outputs: bytes, label: str, value: float | None) -> None:
    made = PredictionEvent(
        request_id="r", process="p", endpoint="e", variant="v", version="1", snapshot=1, time=1.0, outputs=outputs
    )
    assert value_of(Labelled(Feedback(metric="accuracy", label=label), made)) == value
    assert value_of(Labelled(Feedback(metric="accuracy", label=label), replace(made, rows=2))) is None
    assert value_of(Labelled(Feedback(metric="accuracy", value=0.5), replace(made, rows=2))) == 0.5


def test_the_rows_of_a_request_are_one_piece_of_evidence() -> None:
    """They got their variant together: a thousand rows of one faulty request are no thousand faults."""
    both = b'{"predictions":["a","b","a"]}'
    made = PredictionEvent(
        request_id="r", process="p", endpoint="e", variant="v", version="1", snapshot=1, time=1.0, rows=3, outputs=both
    )
    other = replace(made, request_id="s", time=2.0)
    rows = [Labelled(Feedback(metric="accuracy", label="a", row=row), made) for row in (0, 1, 2, 3)]
    rows += [Labelled(Feedback(metric="accuracy", label="a", row=row), other) for row in (1, None)]
    found = {event.request_id: value for event, value in by_request(rows)}
    assert found == {"r": pytest.approx(2 / 3), "s": 0.0}


def test_moments_are_those_of_the_textbook() -> None:
    running = Running()
    assert running.moments == Moments()
    for value in (1e9 + 1.0, 1e9, 1e9 + 1.0, 1e9 + 1.0):
        running.add(value)
    found = running.moments
    assert (found.n, found.mean) == (4, 1e9 + 0.75)
    assert found.variance == pytest.approx(0.25)


def labelled(plane: Plane, release: Release, good: int, bad: int) -> None:
    """Labels that agree with all baseline predictions, and with ``good`` of the candidate's."""
    now = plane.clock.wall()
    made = [event(number, "baseline", release, now) for number in range(good + bad)]
    made += [event(number, "candidate", release, now) for number in range(good + bad)]
    made += [event(9000, "candidate", release, now, forced=True), event(9001, "candidate", release, now, snapshot=1)]
    sent = [
        Feedback(
            metric="accuracy", request_id=one.request_id, time=now,
            label="no" if one.variant == "candidate" and int(one.request_id.partition("-")[2]) >= good else "yes",
        )
        for one in made
    ]  # fmt: skip
    with plane.store.begin() as unit:
        unit.events.add(made)
        unit.feedback.add(sent)


@pytest.mark.slow
@pytest.mark.parametrize(("good", "state"), [(400, "promoted"), (150, "rolled_back")])
def test_late_labels_decide_and_are_waited_for(plane: Plane, good: int, state: str) -> None:
    rail = OutcomeGuardrail(wait="30s", margin=0.1)
    plan = replace(PLAN, guardrails=(*PLAN.guardrails, Guardrail(outcome=rail)))
    release = plane.start(plan=plan)
    plane.seconds(20)
    release = plane.service.get(release.id)
    assert release.waiting.endswith("; outcome no data")
    labelled(plane, release, good, 400 - good)
    plane.seconds(25)
    assert plane.service.get(release.id).state == "ramping", "labels of predictions that are too young do not count"
    release = plane.until(release.id, state)
    counts = {one.guardrail: one.counts for one in release.verdicts}["outcome"]
    assert counts["labels_candidate"] == 400
    replay = plane.service.replay(release.id)
    assert replay.agrees, replay.findings
    assert msgspec.json.encode(release)


@pytest.mark.slow
def test_what_changed_between_two_steps_is_no_difference(plane: Plane) -> None:
    """Both are equally good at any time; when the candidate has 10 % they are right more often than when it has 50 %."""
    rails = (*PLAN.guardrails, Guardrail(outcome=OutcomeGuardrail(margin=0.05)))
    step = replace(PLAN.step, min_requests=600, max_seconds=1e6)
    release = plane.start(plan=replace(PLAN, step=step, guardrails=rails))
    for share, rate in ((0.1, 0.9), (0.5, 0.7)):
        while (now := plane.service.get(release.id)).share != 10_000 * share:
            plane.seconds(1)
        made = [
            event(round(share * 100_000) + number, variant, release, plane.clock.wall(), snapshot=now.snapshot)
            for variant, mine in (("baseline", 1 - share), ("candidate", share))
            for number in range(round(2000 * mine))
        ]
        sent = [
            Feedback(metric="accuracy", request_id=one.request_id, time=one.time, value=float(number % 10 < 10 * rate))
            for number, one in enumerate(made)
        ]
        with plane.store.begin() as unit:
            unit.events.add(made)
            unit.feedback.add(sent)
        plane.seconds(7)
    found = {one.guardrail: one for one in plane.service.get(release.id).verdicts}["outcome"]
    assert (found.counts["labels_baseline"], found.counts["labels_candidate"]) == (2800, 1200)
    assert found.estimate == pytest.approx(0.0, abs=1e-9)
    assert found.outcome != "fail"


def test_steps_side_by_side_are_their_weighted_means() -> None:
    one = Moments(400, 0.5, 0.25), Moments(100, 0.4, 0.24)
    two = Moments(300, 0.9, 0.09), Moments(300, 0.7, 0.21)
    alone = [(Moments(900, 0.1, 0.1), Moments(1, 1.0, 0.0))]
    base, cand = side_by_side([one, two, *alone])
    weights = 80 / 230, 150 / 230
    assert (base.n, cand.n) == (700, 400)
    assert base.mean == pytest.approx(weights[0] * 0.5 + weights[1] * 0.9)
    assert cand.mean == pytest.approx(weights[0] * 0.4 + weights[1] * 0.7)
    assert cand.variance / cand.n == pytest.approx(weights[0] ** 2 * 0.24 / 100 + weights[1] ** 2 * 0.21 / 300)
    assert side_by_side(alone) == (Moments(), Moments())


@pytest.mark.slow
def test_labels_that_say_nothing_new_are_not_stored_again(plane: Plane) -> None:
    rail = OutcomeGuardrail(wait="30s", margin=0.1, min_labels=1000)
    release = plane.start(plan=replace(PLAN, guardrails=(*PLAN.guardrails, Guardrail(outcome=rail))))
    plane.seconds(20)
    labelled(plane, plane.service.get(release.id), 40, 10)
    plane.seconds(50)
    with plane.store.read() as unit:
        looks = [msgspec.json.decode(row.body, type=Look) for row in unit.releases.evidence(release.id)]
    kept = [look.taken.outcomes for look in looks if look.taken.outcomes]
    assert [(one.baseline.n, one.candidate.n) for [one] in kept] == [(50, 50)]
    assert plane.service.replay(release.id).agrees


def test_values_whose_squares_are_no_numbers_do_not_stop_a_release(plane: Plane) -> None:
    """1e300 may be sent; its square is infinite, which no row of evidence can hold."""
    rail = OutcomeGuardrail(metric="revenue", min_labels=2)
    release = plane.start(plan=replace(PLAN, guardrails=(*PLAN.guardrails, Guardrail(outcome=rail))))
    plane.seconds(3)
    release, now = plane.service.get(release.id), plane.clock.wall()
    made = [event(number, variant, release, now) for number in range(4) for variant in ("baseline", "candidate")]
    sent = [
        Feedback(metric="revenue", request_id=one.request_id, time=now, value=1e300 if number % 3 else -1e300)
        for number, one in enumerate(made)
    ]
    with plane.store.begin() as unit:
        unit.events.add(made)
        unit.feedback.add(sent)
    plane.seconds(12)
    plane.service.stop()
    restarted = plane.another("two")
    plane.seconds(3, service=restarted)
    points = restarted.evidence(release.id)
    assert points[-1].time == plane.clock.wall()
    counts = {one.guardrail: one.counts for one in points[-1].verdicts}["outcome"]
    assert counts["labels_candidate"] == 4
    assert restarted.replay(release.id).agrees
