"""From decoded plain values to the Tensors of a signature. Pure; rows are counted from 0 in every error.

A matrix model takes rows of numbers, or named columns where it knows their names; a table model takes named columns,
or rows whose values stand in the order of its columns; any model takes its inputs by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from tidegate.errors import InvalidInput, TooLarge
from tidegate.protocols import arrays
from tidegate.protocols.arrays import Locate
from tidegate.protocols.examples import accepted
from tidegate.types import Array, Signature, Tensors, TensorSpec


def rows_of(tensors: Tensors) -> int:
    """Rows of the first tensor; all have the same number once they came from this module."""
    for array in tensors.values():
        return len(array)
    return 0


def limit_rows(rows: int, max_rows: int | None) -> None:
    """Refuses none and too many."""
    if rows == 0:
        raise InvalidInput("the request has no rows; send at least one")
    if max_rows is not None and rows > max_rows:
        raise TooLarge(f"the request has {rows} rows; this endpoint takes at most {max_rows} in one request")


def from_matrix(rows: Any, signature: Signature, *, form: str = "features", max_rows: int | None = None) -> Tensors:
    """Rows of values in column order, ``[[...], ...]``."""
    if isinstance(rows, np.ndarray):
        return check({"": rows}, signature, form=form, max_rows=max_rows)
    _need_list(rows, form, signature)
    limit_rows(len(rows), max_rows)
    if len(signature.inputs) == 1:
        spec = signature.inputs[0]
        if len(spec.shape) == 1 and set(map(type, rows)) == {list}:
            rows = _single(rows, signature, form)
        elif len(spec.shape) > 1 and type(rows[0]) not in (list, tuple):
            what = f"row 0: expected a list of values, got {arrays.show(rows[0])}"
            raise InvalidInput(f"{what}. {accepted(signature)}", (form, 0))
        try:
            return {spec.name: _listed(rows, spec, _by_row(form, spec.columns, _scalar(spec, signature)))}
        except InvalidInput as error:
            if error.errors:
                raise
            raise InvalidInput(f"{error}. {accepted(signature)}", error.loc) from None
    if not signature.is_table:
        raise _wrong_form(form, signature)
    return _from_positions(rows, signature, form)


def from_records(records: Any, signature: Signature, *, form: str = "records", max_rows: int | None = None) -> Tensors:
    """Rows as objects, ``[{column: value}, ...]``."""
    _need_list(records, form, signature)
    limit_rows(len(records), max_rows)
    if set(map(type, records)) != {dict}:
        row = next(i for i, record in enumerate(records) if type(record) is not dict)
        what = f"row {row}: expected an object with one value per column, got {arrays.show(records[row])}"
        raise InvalidInput(f"{what}. {accepted(signature)}", (form, row))
    specs = _named_specs(signature, form)
    names = tuple(specs)
    required = {name for name, spec in specs.items() if spec.required}
    for row, record in enumerate(records):
        keys = record.keys()
        if len(record) != len(names) or keys - required:
            missing, unknown = required - keys, keys - specs.keys()
            if missing or unknown:
                _refuse_names(f"row {row}: ", (form, row), names, missing, unknown, signature)
    if len(required) == len(names):
        columns: Iterable[Sequence[Any] | None] = zip(*map(_getter(names), records), strict=True)
    else:
        columns = [_optional(records, name, specs[name]) for name in names]
    given = {name: values for name, values in zip(names, columns, strict=True) if values is not None}
    return _from_named(given, signature, lambda name: _by_record(form, name))


def from_columns(mapping: Any, signature: Signature, *, form: str = "inputs", max_rows: int | None = None) -> Tensors:
    """Arrays by input or column name, ``{name: [...], ...}``; a typed array may stand for a list."""
    if not isinstance(mapping, dict):
        if isinstance(mapping, list | np.ndarray) and len(signature.inputs) == 1:
            return from_matrix(mapping, signature, form=form, max_rows=max_rows)
        raise InvalidInput(
            f"{form}: expected an object of arrays, got {arrays.show(mapping)}. {accepted(signature)}", (form,)
        )
    if len(signature.inputs) == 1 and mapping.keys() == {signature.inputs[0].name}:
        spec = signature.inputs[0]
        if not (spec.columns == (spec.name,) and not _nested(mapping[spec.name])):
            return _whole(mapping[spec.name], spec, signature, form, max_rows)
    specs = _named_specs(signature, form)
    required = {name for name, spec in specs.items() if spec.required}
    missing, unknown = required - mapping.keys(), mapping.keys() - specs.keys()
    if missing or unknown:
        _refuse_names("", (form,), tuple(specs), missing, unknown, signature)
    lengths: dict[str, int] = {}
    for name, values in mapping.items():
        if not isinstance(values, list | np.ndarray) or (isinstance(values, np.ndarray) and values.ndim == 0):
            what = f'column "{name}": expected a list with one value per row, got {arrays.show(values)}'
            raise InvalidInput(what, (form, name))
        lengths[name] = len(values)
    _same_lengths(lengths, form, max_rows)
    given = {name: mapping[name] for name in specs if name in mapping}
    return _from_named(given, signature, lambda name: _by_column(form, name))


def from_frame(
    columns: Any, data: Any, signature: Signature, *, form: str = "dataframe_split", max_rows: int | None = None
) -> Tensors:
    """Column names beside rows of values, in any order of the columns."""
    _need_list(data, form, signature)
    if not isinstance(columns, list) or not all(isinstance(name, str | int) for name in columns):
        raise InvalidInput(f"{form}: columns must be a list of names", (form, "columns"))
    limit_rows(len(data), max_rows)
    names = [str(name) for name in columns]
    for row, values in enumerate(data):
        if type(values) is not list or len(values) != len(names):
            got = f"{len(values)} values" if type(values) is list else arrays.show(values)
            raise InvalidInput(
                f"row {row}: expected {len(names)} values, one per column, got {got}", (form, "data", row)
            )
    if signature.is_matrix and not signature.columns:
        return from_matrix(data, signature, form=form, max_rows=max_rows)
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidInput(f'column "{twice}" is named twice', (form, "columns"))
    specs = _named_specs(signature, form)
    required = {name for name, spec in specs.items() if spec.required}
    missing, unknown = required - set(names), set(names) - specs.keys()
    if missing or unknown:
        _refuse_names("", (form, "columns"), tuple(specs), missing, unknown, signature)
    by_name = dict(zip(names, zip(*data, strict=True), strict=True))
    position = {name: index for index, name in enumerate(names)}
    given = {name: by_name[name] for name in specs if name in by_name}
    return _from_named(given, signature, lambda name: _by_frame(form, name, position[name]))


def from_instances(
    instances: Any, signature: Signature, *, form: str = "instances", max_rows: int | None = None
) -> Tensors:
    """A list of rows, each a list of values, an object by column, or the only input's bare value."""
    if isinstance(instances, list) and instances and isinstance(instances[0], dict):
        spec = signature.inputs[0]
        blob = len(signature.inputs) == 1 and spec.content in ("image", "binary") and instances[0].keys() == {"b64"}
        if not blob:
            return from_records(instances, signature, form=form, max_rows=max_rows)
    return from_matrix(instances, signature, form=form, max_rows=max_rows)


