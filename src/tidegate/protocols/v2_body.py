"""The body of an Open Inference Protocol ``infer`` call over HTTP: JSON, with tensors in it or as bytes behind it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tidegate.errors import InvalidInput, MalformedBody, Unsupported
from tidegate.protocols.base import Response
from tidegate.protocols.v2_elements import as_bytes, as_json, output_datatype, read_json, read_raw, write_raw
from tidegate.protocols.v2_tensors import SentTensor
from tidegate.types import NUMPY_DTYPES, Signature, Tensors

LENGTH_HEADER = b"inference-header-content-length"
"""Length of the JSON part of a body; bytes of tensors follow it."""

_NO_DATA = msgspec.Raw()


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] | None = None
    data: msgspec.Raw = _NO_DATA


class RequestedOutput(msgspec.Struct):
    name: str
    parameters: dict[str, Any] | None = None


class _Body(msgspec.Struct):
    inputs: list[_Input]
    id: str = ""
    parameters: dict[str, Any] | None = None
    outputs: list[RequestedOutput] | None = None


class InferRequest(msgspec.Struct, frozen=True):
    id: str
    parameters: Mapping[str, Any]
    inputs: Sequence[SentTensor]
    outputs: Sequence[RequestedOutput]


_BODY = msgspec.json.Decoder(_Body)
_ENCODE = msgspec.json.Encoder().encode


def read_request(body: bytes, length_header: bytes | None, signature: Signature) -> InferRequest:
    """Splits a body into its JSON and its tensors. ``length_header`` is None when all of it is JSON."""
    if length_header is None:
        parsed, tail = _parse(body), memoryview(b"")
    else:
        length = _length(length_header, len(body))
        if length == 0:
            return _whole_body(body, signature)
        parsed, tail = _parse(memoryview(body)[:length]), memoryview(body)[length:]
    parameters = parsed.parameters or {}
    refuse_unsupported(parameters, "request")
    inputs = []
    offset = 0
    for tensor in parsed.inputs:
        given = tensor.parameters or {}
        refuse_unsupported(given, f'input "{tensor.name}"')
        size = given.get("binary_data_size")
        if size is None:
            is_base64 = given.get("content_type") == "base64"
            reader = functools.partial(read_json, tensor.data, is_base64)
        else:
            if tensor.data is not _NO_DATA:
                raise InvalidInput(f'input "{tensor.name}" has both "data" and "binary_data_size"', (tensor.name,))
            _check_size(size, len(tail) - offset, tensor.name)
            reader = functools.partial(read_raw, tail[offset : offset + size])
            offset += size
        inputs.append(SentTensor(tensor.name, tensor.datatype, tuple(tensor.shape), reader, size is not None))
    if offset != len(tail):
        raise MalformedBody(f"{len(tail) - offset} bytes follow the tensors that the JSON part declares")
    outputs = parsed.outputs or ()
    for output in outputs:
        refuse_unsupported(output.parameters or {}, f'output "{output.name}"')
    return InferRequest(parsed.id, parameters, inputs, outputs)


def _parse(text: bytes | memoryview) -> _Body:
    try:
        return _BODY.decode(text)
    except msgspec.ValidationError as error:
        raise MalformedBody(f"not an inference request: {str(error).replace('`', '')}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedBody(f"the JSON part cannot be read: {error}") from error
    except RecursionError as error:
        raise MalformedBody("the JSON part is nested too deeply") from error


def _length(header: bytes, body_length: int) -> int:
    if not header.isdigit() or len(header) > 18:
        raise MalformedBody("Inference-Header-Content-Length must be a number of bytes")
    length = int(header)
    if length > body_length:
        raise MalformedBody(f"Inference-Header-Content-Length is {length}, but the body has {body_length} bytes")
    return length


def _check_size(size: object, left: int, name: str) -> None:
    if type(size) is not int or size < 0:
        raise InvalidInput(f'input "{name}": binary_data_size must be a number of bytes', (name,))
    if size > left:
        raise InvalidInput(
            f'input "{name}": binary_data_size is {size}, but {left} bytes are left in the body', (name,)
        )


def _whole_body(body: bytes, signature: Signature) -> InferRequest:
    """The body is the one input; its row count follows from its length. A BYTES input is one bare element."""
    if len(signature.inputs) != 1:
        raise InvalidInput(
            f"Inference-Header-Content-Length 0 is for models with one input; this one has {len(signature.inputs)}"
        )
    spec = signature.inputs[0]
    if spec.datatype == "BYTES":
        body = len(body).to_bytes(4, "little") + body
        shape: tuple[int, ...] = (1,) * len(spec.shape)
    else:
        if -1 in spec.shape[1:]:
            raise InvalidInput(
                f'input "{spec.name}" has variable dimensions; send its shape in a JSON part', (spec.name,)
            )
        row = NUMPY_DTYPES[spec.datatype].itemsize
        for size in spec.shape[1:]:
            row *= size
        if len(body) % row or not body:
            raise InvalidInput(
                f'input "{spec.name}": {len(body)} bytes are not a whole number of rows of {row} bytes', (spec.name,)
            )
        shape = (len(body) // row, *spec.shape[1:])
    reader = functools.partial(read_raw, body)
    tensor = SentTensor(spec.name, spec.datatype, shape, reader)
    return InferRequest("", {"binary_data_output": True}, (tensor,), ())


def refuse_unsupported(parameters: Mapping[str, Any], place: str) -> None:
    """Parameters of extensions that are not offered change what a request means, so they are not ignored."""
    for name in parameters:
        if name.startswith("shared_memory") or name == "classification" or (name == "sequence_id" and parameters[name]):
            raise Unsupported(f'{place}: the parameter "{name}" belongs to an extension that is not offered')


def select(requested: Sequence[RequestedOutput], known: Sequence[str]) -> Sequence[str]:
    """Names of the outputs to answer with, in the order asked for; all when none were named."""
    if not requested:
        return known
    for output in requested:
        if output.name not in known:
            names = ", ".join(f'"{name}"' for name in known)
            raise InvalidInput(f'unknown output "{output.name}"; the model gives {names}', ("outputs", output.name))
    return list(dict.fromkeys(output.name for output in requested))


def write_response(
    request: InferRequest, outputs: Tensors, model: str, version: str, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> Response:
    """The answer, its tensors as JSON or as bytes behind it, whichever was asked for each."""
    document: dict[str, Any] = {"model_name": model, "model_version": version}
    if request.id:
        document["id"] = request.id
    as_binary = request.parameters.get("binary_data_output") is True
    wishes = {o.name: (o.parameters or {}).get("binary_data", as_binary) is True for o in request.outputs}
    described = document["outputs"] = []
    parts: list[bytes] = []
    for name in select(request.outputs, tuple(outputs)):
        array = outputs[name]
        datatype = output_datatype(name, array)
        tensor: dict[str, Any] = {"name": name, "datatype": datatype, "shape": array.shape}
        if wishes.get(name, as_binary):
            raw = write_raw(array, datatype)
            parts.append(raw)
            tensor["parameters"] = {"binary_data_size": len(raw)}
        else:
            try:
                tensor["data"] = as_json(array, datatype)
            except UnicodeDecodeError:
                tensor["parameters"] = {"content_type": "base64"}
                tensor["data"] = as_bytes(array)  # the encoder makes base64 of bytes
        described.append(tensor)
    text = _ENCODE(document)
    if not parts:
        return Response(text, headers=((b"content-type", b"application/json"), *headers))
    return Response(
        b"".join((text, *parts)),
        headers=(
            (b"content-type", b"application/octet-stream"),
            (LENGTH_HEADER, b"%d" % len(text)),
            *headers,
        ),
    )
