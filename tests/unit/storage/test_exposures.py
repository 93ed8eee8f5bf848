from __future__ import annotations

import pytest

from tests.unit.storage.makers import START, an_exposure
from tidegate.storage.store import Store


@pytest.mark.parametrize("order", [1, -1])
def test_the_earliest_of_a_unit_counts(store: Store, order: int) -> None:
    batches = [[an_exposure("ann", "baseline", START)], [an_exposure("ann", "candidate", START + 1)]]
    for batch in batches[::order]:
        with store.begin() as unit:
            unit.exposures.add(batch)
            unit.exposures.add(batch)
    with store.read() as unit:
        assert unit.exposures.of("colours") == [an_exposure("ann", "baseline", START)]


def test_the_earliest_of_one_batch_counts(store: Store) -> None:
    with store.begin() as unit:
        unit.exposures.add(
            [an_exposure("ann", variant, START + time) for variant, time in (("b", 2), ("a", 1), ("c", 3))]
        )
        assert unit.exposures.of("colours") == [an_exposure("ann", "a", START + 1)]


def test_counts_by_variant(store: Store) -> None:
    with store.begin() as unit:
        unit.exposures.add([an_exposure(f"u{n}", "candidate" if n % 3 else "baseline") for n in range(9)])
        unit.exposures.add([an_exposure("u0", experiment="other")])
        unit.exposures.add([])
    with store.read() as unit:
        assert unit.exposures.counts("colours") == {"baseline": 3, "candidate": 6}
        assert unit.exposures.counts("none") == {}


def test_pages_lose_none_of_one_moment(store: Store) -> None:
    batch = [an_exposure(f"u{n}", time=START + n // 4) for n in range(12)]
    with store.begin() as unit:
        unit.exposures.add(batch)
    with store.read() as unit:
        pages, after = [], 0.0
        while page := unit.exposures.of("colours", after, limit=3):
            pages += page
            after = page[-1].time
    assert sorted(one.unit for one in pages) == sorted(one.unit for one in batch)
