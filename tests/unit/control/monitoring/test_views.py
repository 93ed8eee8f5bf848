"""What people see: the state of a monitor, drift over the windows, a window beside its baseline."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from tests.e2e.watched import BEGIN, WINDOW, report, result
from tidegate.control.monitoring import profiles
from tidegate.control.monitoring.comparison import distribution_of, window_of
from tidegate.control.monitoring.folding import Reference
from tidegate.control.monitoring.heat import heat_of
from tidegate.control.monitoring.monitor import STALE_SECONDS, Monitor, Newest, monitor_of
from tidegate.control.monitoring.records import Basis, Finding, Performance
from tidegate.control.monitoring.state import Compared, MonitorState, OpenWindow
from tidegate.errors import NotFound
from tidegate.monitor_plan import MonitorPlan
from tidegate.storage.records import ProfileRow

PLAN = MonitorPlan(every="30s", window="1h")
NOW = BEGIN + WINDOW / 2
STATE = MonitorState(
    looked=NOW - 20, window=WINDOW, read=900, compared=(Compared("baseline", "4", "churn-train", "d"),)
)
NOTHING = Newest(None, None, None)
PROFILE = profiles.make_profile({"age": np.arange(100.0), "plan": ["a", "b"] * 50})
REFERENCE = Reference("usual", profiles.digest(PROFILE), PROFILE)


def performance(basis: Basis, hour: int) -> Performance:
    start = BEGIN + hour * WINDOW
    return Performance(
        endpoint="churn", variant="baseline", version="4", basis=basis, start=start, seconds=WINDOW, labels=80,
        predictions=90, task="classification",
    )  # fmt: skip


def seen(state: MonitorState = STATE, newest: Newest = NOTHING, **more: Any) -> Monitor:
    usual: dict[str, Any] = {"now": NOW, "cursor": 7, "waiting": None, "firing": 0}
    return monitor_of("churn", PLAN, state, [newest] * len(state.compared), **usual | more)


def window_row() -> ProfileRow:
    body = profiles.encode(profiles.fold(PROFILE, None, {"age": np.arange(40.0), "plan": ["a"] * 40})).decode()
    return ProfileRow("churn", "baseline", "4", REFERENCE.digest, BEGIN, WINDOW, 40, body)


def test_an_estimate_is_shown_while_no_labels_are_as_new() -> None:
    measured, estimated = performance("prediction", 3), performance("estimated", 4)
    (shown,) = seen(newest=Newest(None, measured, estimated)).variants
    assert (shown.performance, shown.estimated) == (measured, estimated)
    (shown,) = seen(newest=Newest(None, measured, performance("estimated", 3))).variants
    assert (shown.performance, shown.estimated) == (measured, None)
    (shown,) = seen(newest=Newest(None, None, estimated)).variants
    assert (shown.performance, shown.estimated) == (None, estimated)


def test_a_variant_has_the_rows_of_its_running_window() -> None:
    windows = (("baseline", "4", BEGIN, 30), ("baseline", "3", BEGIN, 5), ("baseline", "4", BEGIN - WINDOW, 800))
    state = replace(STATE, open=tuple(OpenWindow(*one[:2], "d", one[2], rows=one[3]) for one in windows))
    monitor = seen(state)
    assert (monitor.window, [one.rows for one in monitor.variants]) == (BEGIN, [30])


def test_a_variant_has_what_its_newest_report_found() -> None:
    few = Finding(check="missing", column="age", value=0.4, bound=0.1, count=8, rows=20, broken=True)
    findings = (few, replace(few, column="plan", broken=False), replace(few, check="duplicates", column=""))
    newest = report(0, columns=(result("age", 3.0), result("plan", 0.2)), findings=findings, note="few")
    (shown,) = seen(newest=Newest(newest, None, None)).variants
    assert (shown.drifted, shown.broken, shown.said) == (("age",), ("missing: age", "duplicates"), "few")
    assert (shown.start, shown.complete) == (BEGIN, True)


@pytest.mark.parametrize(("waiting", "lag"), [(None, 0.0), (NOW - 90, 90.0), (NOW + 5, 0.0)])
def test_the_lag_is_the_age_of_what_was_not_read(waiting: float | None, lag: float) -> None:
    assert seen(waiting=waiting).lag_seconds == lag


@pytest.mark.parametrize(
    ("state", "note"),
    [
        (STATE, ""),
        (replace(STATE, trouble="the registry is away", looked=0.0), "the last look failed: the registry is away"),
        (replace(STATE, looked=0.0), "nobody has looked yet"),
        (replace(STATE, looked=NOW - STALE_SECONDS - 60), ""),
        (replace(STATE, looked=NOW - STALE_SECONDS - 61), "nobody has looked for 6 minutes: the control plane is away"),
        (replace(STATE, unreadable=400, forced=100), ""),
        (replace(STATE, unreadable=401, forced=100), "401 of 900 rows could not be read"),
        (
            replace(STATE, compared=(Compared("baseline", "4", note="no profile"),)),
            "baseline (version 4) is not watched",
        ),
        (replace(STATE, compared=()), "churn is not served yet"),
    ],
)
def test_what_keeps_a_monitor_from_looking_is_said(state: MonitorState, note: str) -> None:
    said = seen(state).note
    assert note in said
    assert bool(note) == bool(said)


def test_heat_has_a_cell_for_each_column_and_window() -> None:
    windows = [
        report(0, columns=(result("quiet", 0.1), result("often", 1.5))),
        report(1, columns=(replace(result("none", 0.9), threshold=0.0), result("often", 1.5), result("once", 9.0))),
    ]
    heat = heat_of("churn", "baseline", windows)
    assert (heat.starts, heat.seconds, heat.rows) == ((BEGIN, BEGIN + WINDOW), WINDOW, (820, 820))
    assert [row.column for row in heat.columns] == ["often", "once", "quiet", "none"]
    cells = {row.column: row for row in heat.columns}
    assert cells["once"].drifted == (None, True)
    assert cells["once"].ratio[0] is None
    assert cells["once"].ratio[1] == pytest.approx(9.0)
    assert cells["none"].ratio == (None, None)
    assert (cells["none"].drifted, cells["quiet"].method) == ((None, False), ("psi", None))


def test_heat_of_no_window_is_empty() -> None:
    heat = heat_of("churn", "baseline", [])
    assert (heat.seconds, heat.starts, heat.columns) == (0.0, (), ())


def test_a_window_that_was_not_checked_says_so() -> None:
    shown = window_of(window_row(), REFERENCE, None)
    assert (shown.note, shown.complete, shown.drifted, shown.findings) == ("not checked yet", False, False, ())
    assert (shown.rows, shown.reference_rows, [one.now.rows for one in shown.columns]) == (40, 100, [40, 40])
    checked = window_of(window_row(), REFERENCE, report(0, drifted=True, columns=(result("plan", 3.0),)))
    assert (checked.note, checked.complete, checked.drifted) == ("", True, True)
    assert [(one.then.name, one.result is not None) for one in checked.columns] == [("plan", True), ("age", False)]


def test_a_column_has_its_own_result_and_bars() -> None:
    checked = report(0, columns=(result("age", 0.5), result("plan", 3.0)))
    shown = distribution_of(window_row(), REFERENCE, checked, "plan")
    assert shown.result == checked.columns[1]
    assert {bar.label: (bar.then, bar.now) for bar in shown.bars} == {"a": (0.5, 1.0), "b": (0.5, 0.0)}
    assert distribution_of(window_row(), REFERENCE, None, "age").result is None
    with pytest.raises(NotFound, match=r"baseline usual has no column 'wage'; it has age, plan"):
        distribution_of(window_row(), REFERENCE, None, "wage")
