from __future__ import annotations

import threading

from tests.unit.storage.makers import START, a_window
from tidegate.storage.records import Total
from tidegate.storage.store import Store


def test_windows_come_back_whole_and_in_order(store: Store) -> None:
    batch = [a_window(1), a_window(2), a_window(1, variant="candidate", shadow=True)]
    with store.begin() as unit:
        assert unit.windows.add(batch) == 3
        assert unit.windows.add([]) == 0
    with store.read() as unit:
        stored = unit.windows.after("iris", 0)
        assert [one.window for one in stored] == batch
        assert unit.windows.after("iris", stored[0].id, limit=1) == stored[1:2]
        assert unit.windows.after("other", 0) == []
        ids = [one.id for one in stored]
        assert unit.windows.by_ids([*ids[::-1], 999]) == stored
        assert unit.windows.between("iris", START + 1, START + 2) == [batch[0], batch[2]]


def test_writing_a_window_twice_changes_nothing(store: Store) -> None:
    with store.begin() as unit:
        assert unit.windows.add([a_window(1), a_window(2)]) == 2
    with store.begin() as unit:
        assert unit.windows.add([a_window(2, requests=7), a_window(3), a_window(3)]) == 1
    with store.read() as unit:
        assert [one.window.requests for one in unit.windows.after("iris", 0)] == [100, 100, 100]


def test_totals_add_up_per_variant(store: Store) -> None:
    with store.begin() as unit:
        unit.windows.add([a_window(n) for n in range(5)])
        unit.windows.add([a_window(n, variant="candidate", requests=2, failures=0, process="p2") for n in range(5)])
        unit.windows.add([a_window(1, endpoint="other")])
    with store.read() as unit:
        assert unit.windows.totals(START + 1, START + 4) == [
            Total("iris", "baseline", 300, 3),
            Total("iris", "candidate", 6, 0),
            Total("other", "baseline", 100, 1),
        ]
        assert unit.windows.totals(START - 9, START) == []


def test_more_ids_than_a_query_takes(store: Store) -> None:
    with store.begin() as unit:
        unit.windows.add([a_window(n) for n in range(1200)])
    with store.read() as unit:
        stored = unit.windows.after("iris", 0)
        assert unit.windows.by_ids([one.id for one in stored]) == stored


def test_a_reader_that_goes_on_after_the_last_id_misses_none(store: Store) -> None:
    """Ids become visible in their order, also while several processes write: else evidence would depend on timing."""
    writers, each = 4, 12
    ended = threading.Event()
    seen: list[tuple[str, int]] = []

    def write(process: str) -> None:
        for sequence in range(each):
            with store.begin() as unit:
                unit.windows.add(
                    [a_window(sequence, process=process), a_window(sequence, process=process, variant="c")]
                )

    def follow() -> None:
        last, final = 0, False
        while not final:
            final = ended.is_set()
            with store.read() as unit:
                for one in unit.windows.after("iris", last):
                    last = one.id
                    seen.append((one.window.process, one.window.sequence))

    reader = threading.Thread(target=follow)
    threads = [threading.Thread(target=write, args=(f"p{n}",)) for n in range(writers)]
    for thread in [reader, *threads]:
        thread.start()
    for thread in threads:
        thread.join()
    ended.set()
    reader.join()
    assert sorted(seen) == sorted([(f"p{n}", sequence) for n in range(writers) for sequence in range(each)] * 2)
