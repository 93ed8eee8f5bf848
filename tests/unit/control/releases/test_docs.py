"""The page about the release machine says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from tests.unit.control.releases.cases import everything
from tidegate.control.releases.events import EVENTS
from tidegate.control.releases.machine import STATES

PAGE = (Path(__file__).resolve().parents[4] / "docs" / "design" / "releases.md").read_text("utf-8")


def test_the_table_is_the_machine() -> None:
    rows = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith(("| **", "| state"))]
    head, *body = rows
    events = [name.strip("`") for name in head[1:]]
    assert events == [kind.__name__ for kind in EVENTS]
    assert [row[0].strip("*") for row in body] == list(STATES)
    written = {}
    for state, *cells in body:
        name = state.strip("*")
        for event, cell in zip(events, cells, strict=True):
            found = set() if cell == "refused" else set(cell.split(", "))
            written[name, event] = {name if one == "stays" else one for one in found}
    assert written == everything()


def test_the_drawing_is_the_machine() -> None:
    drawn = {
        (before, after, event)
        for before, after, events in re.findall(r"^    (\w+) --> (\w+): (.+)$", PAGE, re.MULTILINE)
        for event in events.split(", ")
    }
    moves = {
        (before, after, event) for (before, event), found in everything().items() for after in found if after != before
    }
    assert drawn == moves