def from_texts(texts: Any, signature: Signature, *, form: str = "texts", max_rows: int | None = None) -> Tensors:
    """One text, or a list of them, for a model whose only input is text."""
    return _from_only(texts, signature, "text", form, max_rows)


def from_images(images: Any, signature: Signature, *, form: str = "images", max_rows: int | None = None) -> Tensors:
    """Image files as bytes or base64 text, for a model whose only input is an image."""
    return _from_only(images, signature, "image", form, max_rows)


def check(
    tensors: Mapping[str, Array], signature: Signature, *, form: str = "inputs", max_rows: int | None = None
) -> Tensors:
    """Arrays that came typed, by input or column name: names, shapes, castable datatypes, ranges, finite values.

    The name "" stands for the only input. Integers become floats and floats narrower floats; floats become integers
    only when whole. Booleans and numbers do not mix.
    """
    if tensors.keys() == {""} and len(signature.inputs) == 1:
        tensors = {signature.inputs[0].name: tensors[""]}
    return from_columns(dict(tensors), signature, form=form, max_rows=max_rows)


def is_text(signature: Signature) -> bool:
    """True when the only input is one text per row."""
    if len(signature.inputs) != 1:
        return False
    spec = signature.inputs[0]
    return spec.datatype == "BYTES" and spec.content not in ("image", "binary") and spec.shape[1:] in ((), (1,))


def _from_only(values: Any, signature: Signature, content: str, form: str, max_rows: int | None) -> Tensors:
    wanted = [
        spec for spec in signature.inputs
        if spec.datatype == "BYTES" and (spec.content == "image") == (content == "image") and spec.content != "binary"
    ]  # fmt: skip
    if len(signature.inputs) != 1 or len(wanted) != 1:
        raise _wrong_form(form, signature)
    if isinstance(values, str | bytes):
        values = [values]
    _need_list(values, form, signature)
    limit_rows(len(values), max_rows)
    return {wanted[0].name: _listed(values, wanted[0], _by_row(form, (), scalar=True))}


