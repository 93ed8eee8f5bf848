from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pytest

from tidegate.errors import InvalidInput, MalformedBody, TooLarge, UnsupportedMedia
from tidegate.protocols.arrow import read_arrow, write_arrow
from tidegate.types import Signature, TensorSpec

TABLE = Signature((TensorSpec("age", "FP32"), TensorSpec("city", "BYTES", content="text")))
GAPS = Signature((TensorSpec("age", "FP32", allow_nan=True), TensorSpec("city", "BYTES", allow_nan=True)))
NAMELESS = Signature((TensorSpec("X", "FP32", (-1, 2)),))
VECTOR = Signature((TensorSpec("v", "FP32", (-1, 3)), TensorSpec("n", "INT64")))


def stream(table: Any, chunk: int = 2, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=chunk)
    body: bytes = sink.getvalue().to_pybytes()
    return body


@pytest.mark.parametrize(
    "city",
    [
        ["Ulm", "Bonn", "Ulm"],
        pa.array(["Ulm", "Bonn", "Ulm"]).dictionary_encode(),
        pa.array(["Ulm", "Bonn", "Ulm"], pa.large_string()),
        pa.array([b"Ulm", b"Bonn", b"Ulm"]),
    ],
)
@pytest.mark.parametrize("age", [pa.int8(), pa.uint64(), pa.float16(), pa.float32(), pa.float64()])
def test_columns_of_all_plain_types(city: Any, age: Any) -> None:
    numbers = pa.array(np.array([1, 2, 3], age.to_pandas_dtype()), age)
    tensors = read_arrow(stream(pa.table({"city": city, "age": numbers})), TABLE, 10)
    assert tensors["age"].tolist() == [1.0, 2.0, 3.0]
    assert tensors["age"].dtype == np.float32
    assert tensors["city"].tolist() == ["Ulm", "Bonn", "Ulm"]


def test_a_batch_that_claims_endless_rows_is_refused_by_its_head() -> None:
    body = stream(pa.table({"age": pa.nulls(7)}), chunk=7)
    head = (7).to_bytes(8, "little")
    forged = body.replace(head, (2**40).to_bytes(8, "little"))
    assert forged != body
    with pytest.raises(TooLarge, match="1099511627776 rows"):
        read_arrow(forged, TABLE, 10)


def test_nulls_follow_the_rule_of_missing_values() -> None:
    body = stream(pa.table({"age": [1, None], "city": [None, "x"]}))
    tensors = read_arrow(body, GAPS, 10)
    assert np.isnan(tensors["age"][1])
    assert tensors["city"].tolist() == [None, "x"]
    with pytest.raises(InvalidInput, match='row 1, column "age": expected number, got null'):
        read_arrow(body, TABLE, 10)


def test_columns_without_names_go_by_position() -> None:
    body = stream(pa.table({"a": [1.0, 2.0], "b": [3, 4]}))
    assert read_arrow(body, NAMELESS, 10)["X"].tolist() == [[1.0, 3.0], [2.0, 4.0]]


def test_lists_of_numbers_become_vectors() -> None:
    body = stream(pa.table({"v": [[1.0, 2.0, 3.0]], "n": [1]}))
    assert read_arrow(body, VECTOR, 10)["v"].tolist() == [[1.0, 2.0, 3.0]]


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
@pytest.mark.parametrize("dictionary", [False, True])
def test_compressed_buffers_are_refused(compression: str, dictionary: bool) -> None:
    city = pa.array(["Ulm" * 100] * 5)
    table = pa.table({"city": city.dictionary_encode() if dictionary else city, "age": [1.0] * 5})
    with pytest.raises(UnsupportedMedia, match="without compression"):
        read_arrow(stream(table, compression=compression), TABLE, 10)


def test_rows_are_counted_before_they_are_read() -> None:
    with pytest.raises(TooLarge, match="rows; this endpoint takes at most 10"):
        read_arrow(stream(pa.table({"age": pa.nulls(2**24)}), chunk=2**24), TABLE, 10)


def test_messages_are_counted_too() -> None:
    batch = pa.record_batch({"age": pa.nulls(0)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        for _ in range(300):
            writer.write_batch(batch)
    with pytest.raises(TooLarge, match="more batches than 10 rows can need"):
        read_arrow(sink.getvalue().to_pybytes(), TABLE, 10)


def test_a_large_dictionary_is_read_only_where_it_is_used() -> None:
    city = pa.DictionaryArray.from_arrays(pa.array([5, None, 5], pa.int32()), pa.array([str(n) for n in range(1000)]))
    tensors = read_arrow(stream(pa.table({"age": [1.0, 2.0, 3.0], "city": city}), chunk=3), GAPS, 10)
    assert tensors["city"].tolist() == ["5", None, "5"]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (pa.table({"age": ["x"], "city": ["y"]}), "expected number"),
        (pa.table({"age": [1.0]}), 'missing column "city"'),
        (pa.table({"age": [1.0], "city": ["x"], "more": [1]}), 'unknown column "more"'),
        (pa.table([[1.0], [2.0]], names=["age", "age"]), 'column "age" is there twice'),
        (pa.table({"age": [{"a": 1}], "city": ["x"]}), "Arrow type struct"),
        (pa.table({"age": pa.array([1], pa.timestamp("s")), "city": ["x"]}), "Arrow type timestamp"),
        (pa.table({"age": [1.0], "city": pa.array(["x"], pa.string_view())}), "Arrow type string_view"),
        (pa.table({"age": pa.array([], pa.float32()), "city": pa.array([], pa.string())}), "no rows"),
    ],
)
def test_tables_that_do_not_fit(table: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        read_arrow(stream(table), TABLE, 10)


def test_every_cut_of_a_stream_is_refused() -> None:
    body = stream(pa.table({"age": [1.0, 2.0], "city": ["x", "y"]}))
    complete = read_arrow(body, TABLE, 10)["city"].tolist()
    for end in range(0, len(body), 7):
        with contextlib.suppress(MalformedBody, InvalidInput):
            assert read_arrow(body[:end], TABLE, 10)["city"].tolist() == complete  # only the end mark was cut


def test_writing_gives_what_was_put_in() -> None:
    body = write_arrow({"predictions": np.array([1, 2]), "vectors": [[1.0], [2.0]]})
    assert pa.ipc.open_stream(body).read_all().to_pydict() == {"predictions": [1, 2], "vectors": [[1.0], [2.0]]}
