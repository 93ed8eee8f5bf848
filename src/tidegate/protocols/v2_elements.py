"""Elements of Open Inference Protocol tensors: bytes or JSON to flat arrays, and arrays back to either.

Elements are row-major and, as bytes, little-endian; BOOL takes one byte; BYTES is a 4-byte length and the bytes.
"""

from __future__ import annotations

import base64
import binascii
import functools
import itertools
import math
import re
import struct
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from tidegate.errors import InvalidInput, ModelFailed
from tidegate.protocols.v2_tensors import SentTensor, place_of, refused, refused_at
from tidegate.types import NUMPY_DTYPES, Array, Datatype, TensorSpec, datatype_of

Buffer = bytes | memoryview

_LITTLE_ENDIAN = {name: dtype.newbyteorder("<") for name, dtype in NUMPY_DTYPES.items()}
_JSON_TYPES: dict[str, type] = {"BYTES": str, "BOOL": bool, "FP16": float, "FP32": float, "FP64": float}
_WORDS = {"Expected": "expected", "int": "integer", "float": "number", "bool": "boolean", "str": "string"}


def read_raw(buffer: Buffer, tensor: SentTensor, spec: TensorSpec) -> Array:
    """Elements from bytes; numbers are a view on the buffer wherever it is aligned."""
    count = math.prod(tensor.shape)
    if tensor.datatype == "BYTES":
        return blobs(_split(buffer, count, tensor), spec, tensor)
    dtype = _LITTLE_ENDIAN[tensor.datatype]
    if len(buffer) != count * dtype.itemsize:
        raise InvalidInput(
            f'input "{tensor.name}": {len(buffer)} bytes of data, but shape {list(tensor.shape)} of {tensor.datatype} '
            f"takes {count * dtype.itemsize}",
            (tensor.name,),
        )
    if tensor.datatype == "BOOL":
        octets = np.frombuffer(buffer, np.uint8)
        if octets.max() > 1:
            index = int(np.flatnonzero(octets > 1)[0])
            raise refused(spec, tensor, index, f"a BOOL is the byte 0 or 1, got {octets[index]}")
        return octets.view(np.bool_)
    array = np.frombuffer(buffer, dtype)
    # The JSON part may have any length, and native code may take aligned data for granted.
    return array if array.flags.aligned and dtype.isnative else array.astype(dtype.newbyteorder("="))


def _split(buffer: Buffer, count: int, tensor: SentTensor) -> list[bytes]:
    """BYTES elements out of their length-prefixed form."""
    if len(buffer) < 4 * count:
        raise InvalidInput(
            f'input "{tensor.name}": {len(buffer)} bytes cannot hold {count} BYTES elements', (tensor.name,)
        )
    elements = []
    offset = 0
    for index in range(count):
        start = offset + 4
        if start <= len(buffer):
            offset = start + struct.unpack_from("<I", buffer, offset)[0]
        if start > len(buffer) or offset > len(buffer):
            raise InvalidInput(
                f'input "{tensor.name}": element {index} goes past the end of its {len(buffer)} bytes; each element '
                "is a 4-byte little-endian length and that many bytes",
                (tensor.name, index),
            )
        elements.append(bytes(buffer[start:offset]))
    if offset != len(buffer):
        raise InvalidInput(
            f'input "{tensor.name}": {len(buffer) - offset} bytes are left over after {count} elements', (tensor.name,)
        )
    return elements


def blobs(elements: Sequence[bytes], spec: TensorSpec, tensor: SentTensor) -> Array:
    """An object array of str, or of bytes for images and other blobs."""
    if spec.content in ("image", "binary"):
        return _objects(elements)
    texts = []
    for index, element in enumerate(elements):
        try:
            texts.append(element.decode())
        except UnicodeDecodeError as error:
            raise refused(spec, tensor, index, "the text is not UTF-8") from error
    return _objects(texts)


def _objects(elements: Sequence[str | bytes]) -> Array:
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    return array


def read_json(data: msgspec.Raw, is_base64: bool, tensor: SentTensor, spec: TensorSpec) -> Array:
    """Elements from a JSON array, flat or nested as the shape says."""
    if not len(data):
        raise InvalidInput(f'input "{tensor.name}" has neither "data" nor binary data', (tensor.name,))
    json_type = _JSON_TYPES.get(tensor.datatype, int)
    depth = _depth(data)
    if depth not in (1, len(tensor.shape)):
        raise InvalidInput(
            f'input "{tensor.name}": data must be a flat array, or nested {len(tensor.shape)} deep as its shape',
            (tensor.name,),
        )
    shape = tensor.shape if depth > 1 else (math.prod(tensor.shape),)
    try:
        values = _decoder(json_type, depth, json_type is float and spec.allow_nan).decode(data)
    except msgspec.ValidationError as error:
        raise _not_decoded(error, spec, tensor, depth) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f'input "{tensor.name}": data is not valid JSON: {error}', (tensor.name,)) from error
    return _from_values(_flatten(values, shape, tensor), is_base64, tensor, spec)


