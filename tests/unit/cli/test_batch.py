"""``tidegate batch`` and ``tidegate job`` against the control API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import httpx
import pytest
from click.testing import CliRunner, Result

from tidegate.cli import batch, job
from tidegate.cli.control import ControlClient
from tidegate.errors import UserError

DONE = {
    "id": "j-1",
    "kind": "batch",
    "endpoint": "iris",
    "state": "done",
    "progress": {"done": 3, "total": 3},
    "attempts": [{"worker": "w1", "started": 1.0, "ended": 3.5, "error": ""}],
    "result": {"rows": 3, "written": 2, "failed": 1, "model": {"version": "4"}},
}


class Server:
    """Remembers what it was asked, and answers as a control plane whose jobs are done."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, bytes]] = []
        self.job: dict[str, Any] = DONE

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/v1")
        self.asked.append((request.method, path, request.read()))
        if path == "/batch-inputs":
            return httpx.Response(201, json={"source": "upload:u-1", "bytes": len(self.asked[-1][2])})
        if path.endswith("/results"):
            return httpx.Response(200, content=b"row,predictions\n1,2.0\n")
        if path.endswith("/errors"):
            return httpx.Response(200, content=b'{"row":2,"reason":"x"}\n')
        if request.method == "GET" and path in ("/jobs", "/batch-jobs"):
            return httpx.Response(200, json={"items": [self.job], "next": None})
        return httpx.Response(202, json=self.job)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def run(server: Server) -> Iterator[Callable[..., Result]]:
    with ControlClient("http://control.test", "key", httpx.MockTransport(server)) as client:

        def call(command: click.Command, *arguments: str) -> Result:
            inner = command.callback
            assert inner is not None
            plain = click.Command(command.name, params=[p for p in command.params if p.name not in ("control", "key")])
            plain.callback = lambda **given: inner.__wrapped__(client=client, **given)  # type: ignore[attr-defined]
            return CliRunner().invoke(plain, list(arguments))

        yield call


def test_a_file_here_is_sent_and_its_results_are_written(
    run: Callable[..., Result], server: Server, tmp_path: Path
) -> None:
    (tmp_path / "in.csv").write_text("a\n1\n")
    done = run(
        batch.submit,
        str(tmp_path / "in.csv"),
        "--endpoint",
        "iris",
        "--keep",
        "id",
        "--output",
        str(tmp_path / "out.csv"),
    )
    assert done.exit_code == 0, done.output
    assert server.asked[0] == ("POST", "/batch-inputs", b"a\n1\n")
    assert b'"source":"upload:u-1"' in server.asked[1][2].replace(b" ", b"")
    assert "3 rows: 2 results, 1 errors, by version 4" in done.output
    assert "first error: row 2: x\n" in done.output
    assert (tmp_path / "out.csv").read_text() == "row,predictions\n1,2.0\n"


def test_a_job_without_one_result_is_no_success(run: Callable[..., Result], server: Server, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("a\nx\n")
    server.job = DONE | {"result": {"rows": 1, "written": 0, "failed": 1, "model": {"version": "4"}}}
    done = run(batch.submit, str(tmp_path / "in.csv"), "--endpoint", "iris", "--watch")
    assert done.exit_code == 1
    assert "1 rows: 0 results, 1 errors" in done.output


def test_what_the_server_reads_is_named(run: Callable[..., Result], server: Server) -> None:
    done = run(batch.submit, "https://data.example/in.parquet", "--endpoint", "iris")
    assert done.exit_code == 0, done.output
    assert [path for _, path, _ in server.asked] == ["/batch-jobs"]
    assert b'"format":"parquet"' in server.asked[0][2].replace(b" ", b"")
    assert "next: tidegate batch results j-1" in done.output


def test_a_job_that_failed_says_why(run: Callable[..., Result], server: Server, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("a\n1\n")
    server.job = DONE | {"state": "failed", "error": "the input lacks columns that the model takes: 'b'"}
    done = run(batch.submit, str(tmp_path / "in.csv"), "--endpoint", "iris", "--watch")
    assert isinstance(done.exception, UserError)
    assert "lacks columns" in str(done.exception)


@pytest.mark.parametrize(("source", "why"), [("no.csv", "cannot be read"), ("what.xlsx", "give --format")])
def test_a_file_that_cannot_be_sent(run: Callable[..., Result], source: str, why: str) -> None:
    done = run(batch.submit, source, "--endpoint", "iris")
    assert isinstance(done.exception, UserError)
    assert why in str(done.exception)


def test_results_and_errors_go_to_standard_output(run: Callable[..., Result]) -> None:
    assert run(batch.results, "j-1").output == "row,predictions\n1,2.0\n"
    assert run(batch.results, "j-1", "--errors").output == '{"row":2,"reason":"x"}\n'


def test_jobs_are_listed_shown_cancelled_and_tried_again(run: Callable[..., Result], server: Server) -> None:
    assert "j-1" in run(job.list_, "--kind", "batch").output
    assert "j-1" in run(batch.list_).output
    assert "try by w1: 2.5 s" in run(job.show, "j-1").output
    assert "  model: version 4\n" in run(job.show, "j-1").output
    assert "try by w1: 2.5 s" in run(batch.show, "j-1").output
    for command in (job.cancel, job.retry, batch.cancel):
        assert run(command, "j-1", "--reason", "wrong file").exit_code == 0
    assert [path for method, path, _ in server.asked if method == "POST"] == [
        "/jobs/j-1/cancel",
        "/jobs/j-1/retry",
        "/batch-jobs/j-1/cancel",
    ]
