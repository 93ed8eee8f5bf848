"""One verdict per guardrail, from what was counted: pure.

A guardrail fails when its e-value against the candidate reaches ``1/alpha`` at any look, and passes when the e-value for
"good enough" does. Else it is undecided, and without anything to judge it has no data, which never counts as a pass.
Every alpha is the guardrail's own, so that what fails has a name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from tidegate.control.analysis import binomial, combine, ramp, ratio
from tidegate.control.analysis.bins import shift_of
from tidegate.control.analysis.distance import Arm, distance
from tidegate.control.analysis.means import Moments, difference
from tidegate.control.analysis.quantile import N_OPT, Comparison
from tidegate.control.releases.counted import (
    FULL,
    OTHER,
    WINDOW_KINDS,
    Counted,
    Evidence,
    Name,
    Pair,
    compared_steps,
    share_of,
)
from tidegate.control.releases.wording import duration, failures, most_moved, number, percent
from tidegate.settings import (
    BudgetGuardrail,
    ErrorsGuardrail,
    Guardrail,
    LatencyGuardrail,
    OutcomeGuardrail,
    OutputsGuardrail,
    PrometheusGuardrail,
    ReleaseSettings,
)  # fmt: skip
from tidegate.types import Outcome, Verdict

LARGEST = 1e6
"""Logarithms are cut here: JSON has no infinity."""


def verdicts(evidence: Evidence, plan: ReleaseSettings) -> tuple[Verdict, ...]:
    """One per guardrail of the plan, in its order, then ``split``."""
    return (*(_verdict(evidence, plan, index, rail) for index, rail in enumerate(plan.guardrails)), split(evidence))


def combined(found: tuple[Verdict, ...]) -> float:
    """log of the mean e-value of all guardrails that claim statistics: one figure for "anything is wrong"."""
    return combine.log_mean([verdict.evidence for verdict in found if verdict.alpha and verdict.guardrail != "split"])


def _verdict(evidence: Evidence, plan: ReleaseSettings, index: int, rail: Guardrail) -> Verdict:
    if rail.errors is not None:
        return errors(evidence, rail.errors)
    if rail.latency is not None:
        return latency(evidence, plan, rail.latency)
    if rail.outputs is not None:
        return outputs(evidence, plan, rail.outputs)
    if rail.outcome is not None:
        return outcome(evidence, index, rail.outcome)
    if rail.prometheus is not None:
        return prometheus(evidence, index, rail.prometheus)
    if rail.budget is not None:
        return budget(evidence, rail.budget)
    raise ValueError(f"guardrail {index + 1} of the plan is empty")


def errors(evidence: Evidence, rail: ErrorsGuardrail) -> Verdict:
    """The candidate's failures against the baseline's at the same time; goes on over all steps.

    Two tests must agree. One takes the configured share as the candidate's chance of a failure, and counts one failure
    per unit and window: no client's retries can decide it. The other takes the observed share of requests, and counts
    every failure: no client that sends more than others can decide it. The smaller of two e-values is an e-value.
    """
    test = "ramp-safe mixture of likelihood ratios"
    compared, copied = evidence.compared(), evidence.copied()
    judged = compared.judged if compared.judged[1] or not copied.judged[1] else copied.judged
    broken = compared.broken if compared.judged[1] or not copied.judged[1] else copied.broken
    everything = evidence.seen("candidate").requests
    if not judged[1] and not everything:
        return _no_data("errors", test, "the candidate has had no requests", evidence, rail.alpha)
    configured = [(share / FULL, counted.failures) for share, counted in evidence.shares.items() if share < FULL]
    observed = [(counted.observed, counted.broken) for counted in evidence.shares.values()]
    copies = [(counted.observed, counted.broken) for counted in evidence.copies.values()]
    against = min(ramp.worse(_joined(configured + copies)), ramp.worse(_joined(observed + copies)))
    ratio_shown = min(ramp.good_enough(_joined(part), rail.tolerance) for part in (configured, observed))
    total = _total(evidence)
    rate_shown = binomial.below(total.broken[1], total.judged[1], rail.acceptable_rate)
    shown = combine.log_mean([_cut(ratio_shown), _cut(rate_shown)])
    counts = _joined(observed if compared.judged[1] else copies)
    text = failures(judged, broken, ramp.ratio(counts), "requests" if compared.judged[1] else "copies")
    if not judged[1]:
        text = f"{total.broken[1]} of {number(everything)} requests of the candidate failed, the baseline had none beside it"
    threshold = -math.log(rail.alpha)
    if against >= threshold:
        text += ", more often than chance explains"
    elif shown >= threshold:
        better = rate_shown >= ratio_shown
        limit = f"at most {percent(rail.acceptable_rate)}" if better else f"less than {rail.tolerance:g} times as often"
        text += f": shown to fail {limit}" if better else f": shown to fail {limit} as the baseline"
    else:
        text += ": not enough to tell"
    return _judged(
        "errors", test, text, evidence, rail.alpha, against, shown,
        {"requests_baseline": judged[0], "failures_baseline": broken[0],
         "requests_candidate": judged[1], "failures_candidate": broken[1]},
        ramp.ratio(counts),
        ramp.interval(counts, rail.alpha) if any(any(pair) for pair in counts.values()) else None,
    )  # fmt: skip


def latency(evidence: Evidence, plan: ReleaseSettings, rail: LatencyGuardrail) -> Verdict:
    """Quantiles of the current step against the baseline's, made slower by what is allowed.

    Failing: the mean of the quantiles' e-values, and alpha divided over the steps. Passing: every quantile has to pass,
    and the last step too, so that nothing has to be divided.
    """
    test = "quantiles, Howard & Ramdas"
    base, cand = evidence.seen("baseline").latency, evidence.seen("candidate").latency
    if not rail.quantiles:
        return _no_data("latency", test, "the plan names no quantiles", evidence, rail.alpha)
    if not cand or not base:
        who = "candidate" if not cand else "baseline"
        return _no_data("latency", test, f"the {who} has had no requests in this step", evidence, rail.alpha)
    comparison = Comparison.of(base, cand)
    shift = shift_of(rail.slack, rail.acceptable_ms / 1000)
    sizes = _best_sizes(evidence, plan)
    slower = [comparison.slower(p, shift, sizes) for p in rail.quantiles]
    fine = [comparison.not_slower(p, shift, sizes) for p in rail.quantiles]
    against = combine.log_mean(slower) - math.log(compared_steps(plan))
    shown, threshold = min(fine), -math.log(rail.alpha)
    worst = max(range(len(slower)), key=lambda place: (slower[place], -fine[place]))
    if threshold > against:
        worst = min(range(len(fine)), key=lambda place: (fine[place], -place))
    p = rail.quantiles[worst]
    name, found, allowed = f"p{100 * p:g}", comparison.ratio(p), f"{100 * rail.slack:g} % or {rail.acceptable_ms:g} ms"
    seconds = comparison.quantiles(p)
    text = f"{name} of the candidate is {duration(seconds[1])}, of the baseline {duration(seconds[0])}"
    if against >= threshold:
        text += f": shown to be more than {allowed} slower"
    elif shown >= threshold:
        text = f"{text}: every quantile is shown to be at most {allowed} slower"
    else:
        text += f": not enough to tell whether it is more than {allowed} slower"
    counts = {
        "requests_baseline": float(comparison.baseline[-1]),
        "requests_candidate": float(comparison.candidate[-1]),
    }
    counts |= {f"{name}_baseline": _cut(seconds[0]), f"{name}_candidate": _cut(seconds[1])}
    return _judged(
        "latency", test, text, evidence, rail.alpha, against, shown, counts,
        found, comparison.interval(p, rail.alpha, sizes),
    )  # fmt: skip


def outputs(evidence: Evidence, plan: ReleaseSettings, rail: OutputsGuardrail) -> Verdict:
    """How far apart the variants' predictions are in the current step, or those of the copies before the first."""
    test = "total variation, sub-Gaussian mixture"
    other: Name = "shadow" if evidence.step < 0 else "candidate"
    base, cand = evidence.seen("baseline"), evidence.seen(other)
    if not base.outputs or not cand.outputs:
        who = other if not cand.outputs else "baseline"
        return _no_data("outputs", test, f"no predictions of the {who} were counted in this step", evidence, rail.alpha)
    sizes = _best_sizes(evidence, plan)
    found = distance(
        Arm(base.outputs, base.clusters or None, sizes[0]), Arm(cand.outputs, cand.clusters or None, sizes[1])
    )
    steps = compared_steps(plan) + (plan.shadow is not None)
    blurred = rail.max_shift + _not_told_apart(base.outputs) + _not_told_apart(cand.outputs)
    against, shown = found.above(blurred) - math.log(steps), found.within(rail.max_shift)
    threshold = -math.log(rail.alpha)
    kind, shares = most_moved(base.outputs, cand.outputs)
    text = (
        f"the predictions differ by {percent(found.estimate)}, most in {kind!r}: "
        f"{percent(shares[1])} of the {other}'s, {percent(shares[0])} of the baseline's"
    )
    if against >= threshold:
        text += f"; shown to be more than {percent(rail.max_shift)}"
    elif shown >= threshold:
        text += f"; shown to be at most {percent(rail.max_shift)}"
    else:
        text += f"; not enough to tell whether it is more than {percent(rail.max_shift)}"
    counts = {"rows_baseline": sum(base.outputs.values()), "rows_candidate": sum(cand.outputs.values())}
    return _judged(
        "outputs", test, text, evidence, rail.alpha, against, shown, counts, found.estimate, found.interval(rail.alpha)
    )


