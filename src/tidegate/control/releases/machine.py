"""The release machine: a pure table from (state, event) to (state, instructions). docs/design/releases.md tells it.

Nothing here reads a clock, a store or a network: the same events give the same release, so that every decision can be
recomputed from what was stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn, get_args

from msgspec.structs import replace

from tidegate.control.releases import gates
from tidegate.control.releases.counted import FULL
from tidegate.control.releases.events import (
    EVENTS,
    Acknowledged,
    Act,
    AliasMoved,
    BaselineMoved,
    Change,
    Happened,
    InstanceLost,
    Instruction,
    LoadRefused,
    Looked,
    MoveAlias,
    Pause,
    Promote,
    Publish,
    Record,
    Resume,
    Rollback,
    Superseded,
)
from tidegate.control.releases.release import Release, State
from tidegate.errors import UserError

STATES: tuple[State, ...] = get_args(State)
Handler = Callable[[Release, Any], "Transition"]
TRAIL = 20
LONGEST_LOOK = 10.0
"""Seconds that one look may add to a step, so that a jump of the clock or a long absence does not end it."""


class IllegalTransition(UserError):
    """What was asked for cannot be done in this state; the text has the states that the release went through."""

    def __init__(self, release: Release, event: str, why: str) -> None:
        path = " → ".join((*release.trail, release.state))
        super().__init__(f"release {release.id} is {release.state} ({path}): {why}")
        self.state = release.state
        self.event = event
        self.history = (*release.trail, release.state)


class Transition(NamedTuple):
    release: Release
    instructions: tuple[Instruction, ...] = ()


def advance(release: Release, event: Happened) -> Transition:
    """The next release, one revision on, and what is to be done. Raises IllegalTransition."""
    moved = TABLE[release.state, type(event)](release, event)
    after = replace(moved.release, revision=release.revision + 1, changed=event.now)
    if after.state != release.state:
        after = replace(after, trail=(*release.trail, release.state)[-TRAIL:])
    return Transition(after, moved.instructions)


def _loaded(release: Release, event: Acknowledged) -> Transition:
    """Only now, with the candidate loaded everywhere, may it get copies or a share."""
    ready = replace(release, loaded=True, effect_seconds=event.seconds)
    if release.plan.shadow is not None:
        text = "every instance has loaded the candidate; it gets copies"
        return _enter(ready, "shadow", -1, text, event.now)
    return _enter(ready, "ramping", 0, "every instance has loaded the candidate", event.now)


def _in_force(release: Release, event: Acknowledged) -> Transition:
    """The step counts from here."""
    after = replace(
        release,
        effect_seconds=event.seconds,
        since=release.since or event.now,
        looked=event.now,
        loaded=release.loaded or release.phase == "pending",
    )
    text = f"{gates.named(release)} in force everywhere after {event.seconds:.2f} s"
    return Transition(after, (Record("in_force", text),))


def _ended_in_force(release: Release, event: Acknowledged) -> Transition:
    text = f"in force everywhere after {event.seconds:.2f} s"
    waiting = release.waiting if release.alias_pending else ""
    return Transition(replace(release, effect_seconds=event.seconds, waiting=waiting), (Record("in_force", text),))


def _cannot_begin(release: Release, event: LoadRefused) -> Transition:
    return _withdraw(release, f"{event.instance} cannot load the candidate: {event.error}", event.now)


def _refused_midway(release: Release, event: LoadRefused) -> Transition:
    if release.phase == "pending":
        return _cannot_begin(release, event)
    return _return(release, f"{event.instance} cannot load the candidate: {event.error}", event.now)


def _refused_afterwards(release: Release, event: LoadRefused) -> Transition:
    text = f"{event.instance} keeps the version before: {event.error}"
    return Transition(replace(release, waiting=text), (Record("refused", text),))


def _look_while_loading(release: Release, event: Looked) -> Transition:
    return Transition(replace(release, looked=event.now, waiting=gates.waits_for_loading(release, event)))


def _look(release: Release, event: Looked) -> Transition:
    """A step that runs: roll back, stop, wait or go on."""
    seen = _seen(release, event)
    if (moved := _stopped_by(seen, event)) is not None:
        return moved
    if not seen.since:
        waiting = gates.waits_for_loading(seen, event)
        return Transition(replace(seen, waiting=waiting, ahead=event.requests))
    gate = gates.gate(seen, event)
    if gate.decision == "fail":
        return _return(seen, gate.text, event.now)
    if gate.decision == "late":
        return _late(seen, event, gate.text)
    if gate.decision == "go":
        return _next(seen, gate.text, event.now)
    return Transition(replace(seen, waiting=gate.text))


def _look_while_stopped(release: Release, event: Looked) -> Transition:
    """Users still get the candidate, so that a failing guardrail returns them to the old version here too."""
    ahead = release.ahead if release.since else event.requests
    seen = replace(_seen(release, event), busy=release.busy, ahead=ahead)
    failed = gates.failing(event.verdicts)
    if failed is not None and release.phase != "pending":
        return _return(seen, failed.reason, event.now)
    return Transition(seen)


def _look_at_promoted(release: Release, event: Looked) -> Transition:
    if release.warm_until and event.now >= release.warm_until:
        text = "the old version is not kept warm any longer"
        return _publishing(replace(release, warm_until=0.0), "retire", text, Record("retired", text))
    return Transition(replace(release, looked=event.now))


def _look_at_ended(release: Release, event: Looked) -> Transition:
    return Transition(replace(release, looked=event.now))


def _pause(release: Release, event: Act) -> Transition:
    text = event.reason or "paused by a person"
    return _stop(release, "paused", text, f"paused by {event.who}: the share stays until it is resumed", event.who)


def _resume(release: Release, event: Act) -> Transition:
    """Goes on where it stopped. What a person resumes past a broken split does not stop it again."""
    accepted = release.accepted
    if gates.broken_split(release.verdicts) is not None and gates.SPLIT not in accepted:
        accepted = (*accepted, gates.SPLIT)
    loading = release.phase == "pending"
    after = replace(
        release,
        state=release.resumes,
        reason=event.reason,
        waiting=f"{gates.named(release)}: resumed",
        looked=event.now,
        busy=0.0 if release.state == "inconclusive" else release.busy,
        since=0.0 if loading else release.since,
        effect_seconds=0.0 if loading else release.effect_seconds,
        accepted=accepted,
    )
    return Transition(after, (Record("resumed", event.reason or "resumed by a person", event.who),))


def _promote_by_hand(release: Release, event: Act) -> Transition:
    if not release.loaded:
        why = "not every instance has loaded the candidate; it cannot be promoted yet"
        raise IllegalTransition(release, type(event).__name__, why)
    return _promoted(release, event.reason or f"promoted by {event.who}", event.now, event.who)


def _roll_back_by_hand(release: Release, event: Act) -> Transition:
    return _return(release, event.reason or f"rolled back by {event.who}", event.now, event.who)


def _roll_back_promoted(release: Release, event: Act) -> Transition:
    """The old version is still loaded, so that this is one publication too."""
    if event.now >= release.warm_until:
        why = "the old version is not kept warm any longer; start a release of it instead"
        raise IllegalTransition(release, type(event).__name__, why)
    return _return(release, event.reason or f"rolled back by {event.who}", event.now, event.who)


def _baseline_moved(release: Release, event: BaselineMoved) -> Transition:
    """What the candidate was compared with is gone; the new baseline stays."""
    return _withdraw(release, f"the baseline was changed by somebody else: {event.reason}", event.now)


def _champion_moved(release: Release, event: BaselineMoved) -> Transition:
    text = f"another version took over: {event.reason}"
    return Transition(replace(release, warm_until=0.0), (Record("superseded", text),))


def _alias_moved(release: Release, event: AliasMoved) -> Transition:
    if event.error:
        return Transition(replace(release, waiting=f"the alias {release.alias} is not moved yet: {event.error}"))
    if event.version != release.alias_version:  # an answer to an earlier wish
        return Transition(release)
    after, name = replace(release, alias_pending=False, waiting=""), f"{release.candidate.name}@{release.alias}"
    if event.left:
        text = f"{name} stays at version {event.left}, where somebody else moved it; it is not moved back"
        return Transition(after, (Record("alias_left", text),))
    return Transition(after, (Record("alias_moved", f"{name} is version {event.version}"),))


def _lost(release: Release, event: InstanceLost) -> Transition:
    text = f"instance {event.instance} is gone, {event.live} are left"
    return Transition(release, (Record("instance_lost", text),))


def _superseded(release: Release, event: Superseded) -> Transition:
    newer = f"experiment {event.experiment}" if event.experiment else f"release {event.release}"
    text = f"{newer} began; the old version is not kept warm any longer"
    return Transition(replace(release, warm_until=0.0), (Record("superseded", text),))


def _stopped_by(release: Release, event: Looked) -> Transition | None:
    failed = gates.failing(event.verdicts)
    if failed is not None:
        return _return(release, failed.reason, event.now)
    broken = gates.broken_split(event.verdicts)
    if broken is not None and gates.SPLIT not in release.accepted:
        text = f"the split is broken, so that no comparison holds: {broken.reason}"
        return _stop(release, "paused", text, text)
    return None


def _seen(release: Release, event: Looked) -> Release:
    """Takes up what the look shows, and counts the time since the last one if there was traffic."""
    passed = min(max(event.now - (release.looked or event.now), 0.0), LONGEST_LOOK)
    counts = release.since > 0 and not gates.silent(release, event)
    return replace(
        release,
        looked=event.now,
        busy=release.busy + passed if counts else release.busy,
        verdicts=event.verdicts,
        sides=event.sides,
    )


def _next(release: Release, text: str, now: float) -> Transition:
    """The step has ended well."""
    if release.phase == "baking":
        return _promoted(release, text, now)
    if release.phase == "shadow":
        return _enter(release, "ramping", 0, text, now)
    if release.step >= gates.gate_of(release.plan):
        return _enter(release, "baking", len(gates.shares(release.plan)) - 1, text, now)
    return _enter(release, "ramping", release.step + 1, text, now)


def _late(release: Release, event: Looked, text: str) -> Transition:
    """What a guardrail has not seen is never passed by default."""
    wish = release.plan.on_inconclusive
    if wish == "rollback":
        return _return(release, f"inconclusive: {text}", event.now)
    if wish == "promote" and not gates.blind(event.verdicts, release.plan):
        return _next(release, f"inconclusive, and the plan says to go on: {text}", event.now)
    return _stop(release, "inconclusive", text, f"{text}; the share stays until a person decides")


def _enter(release: Release, state: State, step: int, text: str, now: float) -> Transition:
    """Publishes the next share; the step counts once it is in force everywhere."""
    share = 0 if state == "shadow" else gates.shares(release.plan)[step]
    after = replace(
        release, state=state, resumes=state, step=step, share=share, since=0.0, busy=0.0, ahead=0, looked=now
    )
    after = replace(after, waiting=f"{gates.named(after)}: published, and not in force everywhere yet")
    return _publishing(after, "split", text, Record("stepped", f"{gates.named(after)}: {text}"))


def _promoted(release: Release, text: str, now: float, who: str = "") -> Transition:
    after = replace(
        release,
        state="promoted",
        share=FULL,
        reason=text,
        waiting="",
        since=now,
        warm_until=now + release.plan.keep_warm_seconds if release.plan.keep_warm_seconds else 0.0,
    )
    return _publishing(after, "promote", text, Record("promoted", text, who), release.candidate.version)


def _keep(release: Release, _: Happened) -> Transition:
    return Transition(release)


def _return(release: Release, text: str, now: float, who: str = "") -> Transition:
    """The old baseline has everything again, by one publication."""
    after = replace(
        release,
        state="rolled_back",
        share=0,
        reason=text,
        waiting="",
        since=now,
        warm_until=0.0,
        alias_pending=False,  # what the promotion wished is void
    )
    return _publishing(after, "return", text, Record("rolled_back", text, who), _alias_before(release))


def _withdraw(release: Release, text: str, now: float) -> Transition:
    after = replace(release, state="failed", share=0, reason=text, waiting="", since=now)
    return _publishing(after, "withdraw", text, Record("failed", text), _alias_before(release))


def _stop(release: Release, state: State, reason: str, waiting: str, who: str = "") -> Transition:
    after = replace(release, state=state, resumes=release.phase, reason=reason, waiting=waiting)
    return Transition(after, (Record(state, reason, who),))


def _publishing(release: Release, change: Change, text: str, record: Record, version: str = "") -> Transition:
    """``version``: where the alias has to point afterwards; empty where it stays."""
    after = replace(release, effect_seconds=0.0)
    if not version or not release.alias:
        return Transition(after, (Publish(change, text), record))
    after = replace(after, alias_pending=True, alias_version=version)
    return Transition(after, (Publish(change, text), MoveAlias(release.candidate.name, release.alias, version), record))


def _alias_before(release: Release) -> str:
    """The alias goes back if it was moved, by the promotion or by whoever asked for the release."""
    moved = release.state == "promoted" or release.requested_by in ("alias", "webhook")
    return release.baseline.version if moved and release.baseline.name == release.candidate.name else ""


def _illegal(why: str) -> Handler:
    def refuse(release: Release, event: Happened) -> NoReturn:
        raise IllegalTransition(release, type(event).__name__, why)

    return refuse


_OVER = "it has ended; start a new release instead"
_RUNS = "it is not paused"
_NO_ALIAS = "no alias is moved before a release has ended"
_CURRENT = "a newer release cannot begin while this one is open"

_STEP: Mapping[type[Happened], Handler] = {
    Acknowledged: _in_force,
    LoadRefused: _refused_midway,
    Looked: _look,
    Pause: _pause,
    Resume: _illegal(_RUNS),
    Promote: _promote_by_hand,
    Rollback: _roll_back_by_hand,
    BaselineMoved: _baseline_moved,
    AliasMoved: _illegal(_NO_ALIAS),
    InstanceLost: _lost,
    Superseded: _illegal(_CURRENT),
}
_STOPPED: Mapping[type[Happened], Handler] = {
    **_STEP,
    Looked: _look_while_stopped,
    Resume: _resume,
}
_ENDED: Mapping[type[Happened], Handler] = {
    Acknowledged: _ended_in_force,
    LoadRefused: _refused_afterwards,
    Looked: _look_at_ended,
    Pause: _illegal(_OVER),
    Resume: _illegal(_OVER),
    Promote: _illegal(_OVER),
    Rollback: _illegal(_OVER),
    BaselineMoved: _keep,
    AliasMoved: _alias_moved,
    InstanceLost: _keep,
    Superseded: _keep,
}
_ROWS: Mapping[State, Mapping[type[Happened], Handler]] = {
    "pending": {**_STEP, Acknowledged: _loaded, LoadRefused: _cannot_begin, Looked: _look_while_loading},
    "shadow": _STEP,
    "ramping": _STEP,
    "baking": _STEP,
    "paused": {**_STOPPED, Pause: _illegal("it is paused already")},
    "inconclusive": _STOPPED,
    "promoted": {
        **_ENDED,
        Looked: _look_at_promoted,
        Rollback: _roll_back_promoted,
        BaselineMoved: _champion_moved,
        Superseded: _superseded,
    },
    "rolled_back": _ENDED,
    "failed": _ENDED,
}
TABLE: Mapping[tuple[State, type[Happened]], Handler] = {
    (state, event): _ROWS[state][event] for state in STATES for event in EVENTS
}
"""Every pair, those that may not happen too."""
