"""Messages between a server and the process of an isolated model: length, then msgpack. Data only, never code."""

from __future__ import annotations

import socket
import struct
from typing import Any

import msgspec
import numpy as np

from tidegate.types import Array, Tensors

_LENGTH = struct.Struct("<Q")
_LIMIT = 4 << 30
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder()


def send(channel: socket.socket, message: Any) -> None:
    """Raises OSError (TimeoutError too) from the socket."""
    body = _encoder.encode(message)
    channel.sendall(_LENGTH.pack(len(body)) + body if len(body) < 65_536 else _LENGTH.pack(len(body)))
    if len(body) >= 65_536:
        channel.sendall(body)


def receive(channel: socket.socket) -> Any:
    """The next message. Raises EOFError when the other side is gone, ValueError for what is no message."""
    (length,) = _LENGTH.unpack(_exactly(channel, _LENGTH.size))
    if length > _LIMIT:
        raise ValueError("message too long")
    return _decoder.decode(_exactly(channel, length))


def _exactly(channel: socket.socket, size: int) -> bytearray | bytes:
    first = channel.recv(min(size, 1 << 20))
    if len(first) == size:
        return first
    if not first:
        raise EOFError
    whole = bytearray(size)
    view = memoryview(whole)
    view[: len(first)] = first
    filled = len(first)
    while filled < size:
        count = channel.recv_into(view[filled:])
        if not count:
            raise EOFError
        filled += count
    return whole


def pack(tensors: Tensors) -> dict[str, Any]:
    """Numbers as (dtype, shape, bytes); text and blobs as (None, shape, list of str, bytes or None)."""
    packed: dict[str, Any] = {}
    for name, array in tensors.items():
        if array.dtype.kind in "OUS":
            packed[name] = (None, array.shape, array.reshape(-1).tolist())
        else:
            contiguous = np.ascontiguousarray(array)
            packed[name] = (contiguous.dtype.str, array.shape, contiguous.data if array.size else b"")
    return packed


def unpack(packed: Any) -> dict[str, Array]:
    """Raises ValueError or TypeError for what ``pack`` did not make."""
    tensors: dict[str, Array] = {}
    for name, (dtype, shape, data) in packed.items():
        if dtype is None:
            array = np.empty(len(data), object)
            array[:] = data
        else:
            array = np.frombuffer(data, np.dtype(dtype))
        tensors[name] = array.reshape(shape)
    return tensors
