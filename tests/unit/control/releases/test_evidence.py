"""Windows in, verdicts out: what is counted, in which order, and what is concluded from it."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.unit.control.releases.cases import release
from tidegate.control.analysis.means import Moments
from tidegate.control.releases import evidence as ev
from tidegate.control.releases.counted import WINDOW_KINDS
from tidegate.control.releases.evidence import Evidence
from tidegate.control.releases.guardrails import combined
from tidegate.control.releases.look import belongs
from tidegate.metrics import bin_of
from tidegate.observations import VariantWindow
from tidegate.serving.events.outputs import OUTPUT_KINDS, count_outputs
from tidegate.settings import (
    BudgetGuardrail,
    ErrorsGuardrail,
    Guardrail,
    LatencyGuardrail,
    OutcomeGuardrail,
    OutputsGuardrail,
    PrometheusGuardrail,
    ReleaseSettings,
    ShadowPlan,
)
from tidegate.storage.records import Stored
from tidegate.types import Verdict

PLAN = ReleaseSettings(
    steps=(5, 25, 50),
    guardrails=(
        Guardrail(errors=ErrorsGuardrail()),
        Guardrail(latency=LatencyGuardrail()),
        Guardrail(outputs=OutputsGuardrail()),
        Guardrail(outcome=OutcomeGuardrail()),
        Guardrail(prometheus=PrometheusGuardrail(query="up", max=2.0)),
        Guardrail(budget=BudgetGuardrail(max_failures=20)),
    ),
)
_numbers = iter(range(1, 1_000_000))


def window(variant: str, share: int, requests: int, failures: int = 0, **more: Any) -> VariantWindow:
    """``share``: the candidate's, in percent."""
    mine = 100 * (share if variant == "candidate" else 100 - share)
    fields: dict[str, Any] = {
        "process": "p", "sequence": next(_numbers), "endpoint": "e", "version": "1", "snapshot": 7, "start": 0.0,
        "seconds": 1.0, "outcomes": {"ok": requests - failures, "failed": failures},
    }  # fmt: skip
    return VariantWindow(**{**fields, "share": mine, **more}, variant=variant, requests=requests, failures=failures)


def times(median: float, n: int, seed: int = 0) -> dict[int, int]:
    """n log-normal latencies in bins."""
    counts: dict[int, int] = {}
    for value in median * np.exp(0.4 * np.random.default_rng(seed).standard_normal(n)):
        counts[bin_of(float(value))] = counts.get(bin_of(float(value)), 0) + 1
    return counts


def copies(requests: int, failures: int = 0, **more: Any) -> VariantWindow:
    outcomes = {"agree": requests - failures, "failed": failures}
    return window("candidate", 0, requests, failures, shadow=True, **{"outcomes": outcomes, **more})


def after(*windows: VariantWindow, plan: ReleaseSettings = PLAN, start: Evidence | None = None) -> Evidence:
    return ev.fold(ev.begin(plan) if start is None else start, plan, windows)


def judged(evidence: Evidence, guardrail: str, plan: ReleaseSettings = PLAN) -> Verdict:
    return {verdict.guardrail: verdict for verdict in ev.verdicts(evidence, plan)}[guardrail]


def test_there_is_one_verdict_per_guardrail_in_the_order_of_the_plan_and_then_the_split() -> None:
    found = ev.verdicts(ev.begin(PLAN), PLAN)
    assert [verdict.guardrail for verdict in found] == [
        "errors", "latency", "outputs", "outcome", "prometheus", "budget", "split",
    ]  # fmt: skip


def test_a_candidate_without_requests_has_no_data_and_never_passes() -> None:
    """fluxcd/flagger#1035, argoproj/argo-rollouts#1466, #1905, #4479: no traffic is neither good nor bad."""
    busy = after(window("baseline", 5, 100_000, 12, latency=times(0.02, 500), outputs={"a": 500}))
    for evidence in (ev.begin(PLAN), busy):
        assert {verdict.outcome for verdict in ev.verdicts(evidence, PLAN)} == {"no_data"}
    assert judged(busy, "errors").reason == "the candidate has had no requests"


