"""Counts in shared memory: sums over processes, before and after deaths, against prometheus_client's own parser."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from tidegate import metrics
from tidegate.metrics import BINS, LOWEST, SEGMENT, Metrics, bin_of, edge, quantile, render
from tidegate.telemetry import (
    BATCH_ROWS,
    BUILD_INFO,
    METRICS,
    MODEL_LOAD_SECONDS,
    QUEUE_ROWS,
    REQUEST_SECONDS,
    REQUESTS,
    SNAPSHOT_NUMBER,
)

OK = ("iris", "baseline", "native", "ok")


def samples(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of a Prometheus text, by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def scraped(source: Metrics, name: str, **labels: str) -> float:
    return samples(render(source.read()))[name, tuple(sorted(labels.items()))]


def test_one_scrape_is_the_sum_over_the_processes(tmp_path: Path) -> None:
    """kserve/kserve#2979, bentoml/BentoML#5056, #2286, Lightning-AI/LitServe#724: each scrape saw one worker only."""
    workers = [Metrics(tmp_path, index) for index in range(3)]
    for index, worker in enumerate(workers, 1):
        worker.counter(REQUESTS, *OK).add(index)
        for _ in range(index):
            worker.latency(REQUEST_SECONDS, "iris", "baseline").observe(0.02)
            worker.histogram(BATCH_ROWS, "iris", "1").observe(5)
    labels = {"endpoint": "iris", "variant": "baseline"}
    for worker in workers:  # whoever is asked
        assert scraped(worker, "tidegate_requests_total", **labels, protocol="native", outcome="ok") == 6
        assert scraped(worker, "tidegate_request_seconds_count", **labels) == 6
        assert scraped(worker, "tidegate_request_seconds_sum", **labels) == pytest.approx(0.12)
        assert scraped(worker, "tidegate_batch_rows_bucket", endpoint="iris", version="1", le="4") == 0
        assert scraped(worker, "tidegate_batch_rows_bucket", endpoint="iris", version="1", le="8") == 6
        assert scraped(worker, "tidegate_batch_rows_bucket", endpoint="iris", version="1", le="+Inf") == 6


