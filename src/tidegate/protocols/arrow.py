"""Tables as Arrow IPC streams, in and out. pyarrow is loaded with the first such request."""

from __future__ import annotations

from struct import error as StructError  # noqa: N812 - a class under a lower-case name
from struct import unpack_from
from typing import TYPE_CHECKING, Any

import numpy as np

from tidegate.errors import InvalidInput, MalformedBody, TooLarge, UnsupportedMedia
from tidegate.protocols import tensors
from tidegate.types import Array, Signature, Tensors

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]

MEDIA_TYPE = "application/vnd.apache.arrow.stream"

_RECORD_BATCH = 3
_DICTIONARY_BATCH = 2
_MESSAGES_BESIDE_ROWS = 64


def read_arrow(body: bytes, signature: Signature, max_rows: int) -> Tensors:
    """Tensors of a stream's columns. Refuses compressed buffers, so that a body cannot grow in memory."""
    pa = _pyarrow()
    try:
        _check_messages(pa, body, max_rows)
        batches = _batches(pa, body, max_rows)
        columns = {name: _column(pa, name, [batch.column(i) for batch in batches]) for i, name in _names(batches)}
    except (
        pa.ArrowException,
        OSError,
        StructError,
        IndexError,
        UnicodeDecodeError,
        MemoryError,
        OverflowError,
    ) as error:
        raise MalformedBody("the body is not a complete Arrow IPC stream") from error
    if signature.is_matrix and not signature.columns:
        return tensors.check({"": _stacked(columns)}, signature, form="table", max_rows=max_rows)
    return tensors.from_columns(columns, signature, form="table", max_rows=max_rows)


def write_arrow(columns: dict[str, Array | list[Any]]) -> bytes:
    """A stream with one batch."""
    pa = _pyarrow()
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def _pyarrow() -> Any:
    try:
        import pyarrow as pa
        import pyarrow.ipc  # type: ignore[import-untyped]
    except ImportError:
        raise UnsupportedMedia("this server does not speak Arrow; send and accept application/json") from None
    return pa


def _batches(pa: Any, body: bytes, max_rows: int) -> list[pa.RecordBatch]:
    batches = []
    rows = 0
    with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
        for batch in reader:
            rows += batch.num_rows
            batch.validate(full=True)
            batches.append(batch)
    tensors.limit_rows(rows, max_rows)
    return batches


def _names(batches: list[pa.RecordBatch]) -> list[tuple[int, str]]:
    names = batches[0].schema.names
    for name in names:
        if names.count(name) > 1:
            raise InvalidInput(f'column "{name[:60]}" is there twice', ("table", name[:60]))
    return list(enumerate(names))


def _column(pa: Any, name: str, chunks: list[pa.Array]) -> Array | list[Any]:
    """One column as an array of numbers, or as a list where it has text, lists or nulls."""
    kind = chunks[0].type
    types = pa.types
    if types.is_dictionary(kind):
        if types.is_null(kind.value_type) or not _is_plain(types, kind.value_type):
            raise _wrong_type(name, kind)
        return [value for chunk in chunks for value in _decoded(chunk)]
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        if not _is_number(types, kind.value_type):
            raise _wrong_type(name, kind)
        return [value for chunk in chunks for value in chunk.to_pylist()]
    if not _is_plain(types, kind):
        raise _wrong_type(name, kind)
    if not _is_number(types, kind) or any(chunk.null_count for chunk in chunks):
        return [value for chunk in chunks for value in chunk.to_pylist()]
    parts = [chunk.to_numpy(zero_copy_only=False) for chunk in chunks]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _decoded(chunk: Any) -> list[Any]:
    """Values of a dictionary-encoded column. Only those in use are read, once each: equal rows share one object."""
    rows = chunk.indices.to_pylist()
    used = sorted({index for index in rows if index is not None})
    values = dict(zip(used, chunk.dictionary.take(used).to_pylist() if used else (), strict=True))
    return [values.get(index) for index in rows]


def _is_number(types: Any, kind: Any) -> bool:
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def _is_plain(types: Any, kind: Any) -> bool:
    """Types whose values take room in the body in proportion to their rows; views may share and so multiply it."""
    text = types.is_string(kind) or types.is_large_string(kind)
    blob = types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    return bool(_is_number(types, kind) or text or blob or types.is_null(kind))


def _wrong_type(name: str, kind: Any) -> InvalidInput:
    what = "send numbers, booleans, text, binary, or lists of numbers"
    return InvalidInput(f'column "{name[:60]}": Arrow type {str(kind)[:60]} is not taken; {what}', ("table", name[:60]))


def _stacked(columns: dict[str, Array | list[Any]]) -> Array:
    """Columns side by side, for a model whose columns have no names."""
    for name, values in columns.items():
        if not isinstance(values, np.ndarray):
            raise InvalidInput(f'column "{name[:60]}": expected numbers without nulls', ("table", name[:60]))
    return np.stack(list(columns.values()), axis=1)


def _check_messages(pa: Any, body: bytes, max_rows: int) -> None:
    """Refuses too many rows or messages, and compressed ones, by what their heads say, before anything is decoded."""
    rows = 0
    for count, message in enumerate(pa.ipc.MessageReader.open_stream(pa.py_buffer(body))):
        if count > 2 * max_rows + _MESSAGES_BESIDE_ROWS:
            raise TooLarge(f"the stream has more batches than {max_rows} rows can need")
        length, compressed = _head(message.metadata.to_pybytes())
        if compressed:
            raise UnsupportedMedia("compressed Arrow buffers are not taken; write the stream without compression")
        rows += length
        if rows:
            tensors.limit_rows(rows, max_rows)


def _head(metadata: bytes) -> tuple[int, bool]:
    """Rows of a record batch (0 for other messages) and whether its buffers are compressed (Arrow's Message.fbs)."""
    message = unpack_from("<I", metadata, 0)[0]
    kind_at, header_at = _field(metadata, message, 1), _field(metadata, message, 2)
    kind = metadata[kind_at] if kind_at and header_at else 0
    if kind not in (_RECORD_BATCH, _DICTIONARY_BATCH):
        return 0, False
    batch = header_at + unpack_from("<I", metadata, header_at)[0]
    if kind == _DICTIONARY_BATCH:
        data_at = _field(metadata, batch, 1)
        return 0, bool(data_at and _field(metadata, data_at + unpack_from("<I", metadata, data_at)[0], 3))
    length_at = _field(metadata, batch, 0)
    length = unpack_from("<q", metadata, length_at)[0] if length_at else 0
    return max(length, 0), _field(metadata, batch, 3) != 0


def _field(metadata: bytes, table: int, index: int) -> int:
    """Position of a flatbuffer table's field; 0 when it is left out."""
    vtable = table - unpack_from("<i", metadata, table)[0]
    if vtable < 0 or 4 + 2 * index + 2 > unpack_from("<H", metadata, vtable)[0]:
        return 0
    offset = unpack_from("<H", metadata, vtable + 4 + 2 * index)[0]
    return table + offset if offset else 0