def _whole(values: Any, spec: TensorSpec, signature: Signature, form: str, max_rows: int | None) -> Tensors:
    """The only input, as one nested list or array."""
    locate = _by_name(form, spec)
    if isinstance(values, np.ndarray):
        if values.ndim == 0:
            raise InvalidInput(f'input "{spec.name}": expected shape {list(spec.shape)}, got []', (form, spec.name))
        limit_rows(len(values), max_rows)
        return {spec.name: arrays.cast(values, spec, locate)}
    if not isinstance(values, list):
        what = f'input "{spec.name}": expected a list of rows, got {arrays.show(values)}'
        raise InvalidInput(f"{what}. {accepted(signature)}", (form, spec.name))
    limit_rows(len(values), max_rows)
    return {spec.name: _listed(values, spec, locate)}


def _listed(values: Sequence[Any], spec: TensorSpec, locate: Locate) -> Array:
    """A list as an array; bare values may stand for rows of one value, and the other way round."""
    if len(spec.shape) > 1 and spec.shape[1:] != (1,):
        return arrays.to_array(values, spec, locate)
    if values and all(type(value) is list and len(value) == 1 for value in values):
        values = [value[0] for value in values]
    return arrays.to_array(values, _column_spec(spec), locate).reshape(-1, *spec.shape[1:])


def _from_named(given: Mapping[str, Any], signature: Signature, place: Any) -> Tensors:
    """Columns or inputs by name, already complete and of one length."""
    if not signature.is_matrix:
        specs = {spec.name: spec for spec in signature.inputs}
        return {
            name: arrays.cast(values, specs[name], place(name))
            if isinstance(values, np.ndarray)
            else _listed(values, specs[name], place(name))
            for name, values in given.items()
        }
    spec = signature.inputs[0]
    if any(isinstance(values, np.ndarray) for values in given.values()):
        column = _column_spec(spec)
        parts = [
            arrays.cast(values, column, place(name))
            if isinstance(values, np.ndarray)
            else arrays.to_array(values, column, place(name))
            for name, values in given.items()
        ]
        return {spec.name: np.stack(parts, axis=1)}
    names = list(given)

    def locate(index: tuple[int, ...]) -> tuple[str, tuple[Any, ...]]:
        words, loc = place(names[index[1]] if len(index) > 1 else names[0])(index[:1])
        return words, loc

    return {spec.name: arrays.to_array(list(zip(*given.values(), strict=True)), spec, locate)}


def _from_positions(rows: Sequence[Any], signature: Signature, form: str) -> Tensors:
    specs = signature.inputs
    for row, values in enumerate(rows):
        if type(values) is not list or len(values) != len(specs):
            got = f"{len(values)} values" if type(values) is list else arrays.show(values)
            what = f"row {row}: expected {len(specs)} values, one per column, got {got}"
            raise InvalidInput(f"{what}. {accepted(signature)}", (form, row))
    tensors: dict[str, Array] = {}
    for index, (spec, values) in enumerate(zip(specs, zip(*rows, strict=True), strict=True)):
        tensors[spec.name] = _listed(values, spec, _by_position(form, spec.name, index))
    return tensors


def _single(rows: Sequence[Any], signature: Signature, form: str) -> list[Any]:
    """Rows of one value each, without their lists."""
    for row, values in enumerate(rows):
        if len(values) != 1:
            raise InvalidInput(f"row {row}: expected 1 value, got {len(values)}. {accepted(signature)}", (form, row))
    return [values[0] for values in rows]


def _named_specs(signature: Signature, form: str) -> dict[str, TensorSpec]:
    """What may be given by name: the columns of a matrix, or the inputs."""
    if not signature.is_matrix:
        return {spec.name: spec for spec in signature.inputs}
    if not signature.columns:
        raise InvalidInput(f"{form}: the columns of this model have no names. {accepted(signature)}", (form,))
    column = _column_spec(signature.inputs[0])
    return dict.fromkeys(signature.columns, column)


def _column_spec(spec: TensorSpec) -> TensorSpec:
    return TensorSpec(spec.name, spec.datatype, (-1,), spec.content, True, spec.allow_nan)