def outcome(evidence: Evidence, index: int, rail: OutcomeGuardrail) -> Verdict:
    """Labelled outcomes, higher is better, by confidence sequences that hold for large numbers."""
    test = "asymptotic confidence sequence"
    base, cand = evidence.outcomes.get(index, (Moments(), Moments()))
    least = max(rail.min_labels, 2)
    if min(base.n, cand.n) < least:
        text = (
            f"{number(cand.n)} labels of the candidate and {number(base.n)} of the baseline have come, "
            f"{number(rail.min_labels)} of each are needed"
        )
        return _no_data(
            "outcome", test, text, evidence, rail.alpha, {"labels_baseline": base.n, "labels_candidate": cand.n}
        )
    effect = difference(_cautious(base), _cautious(cand))
    against = effect.negated().log_e_above(rail.margin, rail.alpha)
    shown = effect.log_e_above(-rail.margin, rail.alpha)
    threshold = -math.log(rail.alpha)
    text = (
        f"{rail.metric} of the candidate is {cand.mean:.4g} over {number(cand.n)} labels, "
        f"of the baseline {base.mean:.4g} over {number(base.n)}"
    )
    if against >= threshold:
        text += f": shown to be worse by more than {rail.margin:g}"
    elif shown >= threshold:
        text += f": shown not to be worse by more than {rail.margin:g}"
    else:
        text += f": not enough to tell whether it is worse by more than {rail.margin:g}"
    counts = {
        "labels_baseline": base.n,
        "labels_candidate": cand.n,
        "mean_baseline": base.mean,
        "mean_candidate": cand.mean,
    }
    return _judged(
        "outcome",
        test,
        text,
        evidence,
        rail.alpha,
        against,
        shown,
        counts,
        effect.estimate,
        effect.interval(rail.alpha),
    )


