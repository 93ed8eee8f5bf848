"""Files through a batch job: every row gives one result or one entry among the errors, in order, whatever is in the file,
wherever it is cut, and wherever it was cut off."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.control.jobs.batch import BatchPlan, Seen, check_columns
from tidegate.control.jobs.chunks import Chunks
from tidegate.control.jobs.csv_source import CsvSource, blocks, records
from tidegate.control.jobs.pieces import Piece, Position, Source, Table, score
from tidegate.control.jobs.sources import JsonSource, ParquetSource, open_source
from tidegate.errors import InvalidInput, ModelFailed, UserError
from tidegate.types import Tensors

KINDS: dict[str, Any] = {"a": "number", "b": "number"}
CELL = st.one_of(
    st.floats(-1e6, 1e6).map(lambda value: f"{value:.3f}"),
    st.sampled_from(["", "x", "NaN", "1e400", '"7"', '"7', '7"', '"a\nb"', '"a""b"', "1_000", " 5 ", "\r", "é", "\0"]),
)
LINE = st.one_of(st.lists(CELL, min_size=2, max_size=2), st.lists(CELL, max_size=4)).map(",".join)


class Sum:
    """Adds the columns; refuses what is no finite number, and fails on 13."""

    kinds: Mapping[str, Any] = KINDS
    optional: Sequence[str] = ()
    version = digest = fault = ""
    matrix = False
    told: Any = None

    def missing(self, header: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for name in KINDS if name not in header)

    def close(self) -> None:
        return

    def __init__(self) -> None:
        self.calls = 0

    def inputs(self, header: Sequence[str], columns: Sequence[Any]) -> Tensors:
        given = dict(zip(header, columns, strict=True))
        arrays: dict[str, Any] = {}
        for name in KINDS:
            values = given[name]
            for value in values if isinstance(values, list) else ():
                if isinstance(value, bool) or not isinstance(value, int | float):
                    raise InvalidInput(f"{name}: {value!r} is no number")
            array = np.asarray(values, np.float64)
            if not np.isfinite(array).all():
                raise InvalidInput(f"{name}: not finite")
            arrays[name] = array
        return arrays

    def predict(self, inputs: Tensors) -> dict[str, Any]:
        self.calls += 1
        if (inputs["a"] == 13).any():
            raise ModelFailed("thirteen")
        return {"predictions": inputs["a"] + inputs["b"]}


def results(source: Source, folder: Path, keep: Sequence[str] = (), form: Any = "csv", stop: int | None = None) -> bool:
    """Goes on where it was; ends after ``stop`` pieces as if it were killed. True when it came to the end."""
    chunks = Chunks(folder / "pieces", form, keep, "v1")
    notes = chunks.finished()
    for index, piece in enumerate(source.pieces(notes[-1].end if notes else Position()), len(notes)):
        if stop is not None and index - len(notes) >= stop:
            return False
        parts, bad = score(piece, Sum(), keep)
        chunks.write(index, parts, bad, piece.end)
    chunks.join(folder / "results", folder / "errors")
    return True


def read(folder: Path) -> tuple[dict[int, float], dict[int, str]]:
    lines = list(csv.DictReader(io.StringIO((folder / "results").read_text())))
    answers = [(int(line["row"]), float(line["predictions"])) for line in lines]
    errors = [json.loads(line) for line in (folder / "errors").read_text().splitlines()]
    assert [row for row, _ in answers] == sorted({row for row, _ in answers})
    assert [one["row"] for one in errors] == sorted({one["row"] for one in errors})
    found = dict(answers), {one["row"]: one["reason"] for one in errors}
    assert not found[0].keys() & found[1].keys()
    return found


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.lists(LINE, max_size=25), st.integers(8, 200), st.booleans())
def test_any_csv_gives_each_row_once_and_the_same_when_cut_off(lines: list[str], size: int, ends: bool) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in.csv").write_text("a,b\n" + "\n".join(lines) + ("\n" if ends else ""), newline="")
        for once in ("whole", "cut"):
            (folder / once).mkdir()
        source = CsvSource(folder / "in.csv", KINDS, "text", piece_bytes=size)
        assert results(source, folder / "whole")
        answers, errors = read(folder / "whole")
        assert answers.keys() | errors.keys() == set(range(1, len(answers) + len(errors) + 1))
        while not results(CsvSource(folder / "in.csv", KINDS, "text", piece_bytes=size), folder / "cut", stop=1):
            pass
        assert read(folder / "cut") == (answers, errors)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.one_of(st.none(), st.floats(-1e6, 1e6), st.just(13.0)), st.floats(-9, 9)), max_size=60),
    st.sampled_from(["csv", "jsonl", "parquet"]),
    st.integers(1, 30),
)
def test_all_formats_agree(rows: list[tuple[float | None, float]], form: str, size: int) -> None:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    with TemporaryDirectory() as name:
        folder, path = Path(name), Path(name) / f"in.{form}"
        source: Source
        if form == "csv":
            path.write_text("a,b\n" + "".join(f"{'' if a is None else repr(a)},{b!r}\n" for a, b in rows))
            source = CsvSource(path, KINDS, "text", piece_bytes=size * 10)
        elif form == "jsonl":
            path.write_text("".join(json.dumps({"a": a, "b": b}) + "\n" for a, b in rows))
            source = JsonSource(path, KINDS, (), piece_bytes=size * 10)
        else:
            table = pa.table({"a": pa.array([a for a, _ in rows], pa.float64()), "b": [b for _, b in rows]})
            pq.write_table(table, path, row_group_size=7)
            source = ParquetSource(path, ("a", "b"), rows_at_once=size)
        assert source.count() == len(rows)
        assert results(source, folder)
        answers, errors = read(folder)
        assert answers.keys() == {row for row, (a, _) in enumerate(rows, 1) if a is not None and a != 13}
        assert errors.keys() == {row for row, (a, _) in enumerate(rows, 1) if a is None or a == 13}
        assert all(answers[row] == pytest.approx(sum(rows[row - 1]), abs=1e-9) for row in answers)  # type: ignore[arg-type]


def test_what_is_wrong_with_a_line_is_said(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(b'id,a,b\nq,1,2\nr,x,1\ns,1\n"x\ny",3,3\nu,\xff,1\nv,13,1\n\nw,2,2\nt,"1,2\n')
    source = CsvSource(tmp_path / "in.csv", KINDS, "text")
    assert results(source, tmp_path, keep=["id"])
    assert read(tmp_path)[1] == {
        2: "a: 'x' is no number",
        3: "expected 3 values, one per column, got 2",
        5: "not UTF-8 text",
        6: "thirteen",
        8: "a quote is not closed",
    }
    kept = [row["id"] for row in csv.DictReader(io.StringIO((tmp_path / "results").read_text()))]
    assert kept == ["q", "x\ny", "w"]


def test_json_lines_that_are_not_right(tmp_path: Path) -> None:
    lines = [
        '{"a": 1, "b": 2}',
        "[1, 2]",
        "{",
        '{"b": 1}',
        '{"a": "x", "b": 1}',
        "",
        '{"b": 3, "a": 4, "c": []}',
        "\xff",
    ]
    (tmp_path / "in.jsonl").write_bytes("\n".join(lines).encode("latin-1"))
    assert results(JsonSource(tmp_path / "in.jsonl", KINDS, ()), tmp_path)
    answers, errors = read(tmp_path)
    assert answers == {1: 3, 6: 7}
    assert errors.keys() == {2, 3, 4, 5, 7}
    assert errors[4] == 'the column "a" is missing'


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_file_without_rows_gives_an_empty_result(tmp_path: Path, form: str) -> None:
    (tmp_path / "in.csv").write_text("a,b\n")
    assert results(CsvSource(tmp_path / "in.csv", KINDS, "text"), tmp_path, form=form)
    if form == "parquet":
        import pyarrow.parquet as pq

        assert pq.read_table(tmp_path / "results").num_rows == 0
    else:
        assert (tmp_path / "results").read_text() in ("row,model_version\n", "")


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"a,a\n1,2\n", b"\xff\xfe\n", b'"a,b\n1,2\n', b"a,b\r1,2\r", b"a," * (1 << 20)]
)
def test_a_file_without_a_header_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "in.csv").write_bytes(content)
    if content.startswith(b'"'):
        assert CsvSource(tmp_path / "in.csv", KINDS, "text").header == ("a,b\n1,2\n",)
        return
    with pytest.raises(InvalidInput):
        CsvSource(tmp_path / "in.csv", KINDS, "text")


def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(InvalidInput, match="not Parquet"):
        ParquetSource(tmp_path / "in.parquet")


def test_parquet_with_a_column_twice_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [pa.array([1.0]), pa.array([2.0])]
    pq.write_table(pa.Table.from_arrays(columns, names=["a", "a"]), tmp_path / "in.parquet")
    with pytest.raises(InvalidInput, match="'a' is there twice"):
        ParquetSource(tmp_path / "in.parquet", ["a"])
    assert ParquetSource(tmp_path / "in.parquet", ["b"]).header == (), "of no interest"


def test_a_row_without_end_does_not_fill_the_memory() -> None:
    class Endless(io.RawIOBase):
        left = 40 << 20

        def read(self, size: int = -1) -> bytes:
            self.left -= size
            return b'"' + b"x" * (size - 1) if self.left > 0 else b""

    largest = max(len(block) for block in blocks(Endless(), 1 << 20))  # type: ignore[arg-type]
    assert largest <= 4 << 20


def test_values_with_line_breaks_are_one_row() -> None:
    assert list(records(b'1,"a\nb"\n2,c\n', 2)) == [["1", "a\nb"], ["2", "c"]]
    assert list(records(b'1,"a\n2,c\n', 2)) == ["a quote is not closed", ["2", "c"]]
    assert list(records(b'1,"a\n2,"c\n3,d\n', 2)) == ["a quote is not closed", "a quote is not closed", ["3", "d"]]


def test_bad_rows_do_not_make_the_batches_of_the_model_small() -> None:
    a = np.arange(1000.0) + 100
    a[::100] = np.nan
    model = Sum()
    table = Table(range(1, 1001), ("id", "a", "b"), [[str(row) for row in range(1, 1001)], a, np.ones(1000)])
    parts, bad = score(Piece([table], [], Position(1000)), model, ["id"])
    assert model.calls == 1
    assert [one.number for one in bad] == list(range(1, 1001, 100))
    (part,) = parts
    assert len(part.numbers) == 990
    assert list(part.kept[0]) == [str(row) for row in part.numbers]


def test_parquet_that_was_cut_off_is_joined_from_its_pieces(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    (tmp_path / "in.csv").write_text("id,a,b\n" + "".join(f"n{row},{row},1\n" for row in range(14, 60)) + "x,x,x\n")
    for name, stop in (("whole", None), ("cut", 1)):
        (tmp_path / name).mkdir()
        while not results(
            CsvSource(tmp_path / "in.csv", KINDS, "text", piece_bytes=64), tmp_path / name, ["id"], "parquet", stop
        ):
            pass
    whole, cut = (pq.read_table(tmp_path / name / "results").to_pylist() for name in ("whole", "cut"))
    assert whole == cut
    assert [one["predictions"] for one in whole] == [row + 1 for row in range(14, 60)]
    assert not list((tmp_path / "whole" / "pieces").glob("*.new"))
    for name in ("whole", "cut"):
        group = pq.ParquetFile(tmp_path / name / "results").metadata.row_group(0)
        columns = {column.path_in_schema: column for column in map(group.column, range(group.num_columns))}
        coded = {name for name, column in columns.items() if column.has_dictionary_page}
        assert coded == {"id", "model_version"}, "to try it on scores and row numbers takes most of the time"


def test_a_header_of_very_many_columns_takes_no_longer_than_it_is(tmp_path: Path) -> None:
    """Compared name by name with each other, these are 4e10 comparisons: a file of a megabyte kept a worker for an hour."""
    (tmp_path / "in.csv").write_text(",".join(f"c{number}" for number in range(140_000)) + "\n")
    assert len(CsvSource(tmp_path / "in.csv", {}, "text", only={"c1"}).header) == 1


def test_a_wide_row_that_is_not_right_is_told_about(tmp_path: Path) -> None:
    """Longer than what is not halved any more."""
    wide, names = 20_000, [*KINDS, *(f"c{number}" for number in range(20_000))]
    lines = [",".join(names), "1,2" + ",0" * wide, "+1,2" + ",0" * wide, "1,2" + ",0" * (wide - 1)]
    (tmp_path / "in.csv").write_text("\n".join(lines) + "\n")
    assert results(CsvSource(tmp_path / "in.csv", KINDS, "text", only=KINDS), tmp_path)
    answers, errors = read(tmp_path)
    assert answers == {1: 3.0, 2: 3.0}
    assert list(errors) == [3]


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"a": 1, "b": 2}\n{"a": 3, "b": 4}\n', encoding="utf-8-sig")
    assert results(JsonSource(tmp_path / "in.jsonl", KINDS, ()), tmp_path)
    assert read(tmp_path) == ({1: 3.0, 2: 7.0}, {})


def test_rows_that_are_tried_again_are_seen_once() -> None:
    told: list[int] = []
    seen = Seen(5, told.append)
    seen.begin(15)
    for rows in (8, 4, 4, 1, 1):
        seen.add(rows)
    seen.begin(25)
    seen.add(3)
    seen.end()
    assert told == [5, 13, 15, 15, 15, 15, 18, 25]


@pytest.mark.parametrize("text", ["FALSE,false,0", "False,false,0"])
def test_truth_is_written_in_several_ways(tmp_path: Path, text: str) -> None:
    """As the prediction API takes it, and as Arrow does: also where Arrow cannot read the block."""
    (tmp_path / "in.csv").write_text("a,b,c\n" + text + "\n" + "1,2\n")
    source = CsvSource(tmp_path / "in.csv", dict.fromkeys("abc", "boolean"), "text")
    [piece] = source.pieces(Position())
    assert [list(column) for table in piece.tables for column in table.columns] == [[False]] * 3


@pytest.mark.parametrize("odd", ["", "0.5,1\n"])
def test_true_and_false_are_one_and_zero_where_a_model_takes_numbers(tmp_path: Path, odd: str) -> None:
    """As pandas writes the booleans that a model was trained on; ``odd``: a line that Arrow cannot read beside them."""
    (tmp_path / "in.csv").write_text("a,b\nTRUE,2\nfalse,3\n,4\n" + odd)
    assert results(CsvSource(tmp_path / "in.csv", KINDS, "text"), tmp_path)
    answers, errors = read(tmp_path)
    assert answers == {1: 3.0, 2: 3.0} | ({4: 1.5} if odd else {})
    assert list(errors) == [3]


def test_a_kept_column_does_not_vanish_behind_an_answer(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("a,b,predictions\n1,2,x\n")
    source = CsvSource(tmp_path / "in.csv", {**KINDS, "predictions": "text"}, "text")
    with pytest.raises(UserError, match="'predictions' of their own"):
        results(source, tmp_path, ["predictions"])


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_file_with_none_of_the_columns_fails_at_once(tmp_path: Path, form: Any) -> None:
    """Not row by row: such as a CSV without a header, or of something else."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "in"
    path.write_text("5,6\n7,8\n") if form == "csv" else pq.write_table(pa.table({"x": [1.0]}), path)
    source = open_source(path, form, KINDS, (), False)
    with pytest.raises(InvalidInput, match="lacks columns that the model takes: 'a', 'b'"):
        check_columns(source, Sum(), BatchPlan(source=str(path), format=form))
