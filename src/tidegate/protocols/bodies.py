"""Bytes to plain values, strictly: what two parsers could read differently is refused."""

from __future__ import annotations

import gc
import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np

from tidegate.errors import InvalidInput, MalformedBody
from tidegate.types import NUMPY_DTYPES, Array

_BOM = b"\xef\xbb\xbf"
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_WHERE = re.compile(r"byte (\d+)")
_DTYPES: Mapping[str, np.dtype[Any]] = {
    key: dtype.newbyteorder("<")
    for name, dtype in NUMPY_DTYPES.items()
    if name != "BYTES"
    for key in (name, dtype.name, dtype.str, dtype.str.lstrip("<|"))
}

_json = msgspec.json.Decoder().decode
_msgpack = msgspec.msgpack.Decoder().decode


LARGE = 64 * 1024
"""Bytes from which on a body is decoded without the garbage collector."""


def without_collector(decode: Callable[[bytes], Any], body: bytes) -> Any:
    """Decodes a large body. Its many new lists hold no cycles, and walking them takes longer than decoding them."""
    if not gc.isenabled():
        return decode(body)
    gc.disable()
    try:
        return decode(body)
    finally:
        gc.enable()


def media_type(headers: Mapping[bytes, bytes]) -> str:
    """The content type without its parameters, lower-case; JSON when absent."""
    value = headers.get(b"content-type", b"")
    return value.split(b";", 1)[0].strip().lower().decode("latin-1") or "application/json"


def read_json(body: bytes, max_depth: int, *, nan: bool = False) -> Any:
    """The value of a JSON body. A leading byte order mark is dropped; duplicate keys are an error.

    With ``nan``, the words NaN and Infinity, which Python's json module writes, are read: NaN as null.
    """
    body = body.removeprefix(_BOM)
    try:
        value = without_collector(_json, body) if len(body) > LARGE else _json(body)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"the body holds a number that no model takes: {_short(error)}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, MemoryError) as error:
        if not nan or isinstance(error, RecursionError) or not (b"NaN" in body or b"Infinity" in body):
            raise MalformedBody(_complaint(error, body)) from None
        value = _read_with_words(body)
    if _is_deeper(value, body, max_depth):
        raise MalformedBody(f"the body is nested deeper than {max_depth} levels")
    if body.count(b":") != _count_keys(value):
        _refuse_duplicates(body)
    return value


def read_object(body: bytes, max_depth: int, *, nan: bool = False) -> dict[str, Any]:
    """As ``read_json``, and the value must be an object."""
    value = read_json(body, max_depth, nan=nan)
    if type(value) is not dict:
        raise MalformedBody("the body must be a JSON object")
    return value


def read_msgpack(body: bytes, max_depth: int) -> dict[str, Any]:
    """The object of a MessagePack body. ``{"dtype", "shape", "data": bin}`` becomes an array."""
    try:
        value = without_collector(_msgpack, body) if len(body) > LARGE else _msgpack(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, MemoryError, ValueError, OverflowError) as error:
        raise MalformedBody(f"the body is not MessagePack: {_short(error)}") from None
    if type(value) is not dict:
        raise MalformedBody("the body must be a MessagePack map")
    return {_key(key): _plain(item, max_depth - 1) for key, item in value.items()}


def read_array(name: Any, shape: Any, data: Any) -> Array:
    """An array from its dtype's name, shape and little-endian row-major bytes, as a view of them."""
    dtype = _DTYPES.get(name) if isinstance(name, str) else None
    if dtype is None:
        raise InvalidInput("array: dtype must be one of " + ", ".join(NUMPY_DTYPES)[: -len(", BYTES")])
    if not isinstance(shape, list) or not all(type(n) is int and 0 <= n < 2**31 for n in shape) or len(shape) > 32:
        raise InvalidInput("array: shape must be a list of sizes")
    if not isinstance(data, bytes):
        raise InvalidInput("array: data must be binary")
    wanted = math.prod(shape) * dtype.itemsize
    if wanted != len(data):
        raise InvalidInput(f"array: shape {shape} of {name} needs {wanted} bytes, got {len(data)}")
    if dtype.kind == "b" and data.translate(None, b"\x00\x01"):
        raise InvalidInput("array: a BOOL is one byte, 0 or 1")
    return np.frombuffer(data, dtype).reshape(shape)


