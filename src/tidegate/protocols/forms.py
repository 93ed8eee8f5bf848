"""Decoded body objects to tensors: which form a request uses, and what goes beside it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from tidegate.errors import InvalidInput
from tidegate.protocols import examples, tensors
from tidegate.protocols.arrays import show
from tidegate.types import Signature, Tensors

FORMS: Mapping[str, Callable[..., Tensors]] = {
    "features": tensors.from_matrix,
    "records": tensors.from_records,
    "text": tensors.from_texts,
    "texts": tensors.from_texts,
    "instances": tensors.from_instances,
    "inputs": tensors.from_columns,
    "images": tensors.from_images,
}
"""Keys of a native body, of which a request uses exactly one."""

MLFLOW_FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")

_BESIDE = {"units", "params"}
LONGEST_UNIT = 256


def read_form(body: Mapping[str, Any], signature: Signature, max_rows: int) -> tuple[Tensors, tuple[str, ...]]:
    """Tensors and units of a native body. Raises InvalidInput or TooLarge."""
    form = _only_form(body, FORMS, signature, _BESIDE)
    inputs = FORMS[form](body[form], signature, form=form, max_rows=max_rows)
    params = body.get("params")
    if params:
        raise InvalidInput("params: this model takes no parameters", ("params",))
    return inputs, read_units(body.get("units"), tensors.rows_of(inputs))


def read_mlflow_form(body: Mapping[str, Any], signature: Signature, max_rows: int) -> Tensors:
    """Tensors of an MLflow scoring body; ``params`` are left aside, as MLflow does for models that declare none."""
    form = _only_form(body, MLFLOW_FORMS, signature, {"params"})
    value = body[form]
    if form == "dataframe_split":
        if not isinstance(value, dict) or not {"columns", "data"} <= value.keys():
            raise InvalidInput('dataframe_split: expected {"columns": [...], "data": [[...]]}', (form,))
        return tensors.from_frame(value["columns"], value["data"], signature, form=form, max_rows=max_rows)
    if form == "dataframe_records":
        return tensors.from_records(value, signature, form=form, max_rows=max_rows)
    if form == "instances":
        return tensors.from_instances(value, signature, form=form, max_rows=max_rows)
    return tensors.from_columns(value, signature, form=form, max_rows=max_rows)


def read_units(units: Any, rows: int) -> tuple[str, ...]:
    """One unit per row, or none at all."""
    if units is None:
        return ()
    if not isinstance(units, list) or len(units) != rows:
        got = f"{len(units)} units" if isinstance(units, list) else show(units)
        raise InvalidInput(f"units: expected one text per row ({rows}), got {got}", ("units",))
    for row, unit in enumerate(units):
        if not isinstance(unit, str) or len(unit) > LONGEST_UNIT:
            raise InvalidInput(
                f"units: row {row}: expected a text of at most {LONGEST_UNIT} characters", ("units", row)
            )
    return tuple(units)


def _only_form(body: Mapping[str, Any], forms: Collection[str], signature: Signature, beside: set[str]) -> str:
    given = [name for name in forms if name in body]
    unknown = [name for name in body if name not in forms and name not in beside]
    if len(given) == 1 and not unknown:
        return given[0]
    listed = ", ".join(forms)
    if unknown:
        what = f"unknown key {show(unknown[0])}; the body takes one of {listed}"
        raise InvalidInput(f"{what}. {examples.accepted(signature)}", (unknown[0][:60],))
    what = f"{' and '.join(given)} may not be mixed" if given else "the body has none of the keys that hold rows"
    raise InvalidInput(f"{what}; send exactly one of {listed}. {examples.accepted(signature)}")