def test_a_baseline_without_failures_does_not_let_a_failing_candidate_pass() -> None:
    """spinnaker/kayenta#377: a zero-error baseline."""
    verdict = judged(after(window("baseline", 5, 19_000), window("candidate", 5, 1000, 8)), "errors")
    assert verdict.outcome == "fail"
    assert verdict.evidence >= verdict.threshold
    assert verdict.reason == (
        "8 of 1 000 requests of the candidate failed, 0 of 19 000 of the baseline, more often than chance explains"
    )
    assert verdict.estimate is None
    assert verdict.interval is not None
    assert verdict.interval[0] > 1


def test_the_candidate_is_judged_against_the_baseline_at_the_same_time() -> None:
    """fluxcd/flagger#739: what fails for both is not the candidate's fault, however much it is."""
    stormy = judged(after(window("baseline", 25, 7500, 2250), window("candidate", 25, 2500, 750)), "errors")
    assert stormy.outcome == "pass"
    assert stormy.estimate == pytest.approx(1.0)


def test_a_verdict_says_the_figures() -> None:
    verdict = judged(after(window("baseline", 10, 10_896, 3), window("candidate", 10, 1204, 12)), "errors")
    text = "12 of 1 204 requests of the candidate failed, 3 of 10 896 of the baseline: 36 times as often"
    assert verdict.reason.startswith(text)
    assert verdict.counts == {
        "requests_baseline": 10_896, "failures_baseline": 3, "requests_candidate": 1204, "failures_candidate": 12,
        "snapshot": 7,
    }  # fmt: skip
    assert verdict.alpha == 0.01
    assert verdict.threshold == pytest.approx(np.log(100))
    assert verdict.p == pytest.approx(np.exp(-verdict.evidence))


def test_a_few_failures_are_not_enough_to_tell() -> None:
    for failed in (1, 2, 3):
        few = judged(after(window("baseline", 25, 300), window("candidate", 25, 100, failed)), "errors")
        assert few.outcome == "undecided"
        assert few.reason.endswith("not enough to tell")


def test_a_candidate_that_fails_seldom_passes_however_seldom_the_baseline_fails() -> None:
    assert judged(after(window("baseline", 5, 9500), window("candidate", 5, 500)), "errors").outcome == "undecided"
    verdict = judged(after(window("baseline", 5, 19_000), window("candidate", 5, 1000)), "errors")
    assert verdict.outcome == "pass"
    assert verdict.reason.endswith("shown to fail at most 1 %")


def test_the_ratio_alone_passes_where_both_fail_often() -> None:
    verdict = judged(after(window("baseline", 50, 5000, 500), window("candidate", 50, 5000, 500)), "errors")
    assert verdict.outcome == "pass"
    assert verdict.reason.endswith("less than 1.5 times as often as the baseline")


def test_failures_count_over_all_steps_at_their_own_share() -> None:
    """Pooled, the candidate would seem to fail more often: its share grew while failures did."""
    quiet = [window("baseline", 5, 95_000, 95), window("candidate", 5, 5000, 5)]
    evidence = ev.next_step(after(*quiet), PLAN)
    stormy = [window("baseline", 25, 7500, 1500), window("candidate", 25, 2500, 500)]
    verdict = judged(after(*stormy, start=evidence), "errors")
    assert verdict.outcome == "pass"
    assert verdict.counts["failures_candidate"] == 505
    assert verdict.estimate == pytest.approx(1.0)


def test_retries_of_one_client_do_not_decide() -> None:
    """Its failures count once per window, however many requests failed."""
    storm = {"outcomes": {"ok": 1000, "failed": 400}}
    verdict = judged(after(window("baseline", 25, 3000), window("candidate", 25, 1400, 1, **storm)), "errors")
    assert verdict.outcome == "undecided"


def test_a_client_that_sends_more_than_others_does_not_decide() -> None:
    """One big client is on the candidate's side, so that it has far more failures than its share, at the same rate."""
    verdict = judged(after(window("baseline", 5, 50_000, 100), window("candidate", 5, 50_000, 100)), "errors")
    assert verdict.outcome == "pass"


