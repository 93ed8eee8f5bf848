"""What an experiment shows: per arm and metric an estimate, against the control arm a difference, whether the split holds.

Pure but for ``gather``. Every interval and p-value stays valid however often one looks (docs/design/statistics.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from tidegate.control.analysis.means import FEWEST, Difference, Moments, Pairs, difference
from tidegate.control.analysis.ratio import ALPHA, mismatch
from tidegate.control.experiments.experiment import (
    CONTROL,
    WHOLE,
    Comparison,
    Estimate,
    Experiment,
    Metric,
    Report,
)
from tidegate.storage.store import Unit
from tidegate.types import Verdict

FEWEST_EVENTS = 50
"""Of a binary metric and arm, of the rarer kind: below, the normal approximation does not hold."""

Values = Mapping[str, Mapping[str, float]]
"""Arm -> unit -> value."""


class Data(msgspec.Struct, frozen=True):
    units: Mapping[str, int]
    outcomes: Mapping[str, Values]
    """Metric -> arm -> unit -> value."""
    covariates: Mapping[str, Values] = {}


def make_report(experiment: Experiment, unit: Unit, now: float) -> Report:
    return report(experiment, gather(experiment, unit), now)


def gather(experiment: Experiment, unit: Unit) -> Data:
    name = experiment.name
    metrics = experiment.spec.metrics
    return Data(
        unit.exposures.counts(name),
        {metric.name: _by_unit(metric, unit.feedback.outcomes(name, metric.name)) for metric in metrics},
        {
            covariate: _means(unit.feedback.outcomes(name, covariate, before=True))
            for covariate in {metric.covariate for metric in metrics if metric.name in experiment.coefficients}
        },
    )


def report(experiment: Experiment, data: Data, now: float) -> Report:
    arms = [CONTROL, *(arm.name for arm in experiment.spec.arms)]
    estimates, comparisons = [], []
    split = _split(experiment, data.units)
    for metric in experiment.spec.metrics:
        alpha = experiment.spec.alpha / ((len(arms) - 1) * len(experiment.spec.metrics))
        moments = {arm: _moments(metric, data, arm) for arm in arms}
        adjusted = {arm: _adjusted(experiment, metric, data, arm, moments[arm]) for arm in arms}
        compared = [_comparison(experiment, metric, arm, moments, adjusted, alpha) for arm in arms[1:]]
        estimates += [_estimate(metric, arm, data, moments[arm], alpha) for arm in arms]
        comparisons += [_void(one) for one in compared] if split.outcome == "fail" else compared
    return Report(
        experiment=experiment.name,
        time=now,
        units={arm: data.units.get(arm, 0) for arm in arms},
        estimates=tuple(estimates),
        comparisons=tuple(comparisons),
        split=split,
    )


def rule_that_holds(experiment: Experiment, report: Report, now: float) -> str:
    """The first rule by which the experiment ends now, in words; empty while none holds."""
    stop = experiment.spec.stop
    units = sum(report.units.values())
    if stop.max_seconds is not None and now - experiment.started >= stop.max_seconds:
        return f"it ran for {stop.max_seconds:g} seconds"
    if stop.max_units is not None and units >= stop.max_units:
        return f"{units:,} units took part"
    if not stop.when_decided:
        return ""
    first = experiment.spec.metrics[0].name
    decided = [one for one in report.comparisons if one.metric == first]
    if all(one.outcome in ("better", "worse") for one in decided):
        return f"{first} is decided: " + "; ".join(f"{one.arm} is {one.outcome}" for one in decided)
    return ""


def coefficient(pairs: Sequence[tuple[float, float]]) -> float:
    """Of outcome on covariate, from pairs of before the start; 0 for too few."""
    return _pairs(pairs).coefficient if len(pairs) >= FEWEST else 0.0


def _by_unit(metric: Metric, outcomes: Iterable[tuple[str, str, float]]) -> Values:
    """A unit with several values counts once: a binary metric if any of them is 1, a numeric one with their mean."""
    if metric.kind == "numeric":
        return _means(outcomes)
    return {arm: {unit: float(any(values)) for unit, values in units.items()} for arm, units in _all(outcomes).items()}


def _means(outcomes: Iterable[tuple[str, str, float]]) -> Values:
    return {
        arm: {unit: math.fsum(values) / len(values) for unit, values in units.items()}
        for arm, units in _all(outcomes).items()
    }


def _all(outcomes: Iterable[tuple[str, str, float]]) -> Mapping[str, Mapping[str, Sequence[float]]]:
    found: dict[str, dict[str, list[float]]] = {}
    for arm, unit, value in outcomes:
        found.setdefault(arm, {}).setdefault(unit, []).append(value)
    return found


def _moments(metric: Metric, data: Data, arm: str) -> Moments:
    values = list(data.outcomes[metric.name].get(arm, {}).values())
    absent = max(data.units.get(arm, 0) - len(values), 0) if metric.absent_is_zero else 0
    return _of_values(values).merge(Moments(absent, 0.0, 0.0))


def _adjusted(experiment: Experiment, metric: Metric, data: Data, arm: str, plain: Moments) -> Moments:
    """CUPED. Units whose covariate is not known keep their outcome as it is, which is right since arms are random.

    Centred at the mean of the units that take part, so that the arms' means, of which a lift is a share, stay what they
    are: units of before the start may have been others.
    """
    theta = experiment.coefficients.get(metric.name, 0.0)
    covariates = data.covariates.get(metric.covariate, {})
    everyone = [x for units in covariates.values() for x in units.values()]
    if not theta or not everyone:
        return plain
    centre = math.fsum(everyone) / len(everyone)
    outcomes = data.outcomes[metric.name].get(arm, {})
    known = covariates.get(arm, {})
    with_covariate = [
        (outcomes.get(unit, 0.0), x) for unit, x in known.items() if metric.absent_is_zero or unit in outcomes
    ]
    without = [value for unit, value in outcomes.items() if unit not in known]
    zeros = 0
    if metric.absent_is_zero:
        zeros = max(data.units.get(arm, 0) - len(with_covariate) - len(without), 0)
    adjusted = _pairs(with_covariate).adjusted(theta, centre)
    return adjusted.merge(_of_values(without)).merge(Moments(zeros, 0.0, 0.0))


def _of_values(values: Sequence[float]) -> Moments:
    n = len(values)
    mean = math.fsum(values) / n if n else 0.0
    return Moments(n, mean, math.fsum((value - mean) ** 2 for value in values) / (n - 1) if n > 1 else 0.0)


def _pairs(pairs: Sequence[tuple[float, float]]) -> Pairs:
    outcome, covariate = _of_values([y for y, _ in pairs]), _of_values([x for _, x in pairs])
    products = math.fsum((y - outcome.mean) * (x - covariate.mean) for y, x in pairs)
    return Pairs(outcome, covariate, products / (len(pairs) - 1) if len(pairs) > 1 else 0.0)


def _estimate(metric: Metric, arm: str, data: Data, moments: Moments, alpha: float) -> Estimate:
    told = len(data.outcomes[metric.name].get(arm, {}))
    if moments.n < FEWEST or not moments.variance:
        mean = moments.mean if moments.n else None
        return Estimate(metric=metric.name, arm=arm, units=data.units.get(arm, 0), outcomes=told, mean=mean)
    alone = Difference(moments.mean, math.sqrt(moments.variance / moments.n), moments.n)
    return Estimate(
        metric=metric.name,
        arm=arm,
        units=data.units.get(arm, 0),
        outcomes=told,
        mean=moments.mean,
        interval=alone.interval(alpha, metric.planned),
    )


def _comparison(
    experiment: Experiment,
    metric: Metric,
    arm: str,
    moments: Mapping[str, Moments],
    adjusted: Mapping[str, Moments],
    alpha: float,
) -> Comparison:
    control, other = adjusted[CONTROL], adjusted[arm]
    missing = _too_few(experiment, metric, arm, moments)
    if missing:
        return Comparison(metric=metric.name, arm=arm, outcome="no_data", reason=missing, alpha=alpha)
    effect = difference(control, other)
    if not effect.error:
        reason = "nothing varies in either arm, which does not say what other units would do"
        return Comparison(metric=metric.name, arm=arm, outcome="no_data", reason=reason, alpha=alpha)
    low, high = effect.interval(alpha, metric.planned)
    lift, lift_interval = None, None
    if control.mean:
        ratio = other.mean / control.mean
        error = math.sqrt(other.variance / other.n + ratio * ratio * control.variance / control.n) / abs(control.mean)
        relative = Difference(ratio - 1.0, error, effect.n)
        lift, lift_interval = relative.estimate, relative.interval(alpha, metric.planned)
    decided = low > 0 or high < 0
    good = (low > 0) == (metric.better == "higher")
    outcome = ("better" if good else "worse") if decided else "undecided"
    spread = moments[CONTROL].variance + moments[arm].variance
    removed = 1.0 - (control.variance + other.variance) / spread if spread else 0.0
    return Comparison(
        metric=metric.name,
        arm=arm,
        outcome=outcome,  # type: ignore[arg-type]
        reason=_words(metric, arm, effect.estimate, (low, high), lift, outcome),
        difference=effect.estimate,
        interval=(low, high),
        lift=lift,
        lift_interval=lift_interval,
        p=min(1.0, math.exp(-effect.log_e(0.0, alpha, metric.planned))),
        alpha=alpha,
        variance_removed=max(removed, 0.0),
    )


def _void(found: Comparison) -> Comparison:
    """A broken split leaves the figures, and takes what was concluded from them."""
    if found.outcome == "no_data":
        return found
    reason = f"the split is broken, so that nothing follows: {found.reason.rpartition(': ')[0]}"
    return msgspec.structs.replace(found, outcome="undecided", reason=reason)


def _too_few(experiment: Experiment, metric: Metric, arm: str, moments: Mapping[str, Moments]) -> str:
    needed = max(FEWEST, experiment.spec.stop.min_units)
    for name in (CONTROL, arm):
        one = moments[name]
        if one.n < needed:
            return f"{name} has {one.n:,} of the {needed:,} units that are needed before anything is concluded"
        events = min(one.mean, 1.0 - one.mean) * one.n
        if metric.kind == "binary" and round(events) < FEWEST_EVENTS:
            return f"{name} has {round(events):,} of the {FEWEST_EVENTS} events that are needed"
    return ""


def _words(
    metric: Metric, arm: str, estimate: float, interval: tuple[float, float], lift: float | None, outcome: str
) -> str:
    relative = "" if lift is None else f" ({lift:+.1%})"
    low, high = interval
    return (
        f"{metric.name} of {arm} differs from the control arm's by {estimate:+.4g}{relative}, "
        f"between {low:+.4g} and {high:+.4g}: {outcome}"
    )


def _split(experiment: Experiment, units: Mapping[str, int]) -> Verdict:
    shares = {arm.name: arm.buckets / WHOLE for arm in experiment.spec.arms}
    shares[CONTROL] = 1.0 - math.fsum(shares.values())
    counts = [units.get(arm, 0) for arm in shares]
    strangers = sum(units.values()) - sum(counts)
    evidence = math.inf if strangers else mismatch(counts, list(shares.values()))
    threshold = math.log(1 / ALPHA)
    seen = ", ".join(f"{arm} {count:,}" for arm, count in zip(shares, counts, strict=True))
    wanted = " : ".join(f"{100 * share:g}%" for share in shares.values())
    failed = evidence >= threshold
    told = "the split is broken, nothing else here can be believed" if failed else "as configured"
    return Verdict(
        guardrail="split",
        test="sample ratio",
        outcome="no_data" if not sum(counts) else "fail" if failed else "pass",
        reason=f"units: {seen}; configured {wanted}: {told}",
        evidence=min(evidence, 1e9),
        threshold=threshold,
        p=min(1.0, math.exp(-max(evidence, 0.0))),
        alpha=ALPHA,
        counts={arm: float(count) for arm, count in zip(shares, counts, strict=True)},
    )
