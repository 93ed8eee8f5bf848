from __future__ import annotations

import pytest
from sqlalchemy import select

from tests.unit.storage.makers import START, an_exposure
from tidegate.observations import Exposure
from tidegate.storage.store import Store, Unit
from tidegate.storage.tables import exposures


def kept(unit: Unit) -> list[Exposure]:
    rows = unit.connection.execute(select(exposures)).mappings()
    return [Exposure(**row) for row in rows]


@pytest.mark.parametrize("order", [1, -1])
def test_the_earliest_of_a_unit_counts(store: Store, order: int) -> None:
    batches = [[an_exposure("ann", "baseline", START)], [an_exposure("ann", "candidate", START + 1)]]
    for batch in batches[::order]:
        with store.begin() as unit:
            unit.exposures.add(batch)
            unit.exposures.add(batch)
    with store.read() as unit:
        assert kept(unit) == [an_exposure("ann", "baseline", START)]


def test_the_earliest_of_one_batch_counts(store: Store) -> None:
    with store.begin() as unit:
        unit.exposures.add(
            [an_exposure("ann", variant, START + time) for variant, time in (("b", 2), ("a", 1), ("c", 3))]
        )
        assert kept(unit) == [an_exposure("ann", "a", START + 1)]


def test_counts_by_variant(store: Store) -> None:
    with store.begin() as unit:
        unit.exposures.add([an_exposure(f"u{n}", "candidate" if n % 3 else "baseline") for n in range(9)])
        unit.exposures.add([an_exposure("u0", experiment="other")])
        unit.exposures.add([])
    with store.read() as unit:
        assert unit.exposures.counts("colours") == {"baseline": 3, "candidate": 6}
        assert unit.exposures.counts("none") == {}
