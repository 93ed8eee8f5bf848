"""Counters in shared memory: one file per serving process, summed by whoever is asked.

Adding is a memory write, so the hot path pays about 0.1 µs, and what a process counted outlives it: its successor
opens the same file and counts on. ``prometheus_client`` renders the sum. Files are series of
``[key length][number of cells][key, padded to 64][cells …]``; a length of 0 ends the file, and a key that begins with
a zero byte marks a place that is free for another series of its size.
"""

from __future__ import annotations

import contextlib
import logging
import math
import mmap
import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tidegate.telemetry import METRICS, Metric

logger = logging.getLogger("tidegate.metrics")

SEGMENT = 1 << 20
_HEAD = 8
_PADDING = 64

BINS_PER_DECADE = 128
"""Relative bin width 10^(1/128) − 1 = 1.8 %."""
DECADES = 7
LOWEST = 1e-5
BINS = BINS_PER_DECADE * DECADES + 2
"""Bin 0 is below ``LOWEST`` seconds, the last one above 100 s."""

_SHOWN = tuple(range(BINS_PER_DECADE, BINS_PER_DECADE * DECADES + 1, BINS_PER_DECADE // 4))
_log10 = math.log10


def bin_of(seconds: float) -> int:
    """Index of the logarithmic bin; bin b > 0 ends at ``edge(b)``."""
    if seconds <= LOWEST:
        return 0
    return min(int((_log10(seconds) + 5.0) * BINS_PER_DECADE) + 1, BINS - 1)


def edge(index: int) -> float:
    """Upper edge of a bin, in seconds."""
    return float(LOWEST * 10.0 ** (index / BINS_PER_DECADE))


def quantile(bins: Sequence[float], q: float) -> float:
    """The q-quantile in seconds, to the middle of its bin; 0 when nothing was counted."""
    total = sum(bins)
    if not total:
        return 0.0
    seen, wanted = 0.0, q * total
    for index, count in enumerate(bins):
        seen += count
        if count and seen >= wanted:
            return edge(index) / float(10.0 ** (0.5 / BINS_PER_DECADE))
    return edge(BINS)


Cells = Any
"""A memoryview of float64; typeshed cannot say so of a cast that is written to."""


class Counter:
    __slots__ = ("_at", "_cells")

    def __init__(self, cells: Cells, at: int) -> None:
        self._cells = cells
        self._at = at

    def add(self, amount: float = 1.0) -> None:
        self._cells[self._at] += amount

    @property
    def value(self) -> float:
        return float(self._cells[self._at])


class Gauge(Counter):
    __slots__ = ()

    def set(self, value: float) -> None:
        self._cells[self._at] = value


class Histogram:
    """Cells: one per bound, one above all, the sum."""

    __slots__ = ("_at", "_bounds", "_cells", "_sum")

    def __init__(self, cells: Cells, at: int, bounds: tuple[float, ...]) -> None:
        self._cells = cells
        self._at = at
        self._bounds = bounds
        self._sum = at + len(bounds) + 1

    def observe(self, value: float) -> None:
        cells = self._cells
        cells[self._at + bisect_left(self._bounds, value)] += 1.0
        cells[self._sum] += value


class Latency:
    """Cells: ``BINS`` bins, the sum."""

    __slots__ = ("_at", "_cells", "_sum")

    def __init__(self, cells: Cells, at: int) -> None:
        self._cells = cells
        self._at = at
        self._sum = at + BINS

    def observe(self, seconds: float) -> None:
        if seconds <= LOWEST:
            index = 0
        else:
            index = int((_log10(seconds) + 5.0) * BINS_PER_DECADE) + 1
            if index >= BINS:
                index = BINS - 1
        cells = self._cells
        cells[self._at + index] += 1.0
        cells[self._sum] += seconds


def _cells_of(metric: Metric) -> int:
    if metric.kind == "latency":
        return BINS + 1
    return len(metric.buckets) + 2 if metric.kind == "histogram" else 1


class _Segment:
    """One fixed-size file of series."""

    def __init__(self, path: Path | None) -> None:
        if path is None:
            self.memory = mmap.mmap(-1, SEGMENT)
        else:
            path.touch()
            with path.open("r+b") as file:
                _reserve(file.fileno())
                self.memory = mmap.mmap(file.fileno(), SEGMENT)
        self.cells: Cells = memoryview(self.memory).cast("d")
        self.heads = memoryview(self.memory).cast("I")
        self.used = 0
        for _key, at, count in _scan(self.memory):
            self.used = (at + count) * 8

    def append(self, key: bytes, count: int) -> int | None:
        """Index of the first cell of a new series; None when the segment is full."""
        padded = _padded(len(key))
        start = self.used + _HEAD + padded
        if start + (count + 1) * 8 > SEGMENT:
            return None
        self.memory[self.used + _HEAD : self.used + _HEAD + len(key)] = key
        # A longer key, cut short by a crash, may lie in the cells and beyond, where the next head is.
        self.memory[start : start + count * 8 + _HEAD] = bytes(count * 8 + _HEAD)
        self.heads[self.used // 4 + 1] = count
        self.heads[self.used // 4] = len(key)  # last, so that a reader never sees half a head
        self.used = start + count * 8
        return start // 8

    def free(self, at: int, key: bytes) -> None:
        """Takes the series out of what is read."""
        self.memory[at * 8 - _padded(len(key))] = 0

    def reuse(self, at: int, key: bytes, count: int) -> None:
        """Puts a series into a free place of its size."""
        self.memory[at * 8 : (at + count) * 8] = bytes(count * 8)
        start = at * 8 - _padded(len(key))
        self.memory[start + 1 : start + len(key)] = key[1:]
        self.heads[(start - _HEAD) // 4] = len(key)
        self.memory[start] = key[0]  # last, so that a reader never sees half a key


def _padded(length: int) -> int:
    return -(-length // _PADDING) * _PADDING


def _reserve(descriptor: int) -> None:
    """Space on the disk for a whole segment, or OSError: a write to mapped memory without space ends the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, SEGMENT)
    else:
        os.truncate(descriptor, SEGMENT)


def _scan(memory: mmap.mmap | bytes) -> Iterator[tuple[bytes, int, int]]:
    """Key, first cell and number of cells of each series."""
    position = 0
    while position + _HEAD <= len(memory):
        length = int.from_bytes(memory[position : position + 4], "little")
        count = int.from_bytes(memory[position + 4 : position + 8], "little")
        if not length:
            return
        first = position + _HEAD + _padded(length)
        yield bytes(memory[position + _HEAD : position + _HEAD + length]), first // 8, count
        position = first + count * 8


class Metrics:
    """All series of one process. Without a folder they live in memory of this process alone."""

    def __init__(self, folder: Path | None = None, process: int = 0) -> None:
        self._folder = folder
        self._process = process
        self._segments: list[_Segment] = []
        self._private: list[_Segment] = []
        self._series: dict[bytes, Any] = {}
        self._claims: dict[tuple[str, ...], int] = {}
        self._places: dict[bytes, tuple[_Segment, int]] = {}
        self._free: dict[tuple[int, int], list[tuple[_Segment, int]]] = {}
        """Free places by number of cells and size of key."""
        self._open_existing()

    def _open_existing(self) -> None:
        while self._folder is not None and self._path(len(self._segments)).exists():
            segment = _Segment(self._path(len(self._segments)))
            self._segments.append(segment)
            for key, at, count in _scan(segment.memory):
                if not key[0]:
                    self._free.setdefault((count, _padded(len(key))), []).append((segment, at))
                    continue
                metric = _METRICS[_name_of(key)]
                self._places[key] = segment, at
                if metric.kind == "gauge":
                    for cell in range(at, at + count):
                        segment.cells[cell] = 0.0
                self._series[key] = _series(metric, segment.cells, at)

    def _path(self, number: int) -> Path:
        assert self._folder is not None
        return self._folder / f"metrics-{self._process}-{number}.bin"

    def counter(self, metric: Metric, *labels: str) -> Counter:
        return self._get(metric, labels)  # type: ignore[no-any-return]

    def gauge(self, metric: Metric, *labels: str) -> Gauge:
        return self._get(metric, labels)  # type: ignore[no-any-return]

    def histogram(self, metric: Metric, *labels: str) -> Histogram:
        return self._get(metric, labels)  # type: ignore[no-any-return]

    def latency(self, metric: Metric, *labels: str) -> Latency:
        return self._get(metric, labels)  # type: ignore[no-any-return]

    def _get(self, metric: Metric, labels: tuple[str, ...]) -> Any:
        if len(labels) != len(metric.labels):
            raise ValueError(f"{metric.name} takes the labels {metric.labels}, got {labels}")
        key = msgspec.json.encode((metric.name, *labels))
        series = self._series.get(key)
        if series is None:
            segment, at = self._places[key] = self._allocate(key, _cells_of(metric))
            series = self._series[key] = _series(metric, segment.cells, at)
        return series

    def claim(self, *labels: str) -> None:
        """Says that somebody counts under these labels until ``release``."""
        self._claims[labels] = self._claims.get(labels, 0) + 1

    def release(self, metrics: Iterable[Metric], *labels: str) -> None:
        """Takes a claim back. With the last one the series of this process end, and their places are used again, so
        that versions which come and go leave nothing behind."""
        self._claims[labels] -= 1
        if self._claims[labels]:
            return
        del self._claims[labels]
        for metric in metrics:
            key = msgspec.json.encode((metric.name, *labels))
            if self._series.pop(key, None) is not None:
                segment, at = self._places.pop(key)
                segment.free(at, key)
                self._free.setdefault((_cells_of(metric), _padded(len(key))), []).append((segment, at))

    def _allocate(self, key: bytes, count: int) -> tuple[_Segment, int]:
        places = self._free.get((count, _padded(len(key))))
        if places:
            segment, at = places.pop()
            segment.reuse(at, key, count)
            return segment, at
        return self._append(key, count)

    def _append(self, key: bytes, count: int) -> tuple[_Segment, int]:
        if self._segments:
            at = self._segments[-1].append(key, count)
            if at is not None:
                return self._segments[-1], at
        segment = self._fresh()
        self._segments.append(segment)
        at = segment.append(key, count)
        assert at is not None, "one series fits into an empty segment"
        return segment, at

    def _fresh(self) -> _Segment:
        if self._folder is None:
            return _Segment(None)
        path = self._path(len(self._segments))
        try:
            return _Segment(path)
        except OSError as error:
            # Answering matters more than counting for all: what is counted here is lost to the others.
            logger.error("cannot keep metrics in %s, which are wrong from now on: %s", self._folder, error)  # noqa: TRY400
            with contextlib.suppress(OSError):
                path.unlink()
            private = _Segment(None)
            self._private.append(private)
            return private

    def read(self) -> dict[tuple[str, ...], list[float]]:
        """Sum over all processes: (metric name, label values …) -> cells."""
        if self._folder is None:
            memories: list[mmap.mmap | bytes] = [segment.memory for segment in self._segments]
        else:
            memories = [path.read_bytes() for path in sorted(self._folder.glob("metrics-*.bin"))]
            memories += [segment.memory for segment in self._private]
        return _merged(memories)


def _series(metric: Metric, cells: Cells, at: int) -> Any:
    if metric.kind == "counter":
        return Counter(cells, at)
    if metric.kind == "gauge":
        return Gauge(cells, at)
    return Latency(cells, at) if metric.kind == "latency" else Histogram(cells, at, metric.buckets)


def _name_of(key: bytes) -> str:
    return str(msgspec.json.decode(key)[0])


def _merged(memories: Iterable[mmap.mmap | bytes]) -> dict[tuple[str, ...], list[float]]:
    total: dict[tuple[str, ...], list[float]] = {}
    for memory in memories:
        with memoryview(memory) as view, view.cast("d") as cells:
            for key, at, count in _scan(memory):
                if not key[0]:
                    continue
                labels = tuple(msgspec.json.decode(key, type=list[str]))
                values: list[float] = cells[at : at + count].tolist()  # type: ignore[assignment]
                seen = total.get(labels)
                merge: Callable[[float, float], float] = max if _METRICS[labels[0]].merge == "max" else float.__add__
                total[labels] = values if seen is None else [merge(a, b) for a, b in zip(seen, values, strict=True)]
    return total


def render(read: Mapping[tuple[str, ...], Sequence[float]]) -> bytes:
    """Prometheus text format of what ``Metrics.read`` gives."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    families: dict[str, Any] = {}
    kinds = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}
    for metric in METRICS:
        families[metric.name] = kinds.get(metric.kind, HistogramMetricFamily)(
            metric.name, metric.help, labels=metric.labels
        )
    for (name, *labels), cells in sorted(read.items()):
        metric, family = _METRICS[name], families[name]
        if metric.kind in kinds:
            family.add_metric(labels, cells[0])
        else:
            family.add_metric(labels, buckets=_cumulative(metric, cells), sum_value=cells[-1])

    class _Collector:
        def collect(self) -> Iterable[Any]:
            return families.values()

    registry = CollectorRegistry()
    registry.register(_Collector())
    return generate_latest(registry)


def _cumulative(metric: Metric, cells: Sequence[float]) -> list[tuple[str, float]]:
    if metric.kind == "latency":
        ends = [(f"{edge(index):.3g}", index + 1) for index in _SHOWN]
    else:
        ends = [(f"{bound:g}", index + 1) for index, bound in enumerate(metric.buckets)]
    buckets, seen, start = [], 0.0, 0
    for bound, end in ends:
        seen += sum(cells[start:end])
        start = end
        buckets.append((bound, seen))
    buckets.append(("+Inf", seen + sum(cells[start:-1])))
    return buckets


_METRICS: Mapping[str, Metric] = {metric.name: metric for metric in METRICS}
