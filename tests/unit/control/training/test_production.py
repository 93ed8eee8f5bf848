from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas
import pytest

from tests.stores import sqlite_store
from tests.unit.control.training.tables import as_text, churn, config
from tidegate.control.training.production import AT_ONCE, TIME, UNIT, Production, joined, labelled
from tidegate.control.training.result import Rows
from tidegate.control.training.rows import Checked, check
from tidegate.control.training.split import Halves, split
from tidegate.observations import Feedback, PredictionEvent
from tidegate.storage.store import Store

pytestmark = pytest.mark.slow

FEATURES = ("age", "charges", "plan")


def event(name: str, time: float, **changes: Any) -> PredictionEvent:
    inputs = {"age": [40.0], "charges": [float(time)], "plan": ["monthly"]}
    given: dict[str, Any] = {
        "request_id": name, "process": "p", "endpoint": "churn", "variant": "baseline", "version": "1", "snapshot": 1,
        "time": time, "unit": f"u-{name}", "inputs": msgspec.json.encode(changes.pop("values", inputs)),
        "outputs": b'{"predictions":[1],"scores":[[0.2,0.8]]}',
    }  # fmt: skip
    return PredictionEvent(**{**given, **changes})


def label(name: str, **changes: Any) -> Feedback:
    given: dict[str, Any] = {"metric": "label", "request_id": name, "label": "1", "time": 500.0, "received": 500.0}
    return Feedback(**{**given, **changes})


def read(store: Store, since: float = 0.0, until: float = 1000.0) -> Production:
    return labelled(store, "churn", "label", "churned", {}, since, until)


@pytest.fixture
def store(tmp_path: Path) -> Any:
    made = sqlite_store(tmp_path)
    yield made
    made.close()


def test_rows_are_inputs_with_the_truth_once_for_each_request(store: Store) -> None:
    table = {"age": [1.0, 2.0], "charges": [1.0, 2.0], "plan": ["yearly", "yearly"]}
    with store.begin() as unit:
        unit.events.add([
            event("a", 1.0), event("a", 2.0), event("b", 3.0), event("silent", 4.0), event("c", 5.0, endpoint="iris"),
            event("many", 6.0, rows=2, values=table), event("odd", 7.0, inputs=b"no json"), event("late", 2000.0),
            event("other", 8.0),
        ])  # fmt: skip
        unit.feedback.add([
            label("a"), label("b", label=None, value=0.0), label("c"), label("many"), label("odd"), label("late"),
            label("other", metric="revenue"), label("nobody"),
        ])  # fmt: skip
    found = read(store)
    assert found.frame.to_dict("list") == {
        "age": [40.0, 40.0], "charges": [1.0, 3.0], "plan": ["monthly", "monthly"], TIME: [1.0, 3.0],
        UNIT: ["u-a", "u-b"], "churned": ["1", "0"],
    }  # fmt: skip
    assert found.without_label == 6, "rows, of which one request had two"


def test_rows_of_a_request_with_several_are_told_apart(store: Store) -> None:
    table = {"age": [1.0, 2.0, 3.0], "charges": [4.0, 5.0, 6.0], "plan": ["a", "b", "c"]}
    answers = b'{"predictions":[0,1,0]}'
    with store.begin() as unit:
        unit.events.add([
            event("many", 6.0, rows=3, values=table, outputs=answers, unit=""), event("one", 7.0),
            event("odd", 8.0, rows=3, outputs=answers), event("more", 9.0, rows=3, values=table, outputs=answers),
        ])  # fmt: skip
        unit.feedback.add([
            label("more", row=1), label("many", row=2, label="0"), label("many", row=0), label("many", row=3),
            label("one", row=0), label("odd", row=0),
        ])  # fmt: skip
    found = read(store)
    frame = found.frame.sort_values([TIME, "age"])
    assert frame.to_dict("list") == {
        "age": [1.0, 3.0, 40.0, 2.0], "charges": [4.0, 6.0, 7.0, 5.0], "plan": ["a", "c", "monthly", "b"],
        TIME: [6.0, 6.0, 7.0, 9.0], UNIT: ["many", "many", "u-one", "u-more"], "churned": ["1", "0", "1", "1"],
    }  # fmt: skip
    assert found.without_label == 10 - 4