def prometheus(evidence: Evidence, index: int, rail: PrometheusGuardrail) -> Verdict:
    """A bound on what somebody else measures; claims no statistics."""
    value = evidence.readings.get(index)
    if value is None:
        return _no_data("prometheus", "bound", "Prometheus has not given a number", evidence, 0.0)
    side = "above" if value > rail.max else "not above"
    return Verdict(
        guardrail="prometheus", test="bound", outcome="fail" if value > rail.max else "pass",
        reason=f"Prometheus says {value:g}, {side} {rail.max:g}",
        counts={"value": value, "max": rail.max, "snapshot": evidence.snapshot}, estimate=value,
    )  # fmt: skip


def budget(evidence: Evidence, rail: BudgetGuardrail) -> Verdict:
    """An engineering stop: so many failures in front of users, and it is over."""
    failed = _total(evidence).failures[1]
    if not evidence.seen("candidate").requests:
        return _no_data("budget", "count", "the candidate has had no requests", evidence, 0.0)
    over = failed > rail.max_failures
    return Verdict(
        guardrail="budget", test="count", outcome="fail" if over else "pass",
        reason=f"the candidate has failed {number(failed)} times; {number(rail.max_failures)} are allowed",
        counts={"failures_candidate": failed, "max_failures": rail.max_failures, "snapshot": evidence.snapshot},
        estimate=float(failed),
    )  # fmt: skip


