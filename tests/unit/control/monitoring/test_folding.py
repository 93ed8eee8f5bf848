"""New predictions into windows."""

from __future__ import annotations

import msgspec
import numpy as np

from tidegate.control.monitoring.folding import MOST_ROWS, Reference, fold, parts_of
from tidegate.control.monitoring.profiles import digest, make_profile
from tidegate.observations import PredictionEvent

PROFILE = make_profile({"x": np.arange(100.0)})
REFERENCE = Reference("usual", digest(PROFILE), PROFILE)


def event(number: int, rows: int, names: tuple[str, ...] = ("x",)) -> PredictionEvent:
    inputs = msgspec.json.encode({name: [number % 100] * rows for name in names})
    return PredictionEvent(
        request_id=str(number), process="p", endpoint="iris", variant="baseline", version="1", snapshot=1, time=10.0,
        rows=rows, inputs=inputs, outputs=b"{}",
    )  # fmt: skip


def test_parts_have_few_rows_and_all_events_in_order() -> None:
    """One event with a thousand columns beside others with millions of rows was more than the memory of the machine."""
    events = [event(number, rows) for number, rows in enumerate((5, 5, 1, 30, 4, 4, 4))]
    parts = list(parts_of(events, 10))
    assert [[one.rows for one in part] for part in parts] == [[5, 5], [1], [30], [4, 4], [4]]
    assert [one for part in parts for one in part] == events
    assert list(parts_of([])) == []


def test_a_window_of_several_parts_has_all_rows_once() -> None:
    wide = tuple(f"c{number}" for number in range(1500))
    events = [event(number, MOST_ROWS // 3) for number in range(7)]
    found = fold([*events, event(7, 1, wide)], 60.0, lambda _: REFERENCE, lambda _: None, lambda _: False)
    (window,) = found.windows.values()
    assert (window.rows, window.columns["x"].rows, window.columns["x"].missing) == (7 * (MOST_ROWS // 3) + 1,) * 2 + (
        1,
    )
    assert (found.read, found.unreadable) == (window.rows, 0)
