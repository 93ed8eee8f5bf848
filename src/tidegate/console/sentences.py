"""What the pages say in words: which version is live, who gets the candidate, why it is not promoted. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tidegate.console import text
from tidegate.control.figures import EndpointFigures, Split
from tidegate.control.monitoring.records import Alert, Finding
from tidegate.control.releases.gates import SPLIT, shares
from tidegate.control.releases.release import OPEN, Release, State
from tidegate.types import Outcome, Verdict


class Says(NamedTuple):
    """A few words to read from afar, and the rest of the sentence."""

    big: str
    small: str


def live(endpoint: EndpointFigures) -> Says:
    """Which version answers users."""
    baseline = endpoint.baseline
    if baseline is None:
        return Says("Nothing", "no version is in force")
    if baseline.share == 10_000:
        return Says(text.version(baseline.version), "answers every user")
    return Says(text.version(baseline.version), f"answers {text.share(baseline.share)} of users")


def live_of(release: Release) -> Says:
    """Which version answers users, seen from a release."""
    old, new = text.version(release.baseline.version), text.version(release.candidate.version)
    if release.state in ("promoted", "baking"):
        return Says(new, "answers every user" if release.state == "promoted" else "answers every user, on trial")
    if release.state in ("rolled_back", "failed") or release.share == 0:
        return Says(old, "answers every user")
    if release.share == 10_000:
        return Says(new, "answers every user, on trial")
    return Says(old, f"answers {text.share(10_000 - release.share)} of users")


def gets(release: Release, unit_header: str = "") -> Says:
    """Who gets the candidate now."""
    by = f"by {unit_header}, always the same ones" if unit_header else "always the same ones"
    match release.state:
        case "pending":
            return Says("Nobody yet", "it is being loaded everywhere first")
        case "shadow":
            return Says("Nobody yet", "it answers copies of requests, which no user sees")
        case "promoted":
            return Says("Everybody", "it is the live version now")
        case "rolled_back":
            return Says("Nobody", f"{text.version(release.baseline.version)} has all the traffic again")
        case "failed":
            return Says("Nobody", "it never began")
        case "baking":
            return Says("Everybody", f"on trial; {text.version(release.baseline.version)} stays loaded")
    if release.share == 0:
        return Says("Nobody", "it has no traffic")
    if release.share == 10_000:
        return Says("Everybody", f"on trial; {text.version(release.baseline.version)} stays loaded")
    return Says(f"{text.share(release.share)} of users", by)


def gets_without_release(endpoint: EndpointFigures, unit_header: str = "") -> Says:
    """Who gets what beside the baseline where no release is open."""
    others = [split for split in endpoint.splits[1:] if split.role != "warm"]
    if not others:
        warm = [split for split in endpoint.splits if split.role == "warm"]
        kept = f"{text.version(warm[0].version)} is kept loaded, to return at once" if warm else "no release is open"
        return Says("No candidate", kept)
    if endpoint.experiment:
        arms = ", ".join(f"{split.variant} {text.share(split.share)}" for split in others)
        return Says("An experiment", f"{endpoint.experiment}: {arms}")
    split = others[0]
    if split.shadow:
        return Says("Nobody", f"{text.version(split.version)} answers copies, as the configuration says")
    by = f"by {unit_header}, " if unit_header else ""
    return Says(f"{text.share(split.share)} of users", f"{by}as the configuration says")


def why_label(state: State) -> str:
    """The heading over the reason."""
    labels: dict[State, str] = {
        "promoted": "Why it was promoted",
        "rolled_back": "Why it was rolled back",
        "failed": "Why it failed",
        "paused": "Why it is paused",
    }
    return labels.get(state, "Why it has not been promoted yet")


def why(release: Release) -> str:
    """Why it stands where it stands, in one or two sentences."""
    if release.state in OPEN:
        parts = [text.sentence(release.waiting)] if release.waiting else []
        if release.state in ("paused", "inconclusive") and release.reason and release.reason != release.waiting:
            parts.insert(0, text.sentence(release.reason))
        return " ".join(parts) or "Nothing is in its way; the next step comes at the next look."
    return text.sentence(release.reason) or "No reason was kept."


def stage(release: Release) -> str:
    """Where it stands: Step 2 of 5."""
    phase = release.phase
    if phase == "ramping" and release.step >= 0:
        return f"step {release.step + 1} of {len(shares(release.plan))}"
    return {"pending": "loading", "shadow": "shadow", "baking": "baking"}.get(phase, text.words(phase))


def next_candidate(endpoint: EndpointFigures) -> str:
    """Where to find a version to release next, for the command that a page shows."""
    name = (endpoint.baseline.model if endpoint.baseline else "") or endpoint.name
    return f"models:/{name}/VERSION"


def last(release: Release) -> str:
    """What became of the newest release that has ended."""
    became = {"promoted": "was promoted", "rolled_back": "was rolled back", "failed": "could not begin"}
    return f"{text.version(release.candidate.version)} {became.get(release.state, text.words(release.state))}"


def urgent(endpoint: EndpointFigures) -> int:
    """The order of endpoints: what needs a person, what moves, the rest."""
    if endpoint.health in ("down", "degraded"):
        return 0
    if endpoint.release is not None:
        return 1 if endpoint.release.state in ("paused", "inconclusive") else 2
    return 3


class Knob(NamedTuple):
    """One stop on the way from loading to promotion."""

    name: str
    below: str
    mark: str
    """done, now, held, stop, or empty for what is to come."""


def steps(release: Release) -> list[Knob]:
    """The way of a release and where it stands on it."""
    way: list[tuple[str, str]] = [("Load", "every instance")]
    if release.plan.shadow is not None:
        way.append(("Shadow", "copies"))
    first = len(way)
    way += [(text.share(share), "") for share in shares(release.plan)]
    if release.plan.bake_seconds:
        way.append(("Bake", text.duration(release.plan.bake_seconds)))
    way.append(("Promoted", ""))
    last = len(way) - 1
    at = {"pending": 0, "shadow": 1, "baking": last - 1, "promoted": last}.get(release.phase)
    if at is None:
        at = first + release.step if release.step >= 0 else min(first - 1, 1 if release.sides.get("shadow") else 0)
    if release.state == "promoted":
        at = last + 1
    marks = {"paused": "held", "inconclusive": "held", "rolled_back": "stop", "failed": "stop"}
    mark = marks.get(release.state, "now")
    return [Knob(name, below, "done" if i < at else mark if i == at else "") for i, (name, below) in enumerate(way)]


class Need(NamedTuple):
    """Something that the current stage needs; ``fraction`` of it is there."""

    name: str
    has: str
    fraction: float
    met: bool


def needs(release: Release, requests: int | None) -> list[Need]:
    """What the stage in force still needs before the next one. ``requests``: the candidate's in this step, if known."""
    if not release.open or not release.since:
        return []
    plan = release.plan
    if release.phase == "baking":
        return [_time("Time on trial", release.busy, plan.bake_seconds)]
    found: list[Need] = []
    if release.phase == "shadow" and plan.shadow is not None:
        seen = release.sides["shadow"].requests if "shadow" in release.sides else 0
        found.append(_count("Copies answered", seen, plan.shadow.min_requests))
        agreed = agreement(release)
        if plan.shadow.min_agreement and agreed is not None:
            have, want = text.percent(agreed), text.percent(plan.shadow.min_agreement)
            enough = agreed >= plan.shadow.min_agreement
            found.append(Need("Agreement", f"{have} of {want}", agreed / plan.shadow.min_agreement, enough))
        return found
    if release.phase != "ramping":
        return []
    if requests is not None:
        found.append(_count("Requests in this step", requests, plan.step.min_requests))
    found.append(_time("Time with traffic", release.busy, plan.step.min_seconds))
    judged = judging(release.verdicts)
    settled = [verdict for verdict in judged if verdict.outcome == "pass"]
    if judged:
        total = len(judged)
        found.append(
            Need("Guardrails passed", f"{len(settled)} of {total}", len(settled) / total, len(settled) == total)
        )
    return found