def test_the_shadow_is_judged_beside_the_baseline_of_the_same_snapshots() -> None:
    plan = msgspec.structs.replace(PLAN, shadow=ShadowPlan())
    before = window("baseline", 0, 50_000, snapshot=6)
    good = after(before, window("baseline", 0, 1000), copies(1000), plan=plan)
    assert judged(good, "errors", plan).outcome == "undecided"
    bad = after(window("baseline", 0, 1000), copies(100, 40), plan=plan, start=good)
    verdict = judged(bad, "errors", plan)
    assert verdict.outcome == "fail"
    assert verdict.reason.startswith("40 of 1 100 copies of the candidate failed, 0 of 2 000 of the baseline")
    assert ev.requests_in_step(bad, "shadow") == 1100
    assert ev.requests_in_step(bad, "candidate") == 0


def test_a_slow_candidate_fails_by_name() -> None:
    slow = after(
        window("baseline", 5, 3000, latency=times(0.1, 3000)),
        window("candidate", 5, 1000, latency=times(0.15, 1000, 1)),
    )
    verdict = judged(slow, "latency")
    assert verdict.outcome == "fail"
    assert verdict.reason.startswith("p50 of the candidate is 147 ms, of the baseline 97.3 ms")
    assert verdict.estimate == pytest.approx(1.5, rel=0.06)
    assert verdict.interval is not None
    assert verdict.interval[0] > 1.1


def test_a_slow_tail_fails_where_the_median_does_not() -> None:
    """Two requests of a hundred take half a second longer."""
    base, cand = times(0.05, 6000), times(0.05, 2940, 1)
    for index, count in times(0.55, 60, 2).items():
        cand[index] = cand.get(index, 0) + count
    verdict = judged(
        after(window("baseline", 5, 6000, latency=base), window("candidate", 5, 3000, latency=cand)), "latency"
    )
    assert verdict.outcome == "fail"
    assert verdict.reason.startswith("p99 of the candidate is ")


def test_latency_passes_when_every_quantile_is_shown_not_slower() -> None:
    few = [
        window("baseline", 5, 300, latency=times(0.05, 300)),
        window("candidate", 5, 300, latency=times(0.05, 300, 1)),
    ]
    assert judged(after(*few), "latency").outcome == "undecided"
    many = [
        window("baseline", 5, 60_000, latency=times(0.05, 60_000)),
        window("candidate", 5, 60_000, latency=times(0.05, 60_000, 1)),
    ]
    verdict = judged(after(*many), "latency")
    assert verdict.outcome == "pass"
    assert verdict.reason.endswith("every quantile is shown to be at most 10 % or 1 ms slower")


def test_a_median_that_is_not_slower_does_not_vouch_for_the_tail() -> None:
    some = [
        window("baseline", 5, 8000, latency=times(0.05, 8000)),
        window("candidate", 5, 8000, latency=times(0.05, 8000, 1)),
    ]
    verdict = judged(after(*some), "latency")
    assert verdict.outcome == "undecided"
    assert verdict.reason.startswith("p99 of the candidate is ")
    plan = ReleaseSettings(steps=PLAN.steps, guardrails=(Guardrail(latency=LatencyGuardrail(quantiles=(0.5,))),))
    assert judged(after(*some), "latency", plan).outcome == "pass"


def test_a_difference_that_nobody_notices_is_allowed() -> None:
    """Half a millisecond, though it is half again as slow."""
    fast = [
        window("baseline", 5, 20_000, latency=times(0.0005, 20_000)),
        window("candidate", 5, 20_000, latency=times(0.00075, 20_000, 1)),
    ]
    assert judged(after(*fast), "latency").outcome == "pass"


