"""``tidegate report``: what it refuses, and what it asks a control plane for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.command import run
from tests.unit.cli.fake_control import FakeControl, fake_control

JOB: dict[str, Any] = {"id": "j-1", "state": "done", "result": {
    "report": "doc-1", "place": "/api/v1/reports/doc-1", "rows": 12, "drifted": ["age"], "broken": 1,
}}  # fmt: skip


@pytest.fixture
def control() -> Iterator[FakeControl]:
    with fake_control() as server:
        yield server


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "good.csv").write_text("a,b\n1,x\n2,y\n3,x\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "header.csv").write_text("a,b\n")
    (tmp_path / "one.csv").write_text("a,b\n1,x\n")
    (tmp_path / "other.csv").write_text("c\n1\n2\n")
    (tmp_path / "ragged.csv").write_text("a,b\n1,x\n2\n")
    (tmp_path / "odd.txt").write_text("a\n1\n")
    (tmp_path / "bad.parquet").write_text("not parquet")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["drift"], "needs --baseline FILE --production FILE, or --endpoint NAME"),
        (["drift", "--production", "good.csv"], "needs --baseline FILE"),
        (["quality"], "needs --production FILE"),
        (["quality", "--quality-only", "good.csv", "--production", "good.csv"], "--quality-only is for one file alone"),
        (["drift", "--endpoint", "iris", "--production", "good.csv"], "goes without --baseline"),
        (["drift", "--baseline", "good.csv", "--production", "absent.csv"], "absent.csv: no such file"),
        (["drift", "--baseline", "good.csv", "--production", "empty.csv"], "empty.csv: no rows"),
        (["drift", "--baseline", "good.csv", "--production", "header.csv"], "header.csv: no rows"),
        (["drift", "--baseline", "good.csv", "--production", "one.csv"], "production: 1 row; a comparison needs 2"),
        (["drift", "--baseline", "good.csv", "--production", "other.csv"], "no column in common"),
        (["drift", "--baseline", "good.csv", "--production", "ragged.csv"], "line 3: 1 values, the header has 2"),
        (["drift", "--baseline", "good.csv", "--production", "odd.txt"], "expected a file that ends with .csv"),
        (["drift", "--baseline", "good.csv", "--production", "bad.parquet"], "not a readable Parquet file"),
    ],
)
def test_what_cannot_be_reported_on_is_said_in_a_line(
    files: Path, arguments: list[str], words: str, tmp_path: Path
) -> None:
    done = run("report", *(str(files / one) if "." in one else one for one in arguments))
    assert done.exit_code == 2
    assert words in done.output
    assert done.output.count("\n") == 1


def test_asks_for_a_report_of_an_endpoint_and_shows_where_it_is(control: FakeControl, tmp_path: Path) -> None:
    control.answers[("POST", "/api/v1/reports")] = (202, JOB)
    control.answers[("GET", "/api/v1/reports/doc-1/document")] = (200, "a page")
    page = tmp_path / "page.html"
    arguments = ("--endpoint", "iris", "--since", "2h", "--html", str(page), "--control", control.url, "--key", "k")
    done = run("report", "summary", *arguments)
    assert done.exit_code == 0, done.output
    assert control.asked[0].body == {
        "kind": "summary", "endpoint": "iris", "since": "2h", "variant": "baseline", "baseline": "",
    }  # fmt: skip
    assert page.read_text() == '"a page"'
    assert "12 rows; drifted: age; checks of quality broken: 1" in done.output
    assert f"{control.url}/reports/doc-1\n" in done.output, "in the console: the document itself asks for a key"


def test_a_report_that_failed_says_why(control: FakeControl) -> None:
    failed = {"id": "j-1", "state": "failed", "error": "no predictions of iris were kept"}
    control.answers[("POST", "/api/v1/reports")] = (202, failed)
    done = run("report", "drift", "--endpoint", "iris", "--control", control.url, "--key", "k")
    assert done.exit_code == 2
    assert "the report is failed: no predictions of iris were kept" in done.output


def test_does_not_wait_where_it_is_not_to(control: FakeControl) -> None:
    control.answers[("POST", "/api/v1/reports")] = (202, {"id": "j-1", "state": "queued"})
    done = run("report", "drift", "--endpoint", "iris", "--no-wait", "--control", control.url, "--key", "k")
    assert "job j-1 makes it" in done.output
    assert len(control.asked) == 1