def agreement(release: Release) -> float | None:
    """Share of copies that the candidate answered as the baseline did."""
    side = release.sides.get("shadow")
    if side is None:
        return None
    agree, differ = side.outcomes.get("agree", 0), side.outcomes.get("differ", 0)
    failed = side.outcomes.get("failed", 0)
    total = agree + differ + failed
    return agree / total if total else None


def _count(name: str, has: int, wants: int) -> Need:
    return Need(name, f"{text.number(min(has, wants))} of {text.number(wants)}", has / max(1, wants), has >= wants)


def _time(name: str, has: float, wants: float) -> Need:
    written = f"{text.duration(round(min(has, wants)))} of {text.duration(wants)}"
    return Need(name, written, has / wants if wants else 1.0, has >= wants)


ACTIONS: dict[str, tuple[State, ...]] = {
    "pause": ("pending", "shadow", "ramping", "baking"),
    "resume": ("paused", "inconclusive"),
    "promote": OPEN,
    "rollback": OPEN,
}


def actions(release: Release, now: float) -> list[str]:
    """What a person may ask of it now."""
    found = [name for name, states in ACTIONS.items() if release.state in states]
    if not release.loaded and "promote" in found:
        found.remove("promote")
    if release.state == "promoted" and release.warm_until > now:
        found.append("rollback")
    return found