def test_latency_and_outputs_begin_anew_with_each_step_and_stay_for_the_last_one() -> None:
    first = after(
        window("baseline", 5, 950, latency={400: 950}, outputs={"a": 950}),
        window("candidate", 5, 50, latency={500: 50}, outputs={"b": 50}),
    )
    second = ev.next_step(first, PLAN)
    assert judged(second, "latency").outcome == "no_data"
    assert judged(second, "outputs").outcome == "no_data"
    late = after(window("candidate", 5, 50, 3, latency={500: 50}, outputs={"b": 50}), start=second)
    assert judged(late, "latency").outcome == "no_data"
    assert ev.requests_in_step(late, "candidate") == 0
    assert ev.sides(late)["candidate"].requests == 100
    third = after(
        window("baseline", 50, 400, latency={400: 400}, outputs={"a": 400}),
        window("candidate", 50, 400, latency={400: 400}, outputs={"a": 400}),
        start=ev.next_step(second, PLAN),
    )
    everything = after(window("candidate", 100, 500, latency={600: 500}), start=ev.next_step(third, PLAN))
    assert everything.step == 3
    assert ev.requests_in_step(everything, "candidate") == 500
    assert judged(everything, "latency") == judged(third, "latency")
    assert judged(everything, "outputs").counts == judged(third, "outputs").counts


