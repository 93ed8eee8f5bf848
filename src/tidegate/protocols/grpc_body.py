"""ModelInfer messages to tensors and back. Typed contents and raw contents are two forms of the same; they never mix."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

from tidegate.errors import InvalidInput
from tidegate.protocols.v2_body import InferRequest, RequestedOutput, refuse_unsupported, select
from tidegate.protocols.v2_elements import as_bytes, blobs, numbers, output_datatype, read_raw, write_raw
from tidegate.protocols.v2_tensors import SentTensor
from tidegate.types import Array, Tensors, TensorSpec

CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""The typed field of each datatype; FP16 has none and is always raw."""


def read_request(message: Any) -> InferRequest:
    """Names and shapes are read now, elements when they are known to fit."""
    parameters = _parameters(message.parameters)
    refuse_unsupported(parameters, "request")
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise InvalidInput(f"{len(message.inputs)} inputs, but {len(raw)} raw_input_contents")
    inputs = []
    for index, tensor in enumerate(message.inputs):
        refuse_unsupported(_parameters(tensor.parameters), f'input "{tensor.name}"')
        if not raw:
            read = functools.partial(_read_typed, tensor.contents)
        elif tensor.HasField("contents") and tensor.contents.ListFields():
            raise InvalidInput(f'input "{tensor.name}" has typed contents beside raw_input_contents', (tensor.name,))
        else:
            read = functools.partial(read_raw, raw[index])
        inputs.append(SentTensor(tensor.name, tensor.datatype, tuple(tensor.shape), read))
    outputs = []
    for output in message.outputs:
        given = _parameters(output.parameters)
        refuse_unsupported(given, f'output "{output.name}"')
        outputs.append(RequestedOutput(output.name, given))
    if raw:
        parameters["binary_data_output"] = True
    return InferRequest(message.id, parameters, inputs, outputs)


def _parameters(entries: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in entries.items():
        choice = value.WhichOneof("parameter_choice")
        found[name] = getattr(value, choice) if choice else None
    return found


def _read_typed(contents: Any, tensor: SentTensor, spec: TensorSpec) -> Array:
    field = CONTENTS.get(tensor.datatype)
    if field is None:
        raise InvalidInput(f'input "{tensor.name}": {tensor.datatype} goes into raw_input_contents', (tensor.name,))
    values = getattr(contents, field)
    count = math.prod(tensor.shape)
    if len(values) != count:
        raise InvalidInput(
            f'input "{tensor.name}": {len(values)} {field}, but shape {list(tensor.shape)} takes {count}',
            (tensor.name,),
        )
    if tensor.datatype == "BYTES":
        return blobs(values, spec, tensor)
    return numbers(values, tensor, spec)


def write_response(
    classes: Mapping[str, Any], request: InferRequest, outputs: Tensors, model: str, version: str
) -> Any:
    """Raw answers to raw requests and where asked for or needed; typed ones otherwise."""
    names = select(request.outputs, tuple(outputs))
    datatypes = {name: output_datatype(name, outputs[name]) for name in names}
    raw = (
        request.parameters.get("binary_data_output") is True
        or any((output.parameters or {}).get("binary_data") is True for output in request.outputs)
        or "FP16" in datatypes.values()
    )
    answer = classes["ModelInferResponse"](model_name=model, model_version=version, id=request.id)
    for name in names:
        array, datatype = outputs[name], datatypes[name]
        tensor = answer.outputs.add(name=name, datatype=datatype, shape=array.shape)
        if raw:
            answer.raw_output_contents.append(write_raw(array, datatype))
        else:
            values = as_bytes(array) if datatype == "BYTES" else array.ravel().tolist()
            getattr(tensor.contents, CONTENTS[datatype]).extend(values)
    return answer
