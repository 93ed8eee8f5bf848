"""The seam between the data plane and a model: n rows in, n rows out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from tidegate.types import ModelFacts, Signature, Tensors


class Runtime(Protocol):
    """A loaded model. ``predict`` may be called from any thread, one call at a time per ``concurrency``."""

    platform: str
    """Name in Open Inference Protocol metadata, such as ``onnxruntime_onnx``."""

    signature: Signature

    inline_safe: bool
    """True when ``predict`` runs no foreign Python, so that it cannot hang the event loop."""

    def predict(self, inputs: Tensors) -> Tensors | Awaitable[Tensors]:
        """Maps n rows to n rows; every array has n as its first dimension. Raises what the model raises."""

    def close(self) -> None:
        """Frees the model's memory, threads and files; later calls do nothing."""


def _nothing() -> None: ...


class LoadedModel(msgspec.Struct, frozen=True):
    """A runtime that was verified, loaded and warmed, with what was found out on the way."""

    runtime: Runtime
    facts: ModelFacts
    apart: bool = False
    """Whether it runs in a process of its own."""
    release: Callable[[], object] = _nothing
    """Removes what was fetched for it."""

    @property
    def signature(self) -> Signature:
        return self.runtime.signature

    def close(self) -> None:
        """The runtime, and what was fetched for it; later calls do nothing."""
        self.runtime.close()
        self.release()


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """What a format's loader hands to ``load_model``: not yet warmed, measured or checked."""

    runtime: Runtime
    runtime_name: str
    compiled: bool = False
    note: str = ""
    graph: bytes = b""
    """The compiled graph; only as long as this record lives."""
    release: Callable[[], object] = _nothing
    """As in ``LoadedModel``."""