def judging(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Those about the candidate. The check of the split is about the router: only its alarm counts beside them."""
    return [verdict for verdict in verdicts if verdict.guardrail != SPLIT or verdict.outcome == "fail"]


def counted(verdicts: Sequence[Verdict]) -> str:
    """2 passed, 1 undecided: the verdicts in one line."""
    verdicts = judging(verdicts)
    names = {"pass": "passed", "fail": "failed", "undecided": "undecided", "no_data": "without data"}
    tally = {outcome: sum(verdict.outcome == outcome for verdict in verdicts) for outcome in names}
    return ", ".join(f"{count} {names[outcome]}" for outcome, count in tally.items() if count)


def role_words(split: Split) -> str:
    return {"baseline": "live", "warm": "kept loaded", "arm": "arm"}.get(split.role, split.role)


def about(alert: Alert) -> str:
    """What an alert is about, in a few words: age, missing in age, accuracy."""
    if alert.source != "quality":
        return alert.column or text.words(alert.statistic)
    return text.words(alert.statistic) + (f" in {alert.column}" if alert.column else "")


JOBS = {
    "batch": "Batch prediction", "report": "Report", "train": "Training", "retrain": "Retraining", "notify": "Notification",
    "dvc-pull": "Data from DVC", "dvc-push": "Data to DVC",
}  # fmt: skip


def job(kind: str) -> str:
    """What a kind of job does."""
    return JOBS.get(kind, text.words(kind).capitalize())


def judged(found: Finding) -> Outcome:
    """Beyond its bound is not broken yet: few rows may be so by chance."""
    if found.broken:
        return "fail"
    beyond = found.value < found.bound if found.check == "volume" else found.value > found.bound
    return "undecided" if beyond else "pass"


MEASURES = {
    "psi": "The population stability index", "ks": "The Kolmogorov-Smirnov distance", "js": "The Jensen-Shannon distance",
    "wasserstein": "The Wasserstein distance", "chi2": "Chi-square", "linf": "The largest difference of shares",
}  # fmt: skip


def measure(method: str) -> str:
    """The full name of a measure of drift, at the beginning of a sentence."""
    return MEASURES.get(method, method)


def times_even(log10: float) -> str:
    """The threshold of an e-value, in words."""
    return f"{text.number(round(10**log10))}{text.THIN}:{text.THIN}1"
