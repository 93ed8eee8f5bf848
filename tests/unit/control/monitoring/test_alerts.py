"""The state machine of alerts: single paths, and what holds in every history."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.unit.control.monitoring.observed import HOUR, START, an_observation
from tidegate.control.monitoring import alerts
from tidegate.control.monitoring.alerts import Observation, Transition, observe, silence, tick, unsilence, withdraw
from tidegate.control.monitoring.records import Alert
from tidegate.monitor_plan import MonitorPlan
from tidegate.section import seconds_of

PLAN = MonitorPlan(cooldown="0s")


def after(history: Sequence[Observation], plan: MonitorPlan = PLAN) -> tuple[Alert | None, list[Transition]]:
    alert: Alert | None = None
    found = []
    for seen in history:
        alert, transition = observe(alert, seen, plan)
        if transition is not None:
            found.append(transition)
    return alert, found


def of_text(history: str, **fields: Any) -> list[Observation]:
    """A window a letter: b broken, r right."""
    return [an_observation(place, letter == "b", **fields) for place, letter in enumerate(history)]


def state_after(history: str, **plan: Any) -> str:
    alert, _ = after(of_text(history), MonitorPlan(cooldown="0s", **plan))
    return alert.state if alert else "none"


@pytest.mark.parametrize(
    ("history", "pending", "resolve", "state"),
    [
        ("", 0, 1, "none"),
        ("rrr", 0, 1, "none"),
        ("b", 0, 1, "firing"),
        ("b", 1, 1, "pending"),
        ("br", 1, 1, "ok"),
        ("brb", 1, 1, "pending"),
        ("bb", 1, 1, "firing"),
        ("bbr", 1, 1, "resolved"),
        ("bbr", 1, 2, "firing"),
        ("bbrbr", 1, 2, "firing"),
        ("bbrbrr", 1, 2, "resolved"),
        ("bbrb", 1, 1, "pending"),
        ("bbrbr", 1, 1, "resolved"),
        ("bbrbb", 1, 1, "firing"),
        ("brb", 0, 1, "firing"),
    ],
)
def test_states(history: str, pending: int, resolve: int, state: str) -> None:
    assert state_after(history, pending=pending, resolve=resolve) == state


def test_an_alert_carries_what_the_newest_window_said() -> None:
    alert, [fired] = after([an_observation(value=0.3), an_observation(1, value=0.4, report="r-2", rows=7)])
    assert alert is not None
    assert (alert.value, alert.report, alert.rows, alert.window) == (0.4, "r-2", 7, START + HOUR)
    assert (alert.broken, alert.right, alert.fired) == (2, 0, START + HOUR + 5)
    assert fired == Transition("fired", "ok", "firing", START + HOUR + 5, notify=True)
    assert alert.id == alerts.alert_id("churn", "drift:baseline:age") != alerts.alert_id("churn", "drift:baseline:a")


def test_a_window_that_is_not_over_raises_and_does_not_resolve() -> None:
    early = an_observation(complete=False)
    alert, [fired] = after([early])
    assert alert is not None
    assert fired.event == "fired"
    same, nothing = observe(alert, an_observation(1, broken=False, complete=False), PLAN)
    assert (same, nothing) == (alert, None)
    resolved, transition = observe(alert, an_observation(1, broken=False), PLAN)
    assert transition is not None
    assert transition.event == "resolved"
    assert resolved is not None
    assert resolved.resolved == START + 2 * HOUR + 5


def test_the_last_look_at_a_window_is_what_it_counts_as() -> None:
    plan = MonitorPlan(pending=1, cooldown="0s")
    alert, _ = after([an_observation(complete=False), an_observation(broken=False)], plan)
    assert alert is not None
    assert (alert.state, alert.broken, alert.right) == ("ok", 0, 1)


def test_a_window_from_before_says_nothing() -> None:
    alert, _ = after([an_observation(3)])
    assert alert is not None
    assert observe(alert, an_observation(2, broken=False), PLAN) == (alert, None)


def test_another_version_starts_the_streak_anew() -> None:
    plan = MonitorPlan(pending=1, resolve=2, cooldown="0s")
    pending, _ = after([an_observation(0), an_observation(1, version="2")], plan)
    assert pending is not None
    assert (pending.state, pending.broken, pending.version) == ("pending", 1, "2")
    firing, _ = after([*of_text("bbr"), an_observation(3, broken=False, version="2")], plan)
    assert firing is not None
    assert (firing.state, firing.right) == ("firing", 1)


def test_two_notifications_keep_their_distance_and_the_last_word_is_told() -> None:
    plan = MonitorPlan(cooldown="4h")
    alert, found = after(of_text("brb"), plan)
    assert [(one.event, one.notify) for one in found] == [("fired", True), ("resolved", False), ("fired", False)]
    assert alert is not None
    assert tick(alert, START + 5 * HOUR + 5, plan) == (alert, None), "they were told that it fires, and it does"
    alert, _ = observe(alert, an_observation(3, broken=False), plan)
    assert alert is not None
    alert, due = tick(alert, START + 5 * HOUR + 5, plan)
    assert due == Transition("told", "resolved", "resolved", START + 5 * HOUR + 5, notify=True)
    assert tick(alert, START + 99 * HOUR, plan)[1] is None


def test_a_silenced_alert_changes_state_and_speaks_when_the_silence_ends() -> None:
    alert, _ = after(of_text("br"))
    assert alert is not None
    until = START + 9.5 * HOUR
    quiet = silence(alert, until, "ann")
    quiet, fired = _both(observe(quiet, an_observation(2), PLAN))
    assert (fired.event, fired.notify, quiet.state, quiet.silenced_by) == ("fired", False, "firing", "ann")
    assert tick(quiet, until - 1, PLAN) == (quiet, None)
    loud, ended = _both(tick(quiet, until, PLAN))
    assert ended == Transition("silence_over", "firing", "firing", until, notify=True)
    assert (loud.silenced_until, loud.silenced_by, loud.notified) == (0.0, "", until)


def test_a_silence_may_be_ended_early_and_one_of_a_quiet_alert_ends_quietly() -> None:
    firing, _ = after(of_text("b"))
    assert firing is not None
    _, ended = _both(
        tick(unsilence(silence(firing, START + 99 * HOUR, "ann"), START + 4 * HOUR), START + 4 * HOUR, PLAN)
    )
    assert (ended.event, ended.notify) == ("silence_over", True)
    resolved, _ = after(of_text("br"))
    assert resolved is not None
    _, ended = _both(tick(silence(resolved, START + 4 * HOUR, "ann"), START + 5 * HOUR, PLAN))
    assert (ended.event, ended.notify) == ("silence_over", False)


def test_what_is_not_watched_any_more_is_resolved() -> None:
    firing, _ = after(of_text("b"))
    assert firing is not None
    gone, transition = _both(withdraw(firing, START + 9 * HOUR, PLAN, "the variant is gone"))
    assert (gone.state, gone.text, transition.notify) == ("resolved", "the variant is gone", True)
    pending, _ = after(of_text("b"), MonitorPlan(pending=1))
    assert pending is not None
    assert withdraw(pending, START + 9 * HOUR, PLAN, "gone")[0].state == "ok"
    assert withdraw(gone, START + 10 * HOUR, PLAN, "gone again") == (gone, None)


def test_an_illegal_change_of_state_is_a_fault() -> None:
    firing, _ = after(of_text("b"))
    assert firing is not None
    with pytest.raises(alerts.IllegalTransition, match="firing → ok"):
        alerts._settled(firing, "ok", "ok", START, PLAN)


def _both(found: tuple[Alert | None, Transition | None]) -> tuple[Alert, Transition]:
    alert, transition = found
    assert alert is not None
    assert transition is not None
    return alert, transition


# What holds in every history

plans = st.builds(
    MonitorPlan,
    pending=st.integers(0, 3),
    resolve=st.integers(1, 3),
    cooldown=st.sampled_from(["0s", "30m", "1h", "5h"]),
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("look"), st.integers(-1, 1), st.booleans(), st.booleans(), st.sampled_from("112")),
        st.tuples(st.just("tick"), st.integers(0, 3)),
        st.tuples(st.just("silence"), st.integers(0, 4)),
        st.tuples(st.just("unsilence")),
        st.tuples(st.just("withdraw")),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(steps, plans)
def test_every_history_keeps_the_rules(history: list[tuple[Any, ...]], plan: MonitorPlan) -> None:
    now, window = START, 0
    alert: Alert | None = None
    notified: list[float] = []
    for step in history:
        now += 600
        before, transition = alert, None
        match step:
            case ("look", move, broken, complete, version):
                window += move
                seen = an_observation(window, broken, complete=complete, version=version, time=now)
                alert, transition = observe(alert, seen, plan)
                assert observe(alert, seen, plan) == (alert, None), "a window counts once"
                if before is not None and not broken and not complete:
                    assert (alert, transition) == tick(before, now, plan)
            case ("tick", hours):
                now += hours * HOUR
                if alert is not None:
                    alert, transition = tick(alert, now, plan)
                    assert before is not None
                    assert alert.state == before.state
            case ("silence", hours):
                alert = alert and silence(alert, now + hours * HOUR, "ann")
            case ("unsilence",):
                alert = alert and unsilence(alert, now)
            case ("withdraw",):
                if alert is not None:
                    alert, transition = withdraw(alert, now, plan, "gone")
                    assert alert.state in ("ok", "resolved")
        if alert is None:
            continue
        was = before.state if before else "ok"
        assert alert.state == was or (was, alert.state) in alerts.LEGAL
        assert (transition is not None) or alert.state == was
        assert not (alert.broken and alert.right)
        assert (alert.state == "pending") <= (0 < alert.broken <= plan.pending)
        assert (alert.state == "firing") <= (alert.right < plan.resolve)
        if transition is not None and transition.notify:
            assert not alerts.is_silenced(alert, now)
            notified.append(now)
            assert alert.told == alert.state
    assert all(later - one >= seconds_of(plan.cooldown) for one, later in pairwise(notified))
    if alert is not None and not alerts.is_silenced(alert, now):
        alert, _ = tick(alert, now + 9 * HOUR, plan)
        assert alert.state != "firing" or alert.told == "firing", "in the end people know"
        assert alert.state != "resolved" or alert.told != "firing"


@settings(max_examples=100, deadline=None)
@given(st.text("br", max_size=30), st.integers(0, 3), st.integers(1, 3))
def test_it_fires_and_resolves_as_a_plain_reading_of_the_rules_says(history: str, pending: int, resolve: int) -> None:
    firing = False
    for end in range(1, len(history) + 1):
        told = history[:end]
        if told.endswith("b" * (pending + 1)):
            firing = True
        elif told.endswith("r" * resolve):
            firing = False
    assert (state_after(history, pending=pending, resolve=resolve) == "firing") == firing


@given(st.text("br", min_size=1, max_size=20), st.data())
def test_looking_again_and_again_changes_nothing(history: str, data: st.DataObject) -> None:
    once = of_text(history)
    often = [seen for seen in once for _ in range(data.draw(st.integers(1, 3)))]
    assert after(once) == after(often)


def test_the_time_of_a_repeated_look_does_not_matter_for_the_streak() -> None:
    plan = MonitorPlan(pending=2, cooldown="0s")
    seen = an_observation()
    alert, _ = after([seen, replace(seen, time=seen.time + 9), replace(seen, time=seen.time + 99)], plan)
    assert alert is not None
    assert (alert.state, alert.broken) == ("pending", 1)