def _from_values(flat: list[Any], is_base64: bool, tensor: SentTensor, spec: TensorSpec) -> Array:
    if tensor.datatype == "BYTES":
        if spec.content == "image" or (is_base64 and spec.content == "binary"):
            return _objects([_from_base64(text, index, tensor, spec) for index, text in enumerate(flat)])
        return _objects([text.encode() for text in flat] if spec.content == "binary" else flat)
    return numbers(flat, tensor, spec)


def numbers(flat: Sequence[Any], tensor: SentTensor, spec: TensorSpec) -> Array:
    """Python numbers of the right kind as an array of ``tensor.datatype``; refuses what is out of its range."""
    dtype = NUMPY_DTYPES[tensor.datatype]
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        low, high = int(info.min), int(info.max)
        if min(flat) < low or max(flat) > high:
            index = next(i for i, value in enumerate(flat) if not low <= value <= high)
            raise refused(spec, tensor, index, f"{flat[index]} is out of the range of {tensor.datatype}")
        return np.array(flat, dtype)
    if dtype.kind != "f" or dtype.itemsize == 8:
        return np.array(flat, dtype)
    wide = np.array(flat, np.float64)
    with np.errstate(over="ignore"):
        array = wide.astype(dtype)
    overflow = np.isinf(array) & np.isfinite(wide)
    if overflow.any():
        index = int(np.flatnonzero(overflow)[0])
        raise refused(spec, tensor, index, f"{wide[index]} is out of the range of {tensor.datatype}")
    return array


def _from_base64(text: str, index: int, tensor: SentTensor, spec: TensorSpec) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise refused(spec, tensor, index, "expected base64, or send the tensor as binary data") from error


def _depth(data: msgspec.Raw) -> int:
    """How many arrays open before the first element."""
    depth = 0
    for byte in memoryview(data)[:256]:
        if byte == ord("["):
            depth += 1
        elif byte not in b" \t\r\n":
            break
    return depth


@functools.cache
def _decoder(json_type: type, depth: int, nullable: bool) -> msgspec.json.Decoder[Any]:
    element: Any = json_type | None if nullable else json_type
    for _ in range(depth):
        element = list[element]
    return msgspec.json.Decoder(element)


def _not_decoded(error: msgspec.ValidationError, spec: TensorSpec, tensor: SentTensor, depth: int) -> InvalidInput:
    """Turns "Expected `float`, got `bool` - at `$[3][1]`" into a sentence with row and column."""
    problem, _, path = str(error).partition(" - at `$")
    place = [int(index) for index in re.findall(r"\[(\d+)\]", path)]
    problem = re.sub(r"\w+", lambda word: _WORDS.get(word[0], word[0]), problem.replace("`", ""))
    if depth == 1 and place:
        return refused(spec, tensor, place[0], problem)
    return refused_at(spec, tensor, place, problem)


def _flatten(values: list[Any], shape: tuple[int, ...], tensor: SentTensor) -> list[Any]:
    level = [values]
    for axis, size in enumerate(shape):
        for index, item in enumerate(level):
            if len(item) != size:
                place = "".join(f"[{i}]" for i in place_of(index, shape[:axis])) if axis else ""
                raise InvalidInput(
                    f'input "{tensor.name}": data{place} has {len(item)} elements, but shape {list(tensor.shape)} '
                    f"takes {size}",
                    (tensor.name,),
                )
        level = level[0] if len(level) == 1 else list(itertools.chain.from_iterable(level))
    return level


def output_datatype(name: str, array: Array) -> Datatype:
    try:
        return datatype_of(array.dtype)
    except KeyError as error:
        raise ModelFailed(
            f'output "{name}" has elements of type {array.dtype}, which the protocol cannot carry'
        ) from error


def write_raw(array: Array, datatype: Datatype) -> bytes:
    if datatype != "BYTES":
        return array.astype(_LITTLE_ENDIAN[datatype], copy=False).tobytes()
    parts: list[bytes] = []
    for element in as_bytes(array):
        parts += (struct.pack("<I", len(element)), element)
    return b"".join(parts)


def as_bytes(array: Array) -> list[bytes]:
    return [
        element if isinstance(element, bytes) else str(element).encode(errors="replace")
        for element in array.ravel().tolist()
    ]


def as_json(array: Array, datatype: Datatype) -> list[Any]:
    """Flat values; texts for BYTES. Raises UnicodeDecodeError for bytes that are no text."""
    if datatype == "BYTES":
        return [element.decode() for element in as_bytes(array)]
    return array.ravel().tolist()
