from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.unit.cli.command import run
from tests.unit.cli.fake_server import FakeServer, fake_server


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as running:
        yield running


def lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def predictions(result: Result) -> list[Any]:
    return [line.get("prediction", "bad") for line in lines(result)]


def test_every_row_of_a_csv_gets_one_line_in_order(server: FakeServer, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("length,width\n" + "".join(f"{n},0.5\n" for n in range(100)))
    result = run("predict", str(file), "--url", server.url, "--batch-rows", "7", "--concurrency", "3")
    assert result.exit_code == 0
    assert predictions(result) == [n + 0.5 for n in range(100)]
    assert lines(result)[0] == {
        "line": 2,
        "prediction": 0.5,
        "scores": [1.0, 0.0],
        "version": "3",
        "variant": "baseline",
    }
    assert max(len(body["records"]) for body in server.bodies) == 7


def test_a_proxy_is_not_asked_for_this_machine(server: FakeServer) -> None:
    environment = {"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": ""}
    result = run("predict", "--format", "jsonl", "--url", server.url, stdin="[1, 2]\n", environment=environment)
    assert predictions(result) == [3]


@pytest.mark.parametrize(
    ("name", "content", "form"),
    [
        ("a.csv", b"1,2\n3,4\n", "features"),
        ("a.csv", b"width,length,species\n2,1,x\n4,3,y\n", "records"),
        ("a.jsonl", b'[1, 2]\n\n{"length": 3, "width": 4}\n', "features"),
        ("a.json", b" [[1, 2],\n[3, 4]]", "features"),
        ("a.json", b'{"features": [[1, 2], [3, 4]]}', "features"),
        ("a.json.gz", gzip.compress(b"[[1, 2], [3, 4]]", mtime=0), "features"),
        ("a.ndjson", "\ufeff[1, 2]\n[3, 4]\n".encode(), "features"),
    ],
)
def test_formats(server: FakeServer, tmp_path: Path, name: str, content: bytes, form: str) -> None:
    (tmp_path / name).write_bytes(content)
    result = run("predict", str(tmp_path / name), "--url", server.url, "--endpoint", "iris")
    assert (result.exit_code, predictions(result)) == (0, [3, 7])
    assert any(form in body for body in server.bodies)  # rows of two forms go out side by side


@pytest.mark.slow
def test_parquet(server: FakeServer, tmp_path: Path) -> None:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    pyarrow.parquet.write_table(pyarrow.table({"length": [1, 3], "width": [2, 4]}), tmp_path / "a.parquet")
    result = run("predict", str(tmp_path / "a.parquet"), "--url", server.url)
    assert predictions(result) == [3, 7]


def test_stdin_is_json_lines_unless_told_otherwise(server: FakeServer) -> None:
    assert predictions(run("predict", "--url", server.url, stdin="[1, 2]\n[3, 4]\n")) == [3, 7]
    result = run("predict", "-", "--url", server.url, "--format", "csv", stdin="length,width\n1,2\n")
    assert predictions(result) == [3]


def test_bad_rows_are_named_by_line_and_the_rest_is_answered(server: FakeServer, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("length,width\n1,2\n3,\n5,old\n7\n9,1\n")
    result = run("predict", str(file), "--url", server.url)
    assert result.exit_code == 1
    assert predictions(result) == [3, "bad", "bad", "bad", 10]
    assert result.stderr.splitlines() == [
        f'{file}:3: column "width": row 1 is bad',
        f'{file}:4: column "width": expected a number, got "old"',
        f"{file}:5: expected 2 values, as in the header, got 1",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("status", [400, 413, 422, 500])
def test_bad_rows_are_found_when_the_server_does_not_name_them(server: FakeServer, status: int) -> None:
    server.named_rows = False
    server.status_of_bad_rows = status
    rows = [[n, None if n in (3, 17) else 1] for n in range(20)]
    result = run("predict", "--url", server.url, stdin="\n".join(map(json.dumps, rows)))
    assert result.exit_code == 1
    assert predictions(result) == ["bad" if n in (3, 17) else n + 1 for n in range(20)]


def test_broken_json_lines_are_named(server: FakeServer) -> None:
    result = run("predict", "--url", server.url, stdin='[1, 2]\n{"a":\n[NaN, 1]\n[3, 4]\n')
    assert predictions(result) == [3, "bad", "bad", 7]
    assert result.stderr.splitlines()[0].startswith("stdin:2: not valid JSON")


@pytest.mark.slow
def test_a_busy_server_is_asked_again(server: FakeServer) -> None:
    server.refusals = [(429, "0"), (503, "0.05"), (503, "soon")]
    result = run("predict", "--url", server.url, stdin="[1, 2]\n")
    assert (result.exit_code, predictions(result)) == (0, [3])
    assert len(server.headers_seen) == 4


@pytest.mark.slow
def test_a_server_that_stays_busy_is_given_up(server: FakeServer) -> None:
    server.refusals = [(503, "0")] * 3
    result = run("predict", "--url", server.url, "--attempts", "3", stdin="[1, 2]\n")
    assert result.exit_code == 2
    assert "gave up after 3 attempts: 503: busy" in result.stderr


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_that_waiting_does_not_help_ends_at_once(server: FakeServer, status: int) -> None:
    server.refusals = [(status, "0")]
    result = run("predict", "--url", server.url, stdin="[1, 2]\n")
    assert result.exit_code == 2
    assert result.stderr == f"error: /predict: the server answered {status}: busy\n"


def test_key_and_address_may_come_from_the_environment(server: FakeServer) -> None:
    result = run("predict", stdin="[1, 2]", environment={"TIDEGATE_URL": server.url, "TIDEGATE_KEY": "k"})
    assert result.exit_code == 0
    assert server.headers_seen[0]["x-api-key"] == "k"


def test_units_are_sent_beside_the_rows(server: FakeServer, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("user,length,width\n007,1,2\nbob,3,4\n")
    assert run("predict", str(file), "--url", server.url, "--unit", "user").exit_code == 0
    run("predict", "--url", server.url, "--unit", "user", stdin='{"length": 1, "width": 2, "user": 5}')
    assert [body["units"] for body in server.bodies] == [["007", "bob"], ["5"]]
    assert server.bodies[1]["records"] == [{"length": 1, "width": 2}]


def test_csv_output_has_a_column_for_every_value(server: FakeServer, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    run("predict", "--url", server.url, "--output", str(target), stdin="[null, 1]\n[1, 2]\n")
    assert target.read_text().splitlines() == [
        "line,prediction,scores_0,scores_1,version,variant,error",
        '1,,,,,,"column ""width"": row 0 is bad"',
        "2,3,1.0,0.0,3,baseline,",
    ]


def test_it_stops_after_the_errors_it_may_see(server: FakeServer) -> None:
    result = run("predict", "--url", server.url, "--max-errors", "2", stdin="x\n" * 10)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == "error: stopped after 2 bad rows"


@pytest.mark.parametrize(
    ("arguments", "stdin", "expected"),
    [
        (["nowhere.csv"], None, "nowhere.csv: no such file"),
        (["rows.txt"], None, "the format cannot be told"),
        (["-", "--format", "xml"], "", "--format xml: expected csv, json"),
        (["-", "--output-format", "xml"], "", "--output-format xml: expected jsonl or csv"),
        (["-", "--format", "json"], "3", "expected a JSON array of rows"),
        (["-", "--format", "json"], "[[1, 2], [3", "row 2: not valid JSON"),
        (["-", "--format", "csv"], "length\n1\n", 'the file has no column "width"; the model takes: length, width'),
        (["-", "--format", "parquet"], "", "not a readable Parquet file"),
    ],
)
def test_mistakes_are_one_line(server: FakeServer, arguments: list[str], stdin: str | None, expected: str) -> None:
    result = run("predict", *arguments, "--url", server.url, stdin=stdin)
    assert result.exit_code == 2
    assert expected in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_no_server_is_one_line() -> None:
    result = run("predict", "--url", "http://127.0.0.1:9", "--attempts", "2", stdin="[1]")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: http://127.0.0.1:9")
