"""A retraining as one line of steps, from what caused it to what became of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote

from tidegate.console import courses, sentences, text
from tidegate.control.monitoring.records import Alert
from tidegate.control.releases.release import Release
from tidegate.control.training.retraining import Outcome, Retraining

DIGITS = 12
"""Of a digest."""


class Fact(NamedTuple):
    """``href`` is an address below the console's root; empty for what has no page."""

    name: str
    value: str
    href: str = ""


class Step(NamedTuple):
    """``mark``: done, now, stop, or empty for what is to come."""

    name: str
    mark: str
    says: str
    facts: list[Fact]
    time: float = 0.0


def chain(retraining: Retraining, alerts: Mapping[str, Alert], release: Release | None) -> list[Step]:
    """Cause, data, training, gate, version, release, outcome."""
    outcome = retraining.outcome
    return [
        _cause(retraining, alerts),
        *([_reports(retraining)] if retraining.reports else []),
        _data(outcome),
        _training(retraining),
        _gate(retraining, outcome),
        _version(retraining, outcome),
        _release(retraining, release),
        _outcome(retraining),
    ]


def _cause(retraining: Retraining, alerts: Mapping[str, Alert]) -> Step:
    name = {"alert": "Alert", "schedule": "Schedule", "person": "Asked for"}[retraining.trigger]
    facts = [
        Fact("alert", _alert(id_, alerts.get(id_)), f"/alerts/{quote(id_, safe='')}" if id_ in alerts else "")
        for id_ in retraining.alerts
    ]
    if retraining.trigger == "person":
        facts.append(Fact("by", text.name_and_id(retraining.author)[0]))
    return Step(name, "done", retraining.reason, [*facts, Fact("mode", retraining.mode)], retraining.created)


def _alert(id_: str, alert: Alert | None) -> str:
    return f"{sentences.about(alert)} of {alert.variant}" if alert else id_


def _reports(retraining: Retraining) -> Step:
    """The checks that found it; the page of the endpoint shows them."""
    there = f"/monitoring/{quote(retraining.endpoint, safe='')}"
    return Step("Drift report", "done", "", [Fact("report", id_, there) for id_ in retraining.reports])


def _data(outcome: Outcome | None) -> Step:
    if outcome is None:
        return Step("Data", "", "", [])
    rows = outcome.rows
    facts = [Fact("trained on", text.plural(rows.train, "row")), Fact("held out", text.plural(rows.test, "row"))]
    if rows.production:
        facts.append(Fact("of production", text.plural(rows.production, "labelled row")))
    if rows.rejected:
        facts.append(Fact("rejected", text.plural(rows.rejected, "row")))
    facts += [
        Fact(origin.kind, origin.place + (f" at {origin.revision[:DIGITS]}" if origin.revision else ""))
        for origin in outcome.origins
    ]
    return Step("Data", "done", "", [*facts, Fact("digest", _digest(outcome.data_digest))])


def _training(retraining: Retraining) -> Step:
    outcome = retraining.outcome
    mark = "done" if outcome else {"queued": "now", "training": "now", "failed": "stop"}.get(retraining.state, "stop")
    facts = [Fact("job", retraining.job, f"/jobs/{quote(retraining.job, safe='')}")] if retraining.job else []
    if outcome is not None:
        found = (("family", outcome.family), ("run", outcome.run_id), ("code", outcome.code_version[:DIGITS]))
        facts += [
            Fact(name, value) for name, value in (*found, ("configuration", _digest(outcome.config_digest))) if value
        ]
    return Step("Training", mark, "" if outcome else last_of(retraining, ("queued", "training", "failed")), facts)


def _gate(retraining: Retraining, outcome: Outcome | None) -> Step:
    if outcome is None:
        return Step("Gate", "", "", [])
    gate = outcome.gate
    facts = [Fact(gate.metric, text.number(gate.challenger)), Fact("on", text.plural(gate.rows, "row"))]
    if gate.champion is not None:
        facts.insert(1, Fact(f"champion {text.version(gate.champion_version)}", text.number(gate.champion)))
    if gate.low is not None and gate.high is not None:
        facts.append(
            Fact("difference", f"{text.number(gate.difference)} ({text.number(gate.low)} to {text.number(gate.high)})")
        )
    return Step("Gate", "done" if gate.accepted else "stop", gate.reason, facts)


def _version(retraining: Retraining, outcome: Outcome | None) -> Step:
    if outcome is None or not outcome.version:
        return Step("Version", "", "None was registered." if outcome is not None else "", [])
    facts = [
        Fact("version", f"{outcome.name} {text.version(outcome.version)}", f"/models/{quote(outcome.name, safe='')}")
    ]
    facts += [Fact(name, courses.written(metric)) for name, metric in list(outcome.metrics.items())[:3]]
    if outcome.compiled:
        facts.append(Fact("compiled", "ONNX"))
    return Step("Version", "done", "", [*facts, Fact("digest", _digest(outcome.model_digest))])


def _release(retraining: Retraining, release: Release | None) -> Step:
    if not retraining.release:
        waits = retraining.state == "accepted"
        return Step("Release", "now" if waits else "", retraining.waiting if waits else "", [])
    state = release.state if release else retraining.state
    mark = {"promoted": "done", "rolled_back": "stop", "failed": "stop"}.get(state, "now")
    facts = [
        Fact("release", retraining.release, f"/releases/{quote(retraining.release, safe='')}"),
        Fact("state", text.words(state)),
    ]
    return Step("Release", mark, (release.waiting or release.reason) if release else "", facts)


def _outcome(retraining: Retraining) -> Step:
    if retraining.open:
        return Step("Outcome", "", "", [])
    mark = "done" if retraining.state == "promoted" else "stop"
    last = retraining.events[-1].text if retraining.events else ""
    return Step(text.words(retraining.state).capitalize(), mark, last, [], retraining.changed)


def last_of(retraining: Retraining, states: Sequence[str]) -> str:
    """What was said last while it was in one of these."""
    return next((event.text for event in reversed(retraining.events) if event.state in states), "")


def _digest(value: str) -> str:
    return value.removeprefix("sha256:")[:DIGITS]