def test_outputs_fail_when_shown_to_move_and_pass_when_shown_not_to() -> None:
    def verdict(rows: int, candidate: Sequence[float], **more: Any) -> Verdict:
        base = {"a": rows // 2, "b": rows // 2}
        cand = {"a": int(rows * candidate[0]), "b": int(rows * candidate[1])}
        return judged(
            after(window("baseline", 5, rows, outputs=base), window("candidate", 5, rows, outputs=cand, **more)),
            "outputs",
        )

    assert verdict(4000, (0.5, 0.5)).outcome == "pass"
    assert verdict(40, (0.5, 0.5)).outcome == "undecided"
    moved = verdict(1000, (0.05, 0.95))
    assert moved.outcome == "fail"
    assert moved.reason.startswith(
        "the predictions differ by 45 %, most in 'a': 5 % of the candidate's, 50 % of the baseline's"
    )
    assert moved.estimate == pytest.approx(0.45)
    assert moved.interval is not None
    assert 0.2 < moved.interval[0] < 0.45 < moved.interval[1]


def test_labels_that_a_busy_window_did_not_tell_apart_are_no_shift() -> None:
    """The baseline's windows run out of kinds and count the rest as other; the candidate's few requests never do."""
    chance = np.random.default_rng(3)

    def counted(rows: int) -> dict[str, int]:
        kinds: dict[str, int] = {}
        count_outputs(kinds, chance.permutation(np.arange(rows) % 300).astype(str).tolist(), ())
        return kinds

    windows = [window("baseline", 5, 950, outputs=counted(950)) for _ in range(60)]
    windows += [window("candidate", 5, 50, outputs=counted(50)) for _ in range(60)]
    assert judged(after(*windows), "outputs").outcome == "undecided"
    assert OUTPUT_KINDS == WINDOW_KINDS
    moved = [window("candidate", 5, 50, outputs={"7": 50}) for _ in range(60)]
    few = [window("baseline", 5, 950, outputs={"7": 100, "other": 850}) for _ in range(60)]
    assert judged(after(*few, *moved), "outputs").outcome == "fail", "a class of that name"


def test_rows_of_one_request_count_as_one() -> None:
    """Ten requests of a hundred rows each are ten customers, not a thousand."""
    found = judged(
        after(
            window("baseline", 5, 10, outputs={"a": 500, "b": 500}),
            window("candidate", 5, 10, outputs={"a": 50, "b": 950}),
        ),
        "outputs",
    )
    assert found.outcome == "undecided"


def test_outcomes_need_labels_and_then_decide() -> None:
    def verdict(base: Moments, cand: Moments) -> Verdict:
        return judged(ev.with_outcomes(ev.begin(PLAN), 3, base, cand), "outcome")

    some = verdict(Moments.of_counts(5000, 4500), Moments.of_counts(99, 90))
    assert some.outcome == "no_data"
    assert some.reason == "99 labels of the candidate and 5 000 of the baseline have come, 100 of each are needed"
    assert verdict(Moments.of_counts(500, 450), Moments.of_counts(500, 450)).outcome == "undecided"
    worse = verdict(Moments.of_counts(5000, 4500), Moments.of_counts(2000, 1600))
    assert worse.outcome == "fail"
    assert worse.estimate == pytest.approx(-0.1)
    assert worse.reason.startswith("accuracy of the candidate is 0.8 over 2 000 labels, of the baseline 0.9 over 5 000")
    assert verdict(Moments.of_counts(50_000, 45_000), Moments.of_counts(50_000, 45_100)).outcome == "pass"


def test_labels_that_are_all_right_show_something_but_not_at_once() -> None:
    def verdict(n: int) -> Verdict:
        every = Moments.of_counts(n, n)
        return judged(ev.with_outcomes(ev.begin(PLAN), 3, every, every), "outcome")

    assert verdict(200).outcome == "undecided"
    assert verdict(2000).outcome == "pass"


def test_prometheus_answers_or_does_not() -> None:
    begun = ev.begin(PLAN)
    assert judged(ev.with_prometheus(begun, 4, 2.0), "prometheus").outcome == "pass"
    high = ev.with_prometheus(begun, 4, 2.5)
    assert judged(high, "prometheus").outcome == "fail"
    assert judged(high, "prometheus").reason == "Prometheus says 2.5, above 2"
    for none in (None, float("nan"), float("inf")):
        assert judged(ev.with_prometheus(high, 4, none), "prometheus").outcome == "no_data"


def test_the_budget_counts_what_users_saw() -> None:
    plan = msgspec.structs.replace(PLAN, shadow=ShadowPlan())
    copied = after(copies(100, 90), plan=plan)
    assert judged(copied, "budget", plan).outcome == "no_data"
    spent = after(window("candidate", 5, 500, 20), plan=plan, start=copied)
    assert judged(spent, "budget", plan).outcome == "pass"
    over = after(window("candidate", 100, 500, 1), plan=plan, start=spent)
    assert judged(over, "budget", plan).outcome == "fail"
    assert judged(over, "budget", plan).reason == "the candidate has failed 21 times; 20 are allowed"


def test_a_broken_split_is_found_among_requests_without_a_unit() -> None:
    fair = after(window("baseline", 5, 19_000, unitless=19_000), window("candidate", 5, 1000, unitless=1000))
    assert judged(fair, "split").outcome == "pass"
    broken = after(window("baseline", 5, 9500, unitless=9500), window("candidate", 5, 1500, unitless=1500), start=fair)
    verdict = judged(broken, "split")
    assert verdict.outcome == "fail"
    assert verdict.reason.endswith(
        "2 500 of 31 000 requests without a unit went to the candidate, 1 550 were due: the split is broken"
    )


def test_a_busy_unit_does_not_break_the_split() -> None:
    """A third of all requests are one unit's, and it is on the candidate's side."""
    busy = after(window("baseline", 5, 20_000, unitless=0), window("candidate", 5, 10_000, unitless=0))
    assert judged(busy, "split").outcome == "no_data"
    uncounted = after(window("baseline", 5, 20_000), window("candidate", 5, 10_000))
    assert judged(uncounted, "split").outcome == "no_data"


def story(seed: int) -> list[VariantWindow]:
    """Windows of four processes, three shares and a shadow."""
    rng = random.Random(seed)
    windows = []
    for number in range(60):
        share = rng.choice([0, 5, 25])
        failures = rng.randrange(3)
        more: Mapping[str, Any] = {
            "process": f"p{rng.randrange(4)}", "snapshot": {0: 6, 5: 7, 25: 8}[share],
            "latency": {rng.randrange(300, 500): 30, rng.randrange(300, 500): 20},
            "outputs": {rng.choice("abc"): 50}, "unitless": rng.randrange(50),
        }  # fmt: skip
        if share == 0 and number % 2:
            windows.append(copies(50, failures, **more))
        else:
            windows.append(
                window("candidate" if share and number % 3 == 0 else "baseline", share, 50, failures, **more)
            )
    return windows


@pytest.mark.parametrize("seed", range(5))
def test_windows_can_be_folded_in_any_order_and_grouping(seed: int) -> None:
    plan = msgspec.structs.replace(PLAN, shadow=ShadowPlan())
    begun = ev.next_step(ev.begin(plan), plan)
    windows = story(seed)
    at_once = ev.fold(begun, plan, windows)
    shuffled = random.Random(seed).sample(windows, len(windows))
    one_by_one = begun
    for single in shuffled:
        one_by_one = ev.fold(one_by_one, plan, [single])
    assert one_by_one == at_once
    assert msgspec.json.encode(one_by_one) == msgspec.json.encode(at_once)
    assert ev.verdicts(one_by_one, plan) == ev.verdicts(at_once, plan)


@pytest.mark.parametrize("seed", range(3))
def test_evidence_that_was_written_and_read_gives_the_same_verdicts(seed: int) -> None:
    plan = msgspec.structs.replace(PLAN, shadow=ShadowPlan())
    evidence = ev.fold(ev.next_step(ev.begin(plan), plan), plan, story(seed))
    evidence = ev.with_outcomes(evidence, 3, Moments.of_counts(321, 300), Moments(301, 0.1 + 0.2, 0.123456789))
    evidence = ev.with_prometheus(evidence, 4, 1 / 3)
    again = msgspec.json.decode(msgspec.json.encode(evidence), type=Evidence)
    assert again == evidence
    before, then = ev.verdicts(evidence, plan), ev.verdicts(again, plan)
    assert then == before
    written = msgspec.json.encode(before)
    assert msgspec.json.decode(written, type=tuple[Verdict, ...]) == before
    assert ev.sides(again) == ev.sides(evidence)


def test_windows_of_other_variants_and_of_earlier_releases_are_left_out() -> None:
    begun, other = ev.begin(PLAN), window("previous", 5, 100, 50)
    assert ev.fold(begun, PLAN, [other]) == begun
    earlier, own = (window("candidate", 5, 100, 50, snapshot=number) for number in (6, 7))
    chosen = [belongs(release(first=7), Stored(number, found)) for number, found in enumerate((other, earlier, own))]
    assert chosen == [False, False, True]


def test_sides_show_counts_since_the_start_and_quantiles_of_the_step() -> None:
    evidence = after(
        window("baseline", 5, 950, 2, latency={bin_of(0.01): 500, bin_of(0.04): 440, bin_of(0.3): 10}),
        window("candidate", 5, 50, latency={bin_of(0.02): 50}, outputs={"a": 50}),
    )
    sides = ev.sides(evidence)
    assert set(sides) == {"baseline", "candidate"}
    assert sides["baseline"].p50 == pytest.approx(0.01, rel=0.02)
    assert sides["baseline"].p90 == pytest.approx(0.04, rel=0.02)
    assert sides["baseline"].p99 == pytest.approx(0.3, rel=0.02)
    assert sides["baseline"].failures == 2
    assert sides["candidate"].outputs == {"a": 50}
    assert ev.requests_in_step(evidence, "candidate") == 50


def test_many_kinds_of_outputs_are_bounded() -> None:
    evidence = after(window("baseline", 5, 1000, outputs={f"kind {number}": 1 for number in range(1000)}))
    outputs = ev.sides(evidence)["baseline"].outputs
    assert len(outputs) == ev.MOST_KINDS
    assert sum(outputs.values()) == 1000


def test_one_figure_for_everything() -> None:
    good = ev.verdicts(ev.begin(PLAN), PLAN)
    assert combined(good) == 0.0
    bad = ev.verdicts(after(window("baseline", 5, 19_000), window("candidate", 5, 1000, 20)), PLAN)
    assert combined(bad) > np.log(100)


def test_the_page_explains_every_test_by_its_name() -> None:
    page = (Path(__file__).parents[4] / "docs" / "design" / "statistics.md").read_text("utf-8")
    headings = " ".join(line.lower() for line in page.splitlines() if line.startswith("## "))
    for verdict in ev.verdicts(ev.begin(PLAN), PLAN):
        assert verdict.test.lower() in headings


def test_a_plan_of_one_step_has_nobody_to_compare_with() -> None:
    plan = msgspec.structs.replace(PLAN, steps=(100,))
    evidence = after(window("candidate", 100, 5000, 2), plan=plan)
    verdict = judged(evidence, "errors", plan)
    assert verdict.outcome == "pass"
    assert verdict.reason.startswith("2 of 5 000 requests of the candidate failed, the baseline had none beside it")
    assert judged(evidence, "latency", plan).outcome == "no_data"
