"""What stands above Evidently's part, and which versions of it fit."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest

from tidegate.control.monitoring.evidently_page import Compared, check_installed, finite
from tidegate.control.monitoring.records import Finding
from tidegate.control.monitoring.report_page import POLICY, SERVED, framed, head
from tidegate.control.monitoring.reports import ColumnVerdict, SideBySide, Summary
from tidegate.errors import MissingExtra, UserError

EVIL = "</script><img src=x onerror=alert(1)>"
PAGE = '<!DOCTYPE html><html><head><title>x</title></head><body><div id="root_metric_1"></div></body></html>'


def versions(**found: str) -> None:
    def find(name: str) -> str:
        if name not in found:
            raise PackageNotFoundError(name)
        return found[name]

    check_installed(find)


def test_pandas_3_with_evidently_0_7_is_said_before_anything_is_read() -> None:
    """evidentlyai/evidently breaks with pandas 3."""
    with pytest.raises(UserError, match=r"evidently 0\.7\.23 does not work with pandas 3\.0\.1: pip install"):
        versions(evidently="0.7.23", pandas="3.0.1")
    versions(evidently="0.7.23", pandas="2.3.3")
    versions(evidently="0.8.0", pandas="3.0.1")


def test_without_evidently_the_extra_is_named() -> None:
    with pytest.raises(MissingExtra, match=r"tidegate\[reports\]"):
        versions(pandas="2.3.3")


@pytest.mark.parametrize(
    ("method", "value", "drifted"),
    [
        ("K-S p_value", 0.01, True),
        ("K-S p_value", 0.2, False),
        ("Wasserstein distance (normed)", 0.2, True),
        ("Wasserstein distance (normed)", 0.01, False),
    ],
)
def test_a_small_p_value_is_drift_and_so_is_a_large_distance(method: str, value: float, drifted: bool) -> None:
    assert Compared("age", method, value, 0.05).drifted is drifted


def test_a_page_says_itself_that_it_loads_nothing() -> None:
    page = framed(PAGE, "<p>above</p>")
    assert page.index("Content-Security-Policy") < page.index("<title>")
    assert page.index("<p>above</p>") < page.index("root_metric_1")
    assert "default-src 'none'" in POLICY
    assert "connect-src" not in POLICY
    assert SERVED.startswith("sandbox allow-scripts; ")
    assert "allow-same-origin" not in SERVED


@pytest.mark.parametrize("page", ["", "<html></html>", '<div id="root_metric_1"><head>'])
def test_a_page_of_another_form_is_refused(page: str) -> None:
    with pytest.raises(UserError, match="not known"):
        framed(page, "")


def test_nothing_of_the_data_is_markup() -> None:
    summary = Summary(
        kind="summary",
        title=EVIL,
        variant=EVIL,
        created=0.0,
        rows=3,
        notes=(EVIL,),
        columns=(SideBySide(column=EVIL, tidegate=ColumnVerdict("psi", 0.3, 0.1, True)),),
        findings=(Finding(check="missing", column=EVIL, value=1, bound=0, count=3, rows=3, broken=True),),
    )
    text = head(summary)
    assert "<img" not in text
    assert "</script" not in text
    assert '<td class="yes">drift (psi)</td>' in text


def test_json_has_no_nan() -> None:
    assert finite({"a": [float("nan"), 1.0], 2: (float("inf"),)}) == {"a": [None, 1.0], "2": [None]}