def test_what_a_killed_process_counted_stays_and_its_successor_goes_on(tmp_path: Path) -> None:
    """kserve/kserve#2979, bentoml/BentoML#5056: counters fell when a worker died."""
    script = (
        "import os, sys; from pathlib import Path; from tidegate.metrics import Metrics\n"
        "from tidegate.telemetry import REQUESTS, QUEUE_ROWS, REQUEST_SECONDS\n"
        "m = Metrics(Path(sys.argv[1]), 0)\n"
        "for _ in range(7): m.counter(REQUESTS, 'iris', 'baseline', 'native', 'ok').add()\n"
        "m.latency(REQUEST_SECONDS, 'iris', 'baseline').observe(0.5)\n"
        "m.gauge(QUEUE_ROWS, 'iris', '1').set(99)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert done.returncode == -9
    survivor = Metrics(tmp_path, 1)
    survivor.counter(REQUESTS, *OK).add()
    assert survivor.read()[REQUESTS.name, *OK] == [8]
    successor = Metrics(tmp_path, 0)
    counter = successor.counter(REQUESTS, *OK)
    assert counter.value == 7
    counter.add()
    successor.latency(REQUEST_SECONDS, "iris", "baseline").observe(0.5)
    assert survivor.read()[REQUESTS.name, *OK] == [9]
    assert sum(survivor.read()[REQUEST_SECONDS.name, "iris", "baseline"][:-1]) == 2
    assert survivor.read()[QUEUE_ROWS.name, "iris", "1"] == [0]  # nothing waits in a process that is gone


def test_gauges_are_added_or_the_largest_is_taken(tmp_path: Path) -> None:
    one, other = Metrics(tmp_path, 0), Metrics(tmp_path, 1)
    for worker, value in ((one, 3.0), (other, 4.0)):
        worker.gauge(QUEUE_ROWS, "iris", "1").set(value)
        worker.gauge(SNAPSHOT_NUMBER).set(value)
        worker.gauge(MODEL_LOAD_SECONDS, "iris", "1").set(value)
    read = one.read()
    assert read[QUEUE_ROWS.name, "iris", "1"] == [7]
    assert read[SNAPSHOT_NUMBER.name,] == [4]
    assert read[MODEL_LOAD_SECONDS.name, "iris", "1"] == [4]


def test_more_series_than_fit_go_into_another_segment(tmp_path: Path) -> None:
    source = Metrics(tmp_path, 0)
    wanted = SEGMENT // (BINS * 8) * 2 + 10
    for number in range(wanted):
        source.latency(REQUEST_SECONDS, f"e{number}", "baseline").observe(number)
    assert len(list(tmp_path.iterdir())) == 3
    assert all(path.stat().st_size == SEGMENT for path in tmp_path.iterdir())
    again = Metrics(tmp_path, 0)
    again.latency(REQUEST_SECONDS, "e3", "baseline").observe(1)
    again.counter(REQUESTS, *OK).add()
    read = again.read()
    assert {key[1] for key in read if key[0] == REQUEST_SECONDS.name} == {f"e{number}" for number in range(wanted)}
    assert read[REQUEST_SECONDS.name, "e3", "baseline"][-1] == 4


def test_without_a_folder_counts_stay_in_the_process() -> None:
    source = Metrics()
    for number in range(300):
        source.counter(REQUESTS, f"e{number}", "baseline", "native", "ok").add(number)
        source.latency(REQUEST_SECONDS, f"e{number}", "baseline").observe(1)
    assert sum(cells[0] for key, cells in source.read().items() if key[0] == REQUESTS.name) == sum(range(300))
    assert Metrics().read() == {}


def test_a_series_that_was_half_written_is_ignored_and_overwritten(tmp_path: Path) -> None:
    source = Metrics(tmp_path, 0)
    source.counter(REQUESTS, *OK).add(5)
    segment = source._segments[0]
    start = segment.used + 8
    segment.memory[start : start + 400] = b"k" * 400  # a long key, and then the process was killed
    segment.heads[segment.used // 4 + 1] = 50
    assert Metrics(tmp_path, 1).read() == {(REQUESTS.name, *OK): [5]}
    successor = Metrics(tmp_path, 0)
    successor.histogram(BATCH_ROWS, "iris", "1").observe(3)
    read = successor.read()
    assert read[REQUESTS.name, *OK] == [5]
    assert read[BATCH_ROWS.name, "iris", "1"] == [0, 0, 1, *[0] * 9, 3]


def test_an_empty_file_is_a_process_that_has_counted_nothing(tmp_path: Path) -> None:
    (tmp_path / "metrics-1-0.bin").touch()
    source = Metrics(tmp_path, 0)
    source.counter(REQUESTS, *OK).add()
    assert source.read() == {(REQUESTS.name, *OK): [1]}
    assert Metrics(tmp_path, 1).counter(REQUESTS, *OK).value == 0


@settings(derandomize=True, max_examples=30, deadline=None, database=None)
@given(st.lists(st.floats(0, 1000), max_size=50), st.lists(st.integers(0, 2000), max_size=50))
def test_the_text_says_what_was_counted(seconds: list[float], rows: list[int]) -> None:
    source = Metrics()
    source.counter(REQUESTS, *OK).add(len(seconds))
    latency, batch_rows = source.latency(REQUEST_SECONDS, "iris", "b"), source.histogram(BATCH_ROWS, "iris", "1")
    for value in seconds:
        latency.observe(value)
    for value in rows:
        batch_rows.observe(value)
    read = samples(render(source.read()))
    buckets = {
        float(dict(labels)["le"]): value
        for (name, labels), value in read.items()
        if name == "tidegate_request_seconds_bucket"
    }
    assert buckets[float("inf")] == len(seconds)
    assert sorted(buckets.values()) == [value for _, value in sorted(buckets.items())]
    for bound, value in buckets.items():  # to the width of a fine bin
        assert sum(s < bound / 1.019 for s in seconds) <= value <= sum(s <= bound * 1.019 for s in seconds)
    exact = {float(dict(labels)["le"]): v for (name, labels), v in read.items() if name == "tidegate_batch_rows_bucket"}
    for bound, value in exact.items():
        assert value == sum(r <= bound for r in rows)


def test_hostile_label_values_stay_in_their_line() -> None:
    source = Metrics()
    name = 'x"} 1\nevil_total{a="\\'
    source.counter(REQUESTS, name, "b", "native", "ok").add(3)
    read = samples(render(source.read()))
    assert [value for (metric, labels), value in read.items() if dict(labels).get("endpoint") == name] == [3]
    assert not [metric for metric, _ in read if metric.startswith("evil")]


def test_every_declared_metric_has_a_help_text_and_renders() -> None:
    source = Metrics()
    for metric in METRICS:
        labels = tuple("a" for _ in metric.labels)
        series = source._get(metric, labels)
        series.observe(1.0) if metric.kind in ("latency", "histogram") else series.add(1.0)
    families = {family.name: family for family in text_string_to_metric_families(render(source.read()).decode())}
    for metric in METRICS:
        family = families[metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name]
        assert family.documentation == metric.help
        assert family.samples


def test_labels_must_be_those_declared() -> None:
    with pytest.raises(ValueError, match="takes the labels"):
        Metrics().counter(REQUESTS, "iris")


def test_build_info_is_one(tmp_path: Path) -> None:
    for index in range(2):
        Metrics(tmp_path, index).gauge(BUILD_INFO, "1.0").set(1)
    assert Metrics(tmp_path, 0).read()[BUILD_INFO.name, "1.0"] == [1]


@pytest.mark.parametrize("value", [0.0, -1.0, 1e-9, LOWEST, 1e-4, 0.001, 0.5, 1.0, 99.9, 100.0, 1e6])
def test_bins_are_narrow(value: float) -> None:
    index = bin_of(value)
    source = Metrics()
    source.latency(REQUEST_SECONDS, "e", "v").observe(value)
    assert source.read()[REQUEST_SECONDS.name, "e", "v"][index] == 1
    if LOWEST < value < 100:
        assert edge(index - 1) <= value * 1.000001
        assert value <= edge(index)


@settings(derandomize=True, max_examples=50, deadline=None, database=None)
@given(st.lists(st.floats(2e-5, 90), min_size=1, max_size=100), st.floats(0, 1))
def test_quantiles_are_right_to_two_percent(values: list[float], q: float) -> None:
    bins = [0.0] * BINS
    for value in values:
        bins[bin_of(value)] += 1
    found = quantile(bins, q)
    ordered = sorted(values)
    seen = [value for rank, value in enumerate(ordered, 1) if rank >= q * len(ordered) - 1e-9]
    assert found == pytest.approx(seen[0], rel=0.02)


def test_no_values_no_quantile() -> None:
    assert quantile([0.0] * BINS, 0.99) == 0


def test_counting_is_a_memory_write(tmp_path: Path) -> None:
    """What the hot path pays must not grow with the number of series, and no file is opened for it."""
    source = Metrics(tmp_path, 0)
    counter = source.counter(REQUESTS, *OK)
    files = set(tmp_path.iterdir())
    for _ in range(1000):
        counter.add()
    assert source.counter(REQUESTS, *OK) is counter
    assert set(tmp_path.iterdir()) == files
    assert metrics.Metrics(tmp_path, 1).read()[REQUESTS.name, *OK] == [1000]


def used(folder: Path) -> int:
    """Bytes of series in all files, whatever is mapped beyond them."""
    return sum(len(path.read_bytes().rstrip(b"\0")) for path in folder.glob("metrics-*.bin"))


def test_versions_that_come_and_go_leave_no_series_behind(tmp_path: Path) -> None:
    source = Metrics(tmp_path)
    sizes = []
    for number in range(60):
        labels = ("iris", f"{number:08x}")
        source.claim(*labels)
        source.histogram(BATCH_ROWS, *labels).observe(3)
        assert scraped(source, "tidegate_batch_rows_count", endpoint="iris", version=labels[1]) == 1
        source.release((BATCH_ROWS, QUEUE_ROWS), *labels)
        assert not source.read()
        sizes.append(used(tmp_path))
    assert sizes[-1] <= sizes[0] + 8


def test_a_series_lasts_until_its_last_claim_is_released(tmp_path: Path) -> None:
    source = Metrics(tmp_path)
    for _ in range(2):
        source.claim("iris", "1")
    series = source.histogram(BATCH_ROWS, "iris", "1")
    source.release((BATCH_ROWS,), "iris", "1")
    series.observe(3)
    assert scraped(source, "tidegate_batch_rows_count", endpoint="iris", version="1") == 1
    source.release((BATCH_ROWS,), "iris", "1")
    assert not source.read()


def test_a_successor_uses_the_places_that_its_predecessor_freed(tmp_path: Path) -> None:
    first = Metrics(tmp_path)
    first.claim("iris", "1")
    first.histogram(BATCH_ROWS, "iris", "1").observe(3)
    first.counter(REQUESTS, *OK).add(5)
    first.release((BATCH_ROWS,), "iris", "1")
    size = used(tmp_path)
    second = Metrics(tmp_path)
    second.histogram(BATCH_ROWS, "iris", "2").observe(4)
    assert second.counter(REQUESTS, *OK).value == 5
    assert scraped(second, "tidegate_batch_rows_sum", endpoint="iris", version="2") == 4
    assert used(tmp_path) == size