def test_a_request_that_went_to_another_endpoint_first_counts(store: Store) -> None:
    """Whoever names what a user does once, and asks two models about it, has one id for both."""
    with store.begin() as unit:
        unit.events.add([event("a", 1.0, endpoint="iris", values={"x": [1]}), event("a", 2.0)])
        unit.feedback.add([label("a")])
    assert read(store).frame.to_dict("list")[TIME] == [2.0]


def test_requests_are_read_some_at_a_time(store: Store) -> None:
    """A column that only some have, and one that cannot be read, change nothing for the others."""
    wide = {"age": [1.0, 2.0], "charges": [3.0, 4.0], "plan": ["a", "b"], "new": [5.0, 6.0]}
    with store.begin() as unit:
        unit.events.add([event(f"r{n}", float(n)) for n in range(AT_ONCE + 50)])
        unit.events.add([event("wide", 600.0, rows=2, values=wide, outputs=b"{}"), event("odd", 700.0, inputs=b"?")])
        unit.feedback.add([label("wide", row=1), label("odd"), *(label(f"r{n}") for n in range(AT_ONCE + 50))])
    found = read(store).frame
    assert found[TIME].tolist() == [*found["charges"].tolist()[:-1], 600.0] == [*range(AT_ONCE + 50), 600.0]
    assert found["new"].isna().tolist() == [True] * (AT_ONCE + 50) + [False]
    assert found.iloc[-1].to_dict() == {
        "age": 2.0, "charges": 4.0, "plan": "b", "new": 6.0, TIME: 600.0, UNIT: "u-wide", "churned": "1",
    }  # fmt: skip


def test_the_truth_is_there_however_many_columns_there_are(store: Store) -> None:
    wide = {f"c{number}": [1.0] for number in range(1200)}
    with store.begin() as unit:
        unit.events.add([event("a", 1.0, values=wide)])
        unit.feedback.add([label("a")])
    frame = read(store).frame
    assert frame[[TIME, UNIT, "churned"]].to_dict("list") == {TIME: [1.0], UNIT: ["u-a"], "churned": ["1"]}
    assert len(frame.columns) == 1000


def test_without_labels_there_are_no_rows(store: Store) -> None:
    assert read(store).frame.empty


def production(rows: int, seed: int = 9) -> Production:
    frame = as_text(churn(rows, seed))
    frame[TIME] = np.arange(float(rows))
    frame[UNIT] = [f"p{number}" for number in range(rows)]
    return Production(frame=frame, predictions=rows + 7)


def table(rows: int = 300) -> tuple[Halves, Rows, Checked]:
    checked = check(as_text(churn(rows)), config())
    halves = split(checked.frame, checked.features, config())
    return halves, Rows(read=rows, train=len(halves.train), test=len(halves.test)), checked


def lines(frame: pandas.DataFrame) -> set[tuple[object, ...]]:
    return set(frame[list(FEATURES)].itertuples(index=False, name=None))


def test_the_newest_rows_of_production_are_the_hold_out() -> None:
    halves, counts, checked = table()
    joint, told, _ = joined(halves, counts, production(200), checked, config())
    assert set(joint.test[TIME]) == set(map(float, range(160, 200)))
    assert joint.train[TIME].max() < joint.since == 160.0
    assert not lines(joint.train) & lines(joint.test)
    assert (told.production, told.production_train, told.production_test, told.without_label) == (200, 160, 40, 7)
    assert told.train == len(halves.train) + 160
    assert told.excluded == len(halves.test), "the table's own hold-out stays untrained"