def _optional(records: Sequence[Mapping[str, Any]], name: str, spec: TensorSpec) -> list[Any] | None:
    """A column that rows may leave out; None when it is optional and nobody gives it."""
    values = [record.get(name) for record in records]
    return None if not spec.required and all(value is None for value in values) else values


def _getter(names: tuple[str, ...]) -> Any:
    if len(names) == 1:
        name = names[0]
        return lambda record: (record[name],)
    return itemgetter(*names)


def _nested(values: Any) -> bool:
    return bool(len(values)) and isinstance(values[0], list | tuple) if isinstance(values, list | tuple) else (
        isinstance(values, np.ndarray) and values.ndim > 1
    )  # fmt: skip


def _scalar(spec: TensorSpec, signature: Signature) -> bool:
    return len(spec.shape) == 1 or is_text(signature)


def _same_lengths(lengths: Mapping[str, int], form: str, max_rows: int | None) -> None:
    first = next(iter(lengths), "")
    for name, length in lengths.items():
        if length != lengths[first]:
            what = f'column "{name}" has {length} rows, but column "{first}" has {lengths[first]}'
            raise InvalidInput(what, (form, name))
    limit_rows(lengths.get(first, 0), max_rows)


def _need_list(values: Any, form: str, signature: Signature) -> None:
    if not isinstance(values, list):
        raise InvalidInput(
            f"{form}: expected a list of rows, got {arrays.show(values)}. {accepted(signature)}", (form,)
        )


def _wrong_form(form: str, signature: Signature) -> InvalidInput:
    return InvalidInput(f"{form} does not fit this model. {accepted(signature)}", (form,))


def _refuse_names(
    where: str,
    loc: tuple[str | int, ...],
    names: Sequence[str],
    missing: Iterable[str],
    unknown: Iterable[Any],
    signature: Signature,
) -> None:
    missing = [name for name in names if name in set(missing)]
    strangers = [str(name)[:60] for name in unknown]
    parts = []
    if missing:
        parts.append(f"missing column{'s' * (len(missing) > 1)} {_quoted(missing)}")
    if strangers:
        parts.append(f"unknown column{'s' * (len(strangers) > 1)} {_quoted(strangers)}")
    errors = [{"loc": (*loc, name), "msg": "missing column"} for name in missing[:10]]
    errors += [{"loc": (*loc, name), "msg": "unknown column"} for name in strangers[:10]]
    raise InvalidInput(f"{where}{' and '.join(parts)}. {accepted(signature)}", loc, errors)


def _quoted(names: Sequence[str]) -> str:
    shown = ", ".join(f'"{name}"' for name in names[:10])
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10} more"


def _by_row(form: str, columns: Sequence[str], scalar: bool = False) -> Locate:
    def locate(index: tuple[int, ...]) -> tuple[str, tuple[Any, ...]]:
        loc = (form, *index)
        if not index:
            return form, loc
        if len(index) == 1 or scalar:
            return f"row {index[0]}", (form, index[0])
        if len(index) > 2:
            return f"row {index[0]}, position {list(index[1:])}", loc
        name = f'"{columns[index[1]]}"' if index[1] < len(columns) else str(index[1])
        return f"row {index[0]}, column {name}", loc

    return locate


def _by_record(form: str, name: str) -> Locate:
    return _at(name, (form,), (name,))


def _by_column(form: str, name: str) -> Locate:
    return _at(name, (form, name), ())


def _by_position(form: str, name: str, column: int) -> Locate:
    return _at(name, (form,), (column,))


def _by_frame(form: str, name: str, column: int) -> Locate:
    return _at(name, (form, "data"), (column,))


def _by_name(form: str, spec: TensorSpec) -> Locate:
    plain = _by_row(form, spec.columns, scalar=len(spec.shape) == 1)

    def locate(index: tuple[int, ...]) -> tuple[str, tuple[Any, ...]]:
        return f'input "{spec.name}"' if not index else plain(index)[0], (form, spec.name, *index)

    return locate


def _at(name: str, before: tuple[str | int, ...], after: tuple[str | int, ...]) -> Locate:
    """Places of one column, whose paths are ``before``, the row, ``after``, the rest of the index."""

    def locate(index: tuple[int, ...]) -> tuple[str, tuple[Any, ...]]:
        return _cell(index, name), (*before, *index[:1], *after, *index[1:])

    return locate


def _cell(index: tuple[int, ...], name: str) -> str:
    if not index:
        return f'column "{name}"'
    inner = f", position {list(index[1:])}" if len(index) > 1 else ""
    return f'row {index[0]}, column "{name}"{inner}'
