"""Numbers, times and words as the pages write them."""

from __future__ import annotations

import pytest

from tidegate.console import text

T = text.THIN


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, "–"),
        (0, "0"),
        (1234567, f"1{T}234{T}567"),
        (0.01234, "0.0123"),
        (1234.5, f"1{T}234"),
        (-3, "−3"),
        (-0.0039, "−0.0039"),
    ],
)
def test_numbers(value: float | None, written: str) -> None:
    assert text.number(value) == written


@pytest.mark.parametrize(
    ("fraction", "written"),
    [
        (None, "–"),
        (0, f"0{T}%"),
        (0.00001, f"<{T}0.01{T}%"),
        (0.0123, f"1.2{T}%"),
        (0.0012, f"0.12{T}%"),
        (0.5, f"50{T}%"),
        (0.9999999, f">{T}99.99{T}%"),
        (1, f"100{T}%"),
    ],
)
def test_a_percentage_never_rounds_something_to_nothing(fraction: float | None, written: str) -> None:
    assert text.percent(fraction) == written


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0, "–"), (0.00087, f"870{T}µs"), (0.0032, f"3.2{T}ms"), (0.1234, f"123{T}ms"), (1.447, f"1.45{T}s")],
)
def test_latencies(seconds: float, written: str) -> None:
    assert text.seconds(seconds) == written


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, f"0{T}s"),
        (0.38, f"380{T}ms"),
        (2.5, f"2.5{T}s"),
        (45, f"45{T}s"),
        (200, f"3{T}min 20{T}s"),
        (7500, f"2{T}h 5{T}min"),
        (273_600, f"3{T}d 4{T}h"),
    ],
)
def test_durations(seconds: float, written: str) -> None:
    assert text.duration(seconds) == written


@pytest.mark.parametrize(
    ("passed", "written"), [(1, "just now"), (40, f"40{T}s ago"), (3700, f"1{T}h ago"), (-7300, f"in 2{T}h")]
)
def test_relative_times(passed: float, written: str) -> None:
    assert text.ago(1000.0, 1000.0 + passed) == written


def test_a_time_has_its_absolute_form_in_the_title() -> None:
    assert text.time(0.0, 60.0) == "–"
    found = text.time(1_795_262_400.0, 1_795_262_440.0)
    assert 'title="21 Nov 2026, 12:00:00 UTC"' in found
    assert f">40{T}s ago<" in found


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("3", "v3"),
        ("", "?"),
        ("sha256:0123456789abcdef", "0123456789ab"),
        ("blue", "blue"),
        ("2026-11-21T10:00:00", "2026-11-21T10:00:00"),
    ],
)
def test_versions(value: str, written: str) -> None:
    assert text.version(value) == written


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("", ""),
        ("shadow: ended", "Shadow: ended."),
        ("p99 is high", "p99 is high."),
        ("gpu-1:8000 is away", "gpu-1:8000 is away."),
        ("Why?", "Why?"),
    ],
)
def test_sentences(value: str, written: str) -> None:
    assert text.sentence(value) == written


def test_data_cannot_end_the_element_that_holds_it() -> None:
    found = text.data({"kind": "</script><script>alert(1)</script>", "and": "&amp;"})
    assert "<" not in found
    assert "&" not in found


@pytest.mark.parametrize(
    ("value", "written"), [(0, "0"), (0.04, f"<{T}0.1"), (3.94, "3.9"), (408.7, "409"), (12_345, f"12.3{T}k")]
)
def test_rates(value: float, written: str) -> None:
    assert text.rate(value) == written


def test_signs_and_plurals() -> None:
    assert text.signed(-0.12) == f"−12{T}%"
    assert text.signed(0.034) == f"+3.4{T}%"
    assert text.plural(1, "entry", "entries") == "1 entry"
    assert text.plural(2000, "entry", "entries") == f"2{T}000 entries"
    assert text.pretty('{"a": 1}') == '{\n  "a": 1\n}'
    assert text.name_and_id("Ada (of payments) (31ea14)") == ("Ada (of payments)", "31ea14")
    assert text.name_and_id("releases") == ("releases", "")
    assert text.person("Ada (31ea14)") == '<span title="Ada (31ea14)">Ada</span>'
    assert text.pretty("no json") == "no json"