def test_where_production_is_little_the_hold_out_of_the_table_helps() -> None:
    halves, counts, checked = table()
    joint, told, _ = joined(halves, counts, production(50), checked, config())
    assert len(joint.test) == len(halves.test) + 10
    assert not lines(joint.train) & lines(joint.test)
    assert told.production_test == 10


def test_what_is_held_out_is_trained_on_in_no_form() -> None:
    """The same rows came twice, and each unit several times: whatever is held out is nowhere in what is trained on."""
    halves, counts, checked = table()
    twice = production(200)
    frame = pandas.concat([twice.frame, twice.frame.assign(**{TIME: twice.frame[TIME] + 200})], ignore_index=True)
    frame[UNIT] = [f"p{n % 350}" for n in range(400)]
    joint, told, _ = joined(halves, counts, Production(frame=frame, predictions=400), checked, config())
    known = set(joint.train[UNIT].dropna())
    assert not lines(joint.train) & lines(joint.test)
    assert not known & set(joint.test[UNIT])
    assert told.excluded > len(halves.test)
    assert told.train + told.test + told.excluded == 300 + 400


def test_the_champion_was_trained_on_nothing_that_is_held_out() -> None:
    """Late labels of old predictions put the newest fifth back, before where the champion's hold-out began."""
    halves, counts, checked = table()
    given = production(200)
    old = given.frame.assign(**{TIME: given.frame[TIME] / 1000 - 1, UNIT: [f"o{n}" for n in range(200)]})
    grown = Production(frame=pandas.concat([old, given.frame], ignore_index=True), predictions=400, unseen=160.0)
    joint, told, _ = joined(halves, counts, grown, checked, config())
    assert joint.since == joint.test[TIME].min() == 160.0
    assert told.production_test == 40
    gone = msgspec.structs.replace(given, unseen=500.0)
    joint, told, _ = joined(halves, counts, gone, checked, config())
    assert (len(joint.test), told.production_test) == (len(halves.test), 0), "nothing new: the table's own hold-out"


def test_the_tables_own_hold_out_is_trained_on_in_no_form() -> None:
    halves, counts, checked = table()
    given = production(200)
    copy = as_text(halves.test[[*FEATURES, "churned"]])
    copy[TIME], copy[UNIT] = 5.0, "again"
    given = Production(frame=pandas.concat([copy, given.frame], ignore_index=True), predictions=300)
    joint, _, _ = joined(halves, counts, given, checked, config())
    assert not lines(joint.train) & lines(halves.test)


def test_by_time_the_table_too_ends_where_the_hold_out_begins() -> None:
    plan = config(split={"by": "time", "time": "when"})
    frame = as_text(churn(300)).assign(when=[str(number) for number in range(300)])
    checked = check(frame, plan)
    halves = split(checked.frame, checked.features, plan)
    joint, _, _ = joined(halves, Rows(read=300), production(200), checked, plan)
    assert joint.train["when"].max() < joint.since == 160.0
    joint, _, _ = joined(halves, Rows(read=300), production(50), checked, plan)
    assert joint.train["when"].max() < joint.test["when"].min() == 40.0


def test_bad_rows_of_production_are_set_aside_and_gaps_learnt() -> None:
    halves, counts, checked = table()
    given = production(200)
    given.frame.loc[given.frame.index[:20], "age"] = "-5"
    given.frame.loc[given.frame.index[20:30], "plan"] = None
    joint, told, again = joined(halves, counts, given, checked, config())
    assert (told.rejected, told.production) == (20, 180)
    assert again.may_miss == {"plan"}
    assert joint.train["plan"].isna().sum() == 10


def test_without_production_nothing_changes() -> None:
    halves, counts, checked = table()
    empty = Production(frame=pandas.DataFrame({TIME: [], UNIT: [], "churned": []}), predictions=3)
    joint, told, _ = joined(halves, counts, empty, checked, config())
    assert joint is halves
    assert told.without_label == 3