def _key(key: Any) -> str:
    if type(key) is not str:
        raise MalformedBody("the keys of a map must be text")
    return key


def _plain(value: Any, depth: int) -> Any:
    """The value with array maps turned into arrays; refuses what JSON has no counterpart for."""
    kind = type(value)
    if kind is list:
        if depth <= 0:
            raise MalformedBody("the body is nested too deeply")
        kinds = set(map(type, value))
        if kinds <= {int, float, str, bool, bytes, type(None)}:
            return value
        return [_plain(item, depth - 1) for item in value]
    if kind is dict:
        if depth <= 0:
            raise MalformedBody("the body is nested too deeply")
        if value.keys() == {"dtype", "shape", "data"}:
            return read_array(value["dtype"], value["shape"], value["data"])
        return {_key(key): _plain(item, depth - 1) for key, item in value.items()}
    if value is None or kind in (int, float, str, bool, bytes):
        return value
    raise MalformedBody("the body holds a MessagePack extension type; send numbers, text, lists, maps and binary only")


def _is_deeper(value: Any, body: bytes, max_depth: int) -> bool:
    """Whether a decoded body is nested deeper than ``max_depth``. Only a suspicious one is walked."""
    if body.count(b"[") + body.count(b"{") <= max_depth:
        return False
    brackets = body.translate(None, _NOT_BRACKETS)
    for _ in range(max_depth):
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if not brackets:
            return False  # brackets within texts may balance too, which only lets more pass
    level = [value] if type(value) in (list, dict) else []
    for _ in range(max_depth):
        items = (item for node in level for item in (node.values() if type(node) is dict else node))
        level = [item for item in items if type(item) in (list, dict)]
    return bool(level)


def _count_keys(value: Any) -> int:
    """Keys of all objects down to the third level; too few when there are more, which only costs a second look."""
    if type(value) is not dict:
        return 0
    total = len(value)
    for item in value.values():
        if type(item) is dict:
            total += len(item) + sum(len(inner) for inner in item.values() if type(inner) is dict)
        elif type(item) is list and item and type(item[0]) is dict:
            total += sum(len(inner) for inner in item if type(inner) is dict)
    return total


def _refuse_duplicates(body: bytes) -> None:
    def pairs(items: list[tuple[str, Any]]) -> None:
        _refuse_twice(items)

    _loads(body, object_pairs_hook=pairs, parse_int=len, parse_float=len)


def _read_with_words(body: bytes) -> Any:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        _refuse_twice(items)
        return dict(items)

    def constant(word: str) -> float | None:
        return None if word == "NaN" else float(word)

    return _loads(body, object_pairs_hook=pairs, parse_constant=constant)


def _loads(body: bytes, **hooks: Any) -> Any:
    try:
        return json.loads(body, **hooks)
    except (ValueError, RecursionError):
        raise MalformedBody("the body is not JSON") from None


def _refuse_twice(items: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    if len({name for name, _ in items}) == len(items):
        return
    for name, _ in items:
        if name in seen:
            raise MalformedBody(f'the key "{name[:60]}" is there twice in one object')
        seen.add(name)


def _complaint(error: BaseException, body: bytes) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "the body is not UTF-8 text"
    if isinstance(error, RecursionError):
        return "the body is nested too deeply"
    if isinstance(error, MemoryError):
        return "the body is not JSON that fits in memory"
    if not body.strip():
        return 'the body is empty; send JSON such as {"features": [[...]]}'
    hint = ""
    found = _WHERE.search(str(error))
    if found and body[int(found[1]) :][:9].lstrip(b"-").startswith((b"NaN", b"Inf", b"nan", b"aN", b"nfi")):
        hint = "; JSON has no NaN or Infinity, send null for a missing value"
    return f"the body is not JSON: {_short(error)}{hint}"


def _short(error: BaseException) -> str:
    """The decoder's complaint without its own prefix."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "text that is not UTF-8"
    if isinstance(error, MemoryError):
        return "larger than it can be"
    text = str(error)
    return text.removeprefix("JSON is malformed: ").removeprefix("MessagePack data is malformed: ")[:200]