def split(evidence: Evidence) -> Verdict:
    """Whether requests were divided as configured: only those without a unit, each of which is assigned by itself.

    The requests of one unit all go the same way, so that a few busy units move the shares without anything broken.
    """
    test = "sample ratio, multinomial"
    counts = {share / FULL: counted.unitless for share, counted in evidence.shares.items() if 0 < share < FULL}
    seen = sum(base + cand for base, cand in counts.values())
    if not seen:
        text = "no requests without a unit; those with one go where their unit goes"
        return _no_data("split", test, text, evidence, ratio.ALPHA)
    against = _cut(ratio.mismatch_over_steps(counts))
    candidate = sum(pair[1] for pair in counts.values())
    expected = sum(share * sum(pair) for share, pair in sorted(counts.items()))
    broken = against >= -math.log(ratio.ALPHA)
    text = f"{number(candidate)} of {number(seen)} requests without a unit went to the candidate, {number(expected)} were due"
    return Verdict(
        guardrail="split", test=test, outcome="fail" if broken else "pass",
        reason=f"{text}: the split is broken" if broken else f"{text}: as configured",
        evidence=against, threshold=-math.log(ratio.ALPHA), p=combine.p_of(against), alpha=ratio.ALPHA,
        counts={"candidate": candidate, "requests": seen, "expected": expected, "snapshot": evidence.snapshot},
        estimate=candidate / seen,
    )  # fmt: skip


def _judged(
    guardrail: str, test: str, reason: str, evidence: Evidence, alpha: float, against: float, shown: float,
    counts: Mapping[str, float], estimate: float | None, interval: tuple[float, float] | None,
) -> Verdict:  # fmt: skip
    threshold = -math.log(alpha)
    against, shown = _cut(against), _cut(shown)
    found: Outcome = "fail" if against >= threshold else "pass" if shown >= threshold else "undecided"
    return Verdict(
        guardrail=guardrail, test=test, outcome=found, reason=reason, evidence=against, threshold=threshold,
        support=shown, p=combine.p_of(against), alpha=alpha, counts={**counts, "snapshot": evidence.snapshot},
        estimate=estimate, interval=interval,
    )  # fmt: skip


def _no_data(
    guardrail: str, test: str, reason: str, evidence: Evidence, alpha: float, counts: Mapping[str, float] | None = None
) -> Verdict:
    return Verdict(
        guardrail=guardrail, test=test, outcome="no_data", reason=reason, alpha=alpha,
        threshold=-math.log(alpha) if alpha else 0.0, counts={**(counts or {}), "snapshot": evidence.snapshot},
    )  # fmt: skip


def _cut(log: float) -> float:
    return max(-LARGEST, min(log, LARGEST))


def _joined(parts: Iterable[tuple[float, Pair]]) -> dict[float, Pair]:
    """Failures by the candidate's share; those of equal shares together."""
    total: dict[float, Pair] = {}
    for share, (base, cand) in parts:
        seen = total.get(share, (0, 0))
        total[share] = seen[0] + base, seen[1] + cand
    return total


def _total(evidence: Evidence) -> Counted:
    """Everything that was answered for users, also without a baseline beside it."""
    total = Counted()
    for share in sorted(evidence.shares):
        total = total.plus(evidence.shares[share])
    return total


def _not_told_apart(kinds: Mapping[str, int]) -> float:
    """By how much the counts may differ from what was predicted: a busy window runs out of kinds, a quiet one does not.
    With fewer kinds than that ``OTHER`` is a class like the others."""
    return kinds.get(OTHER, 0) / sum(kinds.values()) if len(kinds) >= WINDOW_KINDS else 0.0


def _best_sizes(evidence: Evidence, plan: ReleaseSettings) -> tuple[float, float]:
    """At how many requests of baseline and candidate tests are sharpest: the baseline has more by the odds of the share,
    which is known before the step begins."""
    step = evidence.step
    while step > 0 and share_of(plan, step) >= FULL:
        step -= 1
    share = share_of(plan, step) / FULL
    return (N_OPT * (1 - share) / share if 0 < share < 1 else N_OPT), N_OPT


def _cautious(moments: Moments) -> Moments:
    """Of zeros and ones that were all equal so far, one might have been the other."""
    spread = moments.mean * (1 - moments.mean) * moments.n / (moments.n - 1)
    if abs(spread - moments.variance) > 1e-9:
        return moments
    return Moments(moments.n, moments.mean, max(moments.variance, 1 / moments.n))
