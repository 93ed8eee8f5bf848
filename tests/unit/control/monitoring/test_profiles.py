"""Profiles: frozen bins, counts that add up, values of every kind."""

from __future__ import annotations

import functools
import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tidegate.control.monitoring import profiles
from tidegate.control.monitoring.profiles import Profile, fold, make_profile, merge
from tidegate.errors import Conflict, InvalidInput

few = settings(max_examples=20, deadline=None)
RNG = np.random.default_rng(3)
TABLE: dict[str, Any] = {
    "age": RNG.normal(40, 10, 400),
    "children": RNG.integers(0, 4, 400),
    "plan": RNG.choice(["basic", "plus", "pro"], 400).tolist(),
}
REFERENCE = make_profile(TABLE)

values = some.one_of(
    some.none(), some.floats(), some.integers(), some.booleans(), some.text(max_size=8), some.just([1]), some.just({})
)
tables = some.lists(some.tuples(values, values, values), min_size=1, max_size=12).map(
    lambda rows: {name: [row[place] for row in rows] for place, name in enumerate(("age", "children", "plan"))}
)


def without_moments(profile: Profile) -> Any:
    return msgspec.structs.replace(
        profile,
        columns={name: msgspec.structs.replace(one, mean=0.0, m2=0.0) for name, one in profile.columns.items()},
    )


@few
@given(some.lists(tables, min_size=2, max_size=5), some.randoms(use_true_random=False))
def test_any_grouping_and_order_gives_the_same_window(parts: list[dict[str, list[Any]]], random: Any) -> None:
    windows = [fold(REFERENCE, None, part) for part in parts]
    at_once = functools.reduce(lambda window, part: fold(REFERENCE, window, part), parts[1:], windows[0])
    joined = fold(REFERENCE, None, {name: [one for part in parts for one in part[name]] for name in parts[0]})
    random.shuffle(windows)
    while len(windows) > 1:
        place = random.randrange(len(windows) - 1)
        windows[place : place + 2] = [merge(windows[place], windows[place + 1])]
    assert without_moments(windows[0]) == without_moments(at_once) == without_moments(joined)


def test_moments_of_parts_are_those_of_the_whole() -> None:
    exact = RNG.normal(1e6, 1.0, 5000)
    parts = [fold(REFERENCE, None, {"age": part}) for part in np.array_split(exact, 7)]
    whole = functools.reduce(merge, parts).columns["age"]
    assert whole.mean == pytest.approx(exact.mean(), rel=1e-12)
    assert whole.sigma == pytest.approx(exact.std(ddof=1), rel=1e-6)


@few
@given(tables)
def test_every_value_is_counted_once(table: dict[str, list[Any]]) -> None:
    for column in fold(REFERENCE, None, table).columns.values():
        assert column.rows == len(table["age"])
        assert column.missing + column.wrong + column.binned == column.rows


@few
@given(tables)
def test_encoding_round_trips_byte_by_byte(table: dict[str, list[Any]]) -> None:
    for profile in (make_profile(table), fold(REFERENCE, None, table)):
        text = profiles.encode(profile)
        assert profiles.decode(text) == profile
        assert profiles.encode(profiles.decode(text)) == text


def test_profiles_of_other_references_are_not_merged() -> None:
    other = make_profile({**TABLE, "age": TABLE["age"] + 1})
    with pytest.raises(Conflict, match="different references"):
        merge(fold(REFERENCE, None, TABLE), fold(other, None, TABLE))


@pytest.mark.parametrize("text", [b"", b"[]", b'{"version":2}', b'{"columns":{"a":{"kind":"number","counts":[1]}}}x'])
def test_what_is_no_profile_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidInput, match="profile"):
        profiles.decode(text)


def test_the_largest_numbers_make_no_infinite_edge() -> None:
    reference = make_profile({"x": [1.7e308, -1.7e308, 1.0, 2.0]})
    assert profiles.decode(profiles.encode(reference)) == reference
    assert np.isfinite(reference.columns["x"].edges).all()


def test_what_went_through_32_bits_stays_in_its_bin() -> None:
    rng = np.random.default_rng(15)
    prices = np.concatenate(
        (np.full(300, 0.1), rng.choice([0.3, 19.99, 1e-3], 300), np.round(rng.random(4000) * 100, 1))
    )
    for values in (prices, prices[:600], -prices, np.array([0.1, -0.1] * 50)):  # 0.1 is more in 32 bits
        reference = make_profile({"price": values})
        window = fold(reference, None, {"price": values.astype(np.float32)}).columns["price"]
        assert window.counts == reference.columns["price"].counts
        assert window.outside == 0


def test_what_a_compiled_forest_adds_up_in_32_bits_stays_in_its_bin() -> None:
    """A thousand trees lose up to 4.4e-6 of a score; one of exactly 1 left its bin, and the range."""
    scores = np.repeat([0.25, 0.5, 1.0], 200)
    reference = make_profile({"score": scores})
    window = fold(reference, None, {"score": scores * (1 + 5e-6)}).columns["score"]
    assert window.counts == reference.columns["score"].counts
    assert window.outside == 0


def test_times_and_other_numbers_far_from_zero_keep_their_differences() -> None:
    """A hundred-thousandth of the seconds since 1970 is five hours."""
    day = 1.7e9 + np.linspace(0.0, 86_400.0, 500)
    late = fold(make_profile({"time": day}), None, {"time": day + 90_000.0}).columns["time"]
    assert late.outside == 500


def test_rows_are_alike_whether_a_column_is_absent_or_missing() -> None:
    rows: dict[str, Any] = {"age": [1.0, 1.0], "children": [2, 2]}
    one = merge(fold(REFERENCE, None, rows), fold(REFERENCE, None, {**rows, "plan": [None, "pro"]}))
    assert sorted(one.repeats.times) == [1, 3]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"m2": -1.0}, "a deviation"),
        ({"rows": 10**25}, "counts that do not fit"),
        ({"missing": 401}, "counts that do not fit"),
        ({"finite": 401}, "counts that do not fit"),
        ({"centers": []}, "0 centers for"),
        ({"edges": [float(number) for number in range(2000)]}, "more than 1000 places"),
        ({"categories": ["a", "a"]}, "a category twice"),
    ],
)
def test_no_profile_makes_what_is_computed_of_it_fail(change: dict[str, Any], words: str) -> None:
    """It comes over the network, and a look, a page and a report compute with it later."""
    found = msgspec.json.decode(profiles.encode(REFERENCE))
    found["columns"]["age"] |= change
    with pytest.raises(InvalidInput, match=words):
        profiles.decode(_json(found))


@pytest.mark.slow
def test_a_profile_whose_parts_do_not_fit_is_none() -> None:
    found = msgspec.json.decode(profiles.encode(REFERENCE))
    ragged = found | {"sample": {"age": [1.0], "plan": []}}
    many = found | {
        "columns": {f"c{number}": {"kind": "number", "counts": [0], "centers": [0.0]} for number in range(10_001)}
    }
    hashes = found | {"repeats": {"hashes": "AAAA"}}
    for odd, words in ((ragged, "different lengths"), (many, "10001 columns"), (hashes, "do not fit their hashes")):
        with pytest.raises(InvalidInput, match=words):
            profiles.decode(_json(odd))


def _json(value: Any) -> bytes:
    """With numbers of any size."""
    return json.dumps(value).encode()
