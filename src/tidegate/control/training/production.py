"""Labelled rows of production: what was asked, and what turned out to be true.

A row counts once, however often its request was sent, and only when somebody sent the truth about it: a label that names no
row is about the only one, and says nothing where there were several. The newest rows are held out, and of these none
that the champion was trained on. No row is trained on that is held out, nor one with the same features or of the same unit
as one that is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import accumulate, groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from tidegate.control.monitoring.rows import Table, table_of
from tidegate.control.monitoring.rows import joined as joined_tables
from tidegate.control.training import rows
from tidegate.control.training.config import Checks, Column, Split, TrainingConfig
from tidegate.control.training.result import Rows
from tidegate.control.training.rows import Checked
from tidegate.control.training.sources import lines_of
from tidegate.control.training.split import Halves, ordered, refuse_small
from tidegate.observations import PredictionEvent, label_of
from tidegate.storage.base import in_parts
from tidegate.storage.store import Store

if TYPE_CHECKING:
    import pandas

MOST_ROWS = 200_000
"""The newest ones; what is older says less about now."""
AT_ONCE = 100
"""Requests whose inputs are read together: of each row that has a label there may be thousands without."""
TIME, UNIT = "__time__", "__unit__"

Told = Sequence[tuple[str, int, Any]]
"""The request, the row, and what is true of it."""


class Production(msgspec.Struct, frozen=True, kw_only=True):
    """``frame``: inputs by name, the target as it was sent, ``TIME`` and ``UNIT``. ``predictions``: sampled rows of the same
    time, with a label or without. ``unseen``: the champion was trained on none of those made then or later."""

    frame: Any
    predictions: int
    unseen: float = 0.0

    @property
    def without_label(self) -> int:
        return max(self.predictions - len(self.frame), 0)


def labelled(
    store: Store,
    endpoint: str,
    metric: str,
    target: str,
    names: Mapping[str, Sequence[str]],
    since: float,
    until: float,
) -> Production:
    """Predictions made in [since, until) that have a label. ``names``: of the columns of matrices, by input."""
    import pandas

    with store.read() as unit:
        truths = (
            (one.event.request_id, one.row, truth)
            for one in unit.feedback.labels(endpoint, metric, since, until)
            if one.row is not None and (truth := _truth(one.feedback.label, one.feedback.value)) is not None
        )
        newest = deque(truths, MOST_ROWS)
        requests = [(name, [*told]) for name, told in groupby(newest, itemgetter(0))]
        parts = []
        for part in in_parts(requests, AT_ONCE):
            events = unit.events.by_request_ids([name for name, _ in part], endpoint)
            parts.append(_rows([(events[name], told) for name, told in part], names, target))
        predictions = sum(unit.events.made(endpoint, since, until).values())
    return Production(frame=pandas.DataFrame(joined_tables(parts)), predictions=predictions)


def _rows(asked: Sequence[tuple[PredictionEvent, Told]], names: Mapping[str, Sequence[str]], target: str) -> Table:
    """Of some requests, the rows that have a label and can be read."""
    table = table_of([event for event, _ in asked], names)
    if table.unreadable:
        asked = [(event, told) for event, told in asked if not table_of([event], names).unreadable]
        table = table_of([event for event, _ in asked], names)
    first = accumulate((event.rows for event, _ in asked), initial=0)
    found = [
        (event, begin + row, truth)
        for (event, told), begin in zip(asked, first, strict=False)
        for _, row, truth in told
    ]
    given: dict[str, list[Any]] = {  # first, since a table has only so many columns
        TIME: [event.time for event, _, _ in found],
        UNIT: [event.unit or event.request_id for event, _, _ in found],
        target: [truth for _, _, truth in found],
    }
    return given | {
        name: [values[place] for _, place, _ in found]
        for name, values in table.items()
        if name not in given and name not in ("prediction", "score")
    }


def _truth(label: str | None, value: float | None) -> Any:
    return label if label is not None else None if value is None else label_of(value)


def joined(
    halves: Halves, counts: Rows, production: Production, checked: Checked, config: TrainingConfig
) -> tuple[Halves, Rows, Checked]:
    """Older rows of production beside the table's to train on; the newest are the hold-out, with the table's own where they
    are fewer than ``gate.min_rows``. Rows that the schema does not take are set aside. Raises UserError."""
    import pandas

    counts = msgspec.structs.replace(counts, without_label=production.without_label)
    if production.frame.empty:
        return halves, counts, checked
    found = _checked(production, checked, config)
    frame = ordered(found.frame)
    times = frame[TIME].to_numpy(float)
    since = float(np.sort(times)[len(times) - max(round(config.split.test * len(times)), 1)])
    since = max(since, production.unseen)  # labels of old predictions that came late would put it back
    newest, older = frame[times >= since], frame[times < since]
    enough = len(newest) >= config.gate.min_rows
    both = pandas.concat([halves.test, newest])
    test = newest if enough else both
    known = _keys(both, checked, config)  # the table's hold-out stays unseen, for those who are compared on it later
    begin = since if enough else min(since, halves.since)
    keeping = [~(_shares(part, known, checked, config) | _held(part, begin, config)) for part in (halves.train, older)]
    kept = [part[mask] for part, mask in zip((halves.train, older), keeping, strict=True)]
    train = pandas.concat(kept)
    excluded = sum(int((~mask).sum()) for mask in keeping) + (len(halves.test) if enough else 0)
    result = Halves(train=train, test=test, excluded=halves.excluded + excluded, since=since)
    refuse_small(result, config)
    counts = msgspec.structs.replace(
        counts,
        rejected=counts.rejected + len({one.row for one in found.rejected}),
        excluded=result.excluded,
        train=len(train),
        test=len(test),
        production=len(frame),
        production_train=len(kept[1]),
        production_test=len(newest),
    )
    missing = pandas.concat([train, test])[list(checked.features)].isna().any()
    gaps = frozenset(str(name) for name in missing.index[missing])
    return result, counts, msgspec.structs.replace(checked, may_miss=gaps)


def _checked(production: Production, checked: Checked, config: TrainingConfig) -> Checked:
    """The rows as the table's schema wants them. Each bad one is set aside; however many, production goes on."""
    schema = {
        name: config.schema.get(name) or Column(type=checked.types[name], missing=1.0) for name in checked.features
    }
    schema[config.target] = config.schema.get(config.target) or Column(type=checked.types[config.target])
    relaxed = {
        name: msgspec.structs.replace(column, missing=1.0 if column.missing > 0 else 0.0)
        for name, column in schema.items()
    }
    plan = msgspec.structs.replace(
        config,
        schema=relaxed,
        split=Split(time=TIME, unit=UNIT),
        checks=Checks(max_bad=1.0),
        features=msgspec.structs.replace(config.features, drop=()),
    )
    frame = production.frame
    frame.index = range(1, len(frame) + 1)
    found = rows.check(frame, plan)
    extra = {name: found.frame[given] for name, given in ((config.split.time, TIME), (config.split.unit, UNIT)) if name}
    return msgspec.structs.replace(found, frame=found.frame.assign(**extra))


def _keys(frame: pandas.DataFrame, checked: Checked, config: TrainingConfig) -> frozenset[str]:
    return frozenset(key for keys in _by_row(frame, checked, config) for key in keys)


def _shares(frame: pandas.DataFrame, known: frozenset[str], checked: Checked, config: TrainingConfig) -> Any:
    """Rows with the features, or of the unit, of one that is held out."""
    flags = np.zeros(len(frame), bool)
    for keys in _by_row(frame, checked, config):
        flags |= np.fromiter((key in known for key in keys), bool, len(frame))
    return flags


def _held(frame: pandas.DataFrame, begin: float, config: TrainingConfig) -> Any:
    """Of a split by time, rows from when the hold-out begins, wherever they came from."""
    if config.split.by != "time":
        return np.zeros(len(frame), bool)
    return frame[config.split.time].to_numpy(float) >= begin


def _by_row(frame: pandas.DataFrame, checked: Checked, config: TrainingConfig) -> list[list[str]]:
    keys = [[f"row {line}" for line in lines_of(frame[list(checked.features)])]]
    unit = config.split.unit if config.split.unit in frame.columns else UNIT
    if unit in frame.columns:
        keys.append([f"unit {value}" for value in frame[unit]])
    return keys
