"""What the JSON part of a binary ``infer`` request asks for, remembered by its bytes.

Clients that send raw tensors repeat the same JSON part with other tensors behind it; reading it again costs more than
the tensors do. Only requests that went through the full checks once are remembered.
"""

from __future__ import annotations

import numpy as np

from tidegate.protocols.v2_body import InferRequest
from tidegate.protocols.v2_tensors import SentTensor
from tidegate.serving.live import Endpoint
from tidegate.serving.runtimes.checked import finite
from tidegate.types import NUMPY_DTYPES, Array, Signature, Tensors

_MOST = 256
_LONGEST = 1024


class _Slice:
    """Where one input lies behind the JSON part, and as what."""

    __slots__ = ("check", "count", "dtype", "name", "offset", "shape")

    def __init__(self, name: str, dtype: np.dtype[np.generic], shape: tuple[int, ...], offset: int, check: bool):
        self.name = name
        self.dtype = dtype
        self.shape = shape
        self.offset = offset
        self.count = int(np.prod(shape))
        self.check = check


class Recipe:
    __slots__ = ("_size", "_slices", "endpoint", "request", "rows")

    def __init__(self, endpoint: Endpoint, request: InferRequest, rows: int, slices: list[_Slice]) -> None:
        self.endpoint = endpoint
        self.request = request
        self.rows = rows
        self._slices = slices
        self._size = sum(one.count * one.dtype.itemsize for one in slices)

    def read(self, body: bytes, start: int) -> Tensors | None:
        """The inputs as views of the body; None for what the full checks have to put into words."""
        if len(body) - start != self._size:
            return None
        inputs: dict[str, Array] = {}
        for one in self._slices:
            array: Array = np.frombuffer(body, one.dtype, one.count, start + one.offset).reshape(one.shape)
            if not array.flags.aligned:
                array = array.copy()
            if one.check and not finite(array):
                return None
            inputs[one.name] = array
        return inputs


class Recipes:
    """Recipes by endpoint, version and JSON part; a bounded number of short ones."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, bytes], Recipe] = {}

    def find(self, endpoint: Endpoint, version: str, head: bytes) -> Recipe | None:
        recipe = self._known.get((endpoint.name, version, head))
        return recipe if recipe is not None and recipe.endpoint is endpoint else None

    def remember(
        self, endpoint: Endpoint, version: str, head: bytes, request: InferRequest, signature: Signature
    ) -> None:
        slices = _slices(request, signature)
        if slices is None or len(head) > _LONGEST:
            return
        if len(self._known) >= _MOST:
            self._known.clear()
        rows = request.inputs[0].shape[0]
        self._known[(endpoint.name, version, head)] = Recipe(endpoint, request, rows, slices)


def _slices(request: InferRequest, signature: Signature) -> list[_Slice] | None:
    """None for requests that are more than raw numbers of the model's own types and shapes."""
    specs = {spec.name: spec for spec in signature.inputs}
    if request.id:
        return None
    slices, offset = [], 0
    for tensor in request.inputs:
        spec = specs.get(tensor.name)
        if (
            spec is None
            or not _is_plain(tensor)
            or spec.datatype != tensor.datatype
            or len(spec.shape) != len(tensor.shape)
        ):
            return None
        dtype = NUMPY_DTYPES[spec.datatype].newbyteorder("<")
        slices.append(_Slice(spec.name, dtype, tensor.shape, offset, dtype.kind == "f" and not spec.allow_nan))
        offset += slices[-1].count * dtype.itemsize
    return slices


def _is_plain(tensor: SentTensor) -> bool:
    return tensor.is_raw and tensor.datatype not in ("BYTES", "BOOL")
