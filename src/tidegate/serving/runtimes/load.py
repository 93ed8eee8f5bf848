"""From a reference to a model that is verified, loaded, warmed and measured."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from tidegate.errors import ContractError, MissingExtra, ModelError, UserError
from tidegate.serving.runtimes.base import LoadedModel, Opened, Runtime
from tidegate.serving.runtimes.checked import checker
from tidegate.serving.runtimes.detect import detect
from tidegate.serving.runtimes.signatures import example_inputs, specs_of
from tidegate.serving.runtimes.sources import (
    Source,
    digest_of_options,
    fingerprint,
    first_line,
    require_trust,
    resolve,
    scheme_of,
    verify_digest,
)
from tidegate.settings import Trust
from tidegate.types import ModelFacts, ModelRef, Tensors

THREAD_HOP_MS = 0.1
"""What it costs to hand a batch to a thread and wake up again (40 to 120 microseconds measured under load);
a model that is quicker than that runs on the event loop."""

_WARMUP_ROWS = (1, 3)
"""One row, and a number that no graph has fixed by accident."""
_MEASURE_CALLS = 30
_MEASURE_SECONDS = 0.1

_RUNTIMES: Mapping[str, tuple[str, ...]] = {
    "onnx": ("onnx", "mlflow"),
    "sklearn": ("pickle", "skops", "mlflow"),
    "xgboost": ("xgboost", "pickle", "mlflow"),
    "lightgbm": ("lightgbm", "pickle", "mlflow"),
    "pyfunc": ("mlflow",),
    "python": ("python",),
}
"""The formats that each runtime reads, for a reference that names its runtime."""


def load_model(ref: ModelRef, trust: Trust, *, threads: int = 1) -> LoadedModel:
    """Resolves, verifies, opens, warms up and measures. ``threads`` bounds the threads inside one prediction.

    Raises ModelError and its kinds, or MissingExtra: always one line that says what to do.
    """
    started, memory = time.perf_counter(), _resident_bytes()
    opened, digest, size = open_model(ref, trust, threads=threads)
    loaded = time.perf_counter()
    runtime = opened.runtime
    try:
        with _held(ref.uri):
            warm_up(runtime, ref.uri)
            warmed = time.perf_counter()
            single_row_ms, quickest_ms = _single_row_ms(runtime)
    except BaseException:
        runtime.close()
        opened.release()
        raise
    if arm := getattr(runtime, "arm", None):
        arm()
    facts = ModelFacts(
        uri=ref.uri,
        digest=digest,
        runtime=opened.runtime_name,
        platform=runtime.platform,
        size_bytes=size,
        load_seconds=loaded - started,
        warmup_seconds=warmed - loaded,
        memory_bytes=max(_resident_bytes() - memory, 0),
        single_row_ms=single_row_ms,
        inline=runtime.inline_safe and quickest_ms < THREAD_HOP_MS,  # a busy machine only ever adds to it
        compiled=opened.compiled,
        compile_note=opened.note,
    )
    return LoadedModel(runtime=runtime, facts=facts, release=opened.release)


def open_model(ref: ModelRef, trust: Trust, *, threads: int = 1) -> tuple[Opened, str, int]:
    """The first half of ``load_model``: a model that is verified and open, with its digest and size in bytes."""
    if scheme_of(ref.uri) == "fake":
        from tidegate.serving.runtimes.fake import open_fake

        digest = digest_of_options(ref.options)
        verify_digest(ref, digest)
        return open_fake(ref.options), digest, 0
    source = resolve(ref, trust)
    try:
        digest, size = fingerprint(source.path)
        verify_digest(ref, digest)
        opened = _translated(source.where, lambda: _open(ref, source, trust, threads))
    except BaseException:
        source.release()
        raise
    # Also for those who never close it.
    removal = weakref.finalize(opened.runtime, source.release)
    return msgspec.structs.replace(opened, release=removal), digest, size


def _open(ref: ModelRef, source: Source, trust: Trust, threads: int) -> Opened:
    form, path = detect(source.path, source.where)
    if ref.runtime != "auto":
        readable = _RUNTIMES.get(ref.runtime)
        if readable is None:
            raise ModelError(
                f"{source.where}: no runtime {ref.runtime!r}; known are auto, {', '.join(_RUNTIMES)}, fake"
            )
        if form not in readable:
            raise ModelError(f"{source.where}: runtime {ref.runtime} does not read this; by its content it is {form}")
    options = ref.options
    if form == "onnx":
        from tidegate.serving.runtimes.onnx import open_onnx

        return open_onnx(path, source.where, options, threads)
    if form == "python":
        require_trust(source, "model.py")
        from tidegate.serving.runtimes.python import open_python

        return open_python(path, source.where, options)
    if form == "mlflow":
        from tidegate.serving.runtimes.pyfunc import open_mlflow

        return open_mlflow(path, source, options, trust, threads, direct=ref.runtime != "pyfunc")
    if form == "pickle":
        require_trust(source, "a pickle")
    from tidegate.serving.runtimes.sklearn import open_estimator

    known_types = None if source.trusted else trust.skops_types
    return open_estimator(form, path, source.where, options, known_types, threads)


def _translated(where: str, opening: Callable[[], Opened]) -> Opened:
    """The one place where a library's exception at load becomes ours."""
    try:
        with _held(where):
            return opening()
    except UserError:
        raise
    except ImportError as error:
        raise _missing(where, error) from error
    except MemoryError as error:
        raise ModelError(f"{where}: not enough memory to load this model") from error
    except Exception as error:
        raise ModelError(f"{where}: cannot be loaded: {type(error).__name__}: {first_line(error)}") from error


@contextlib.contextmanager
def _held(where: str) -> Iterator[None]:
    """A model's ``sys.exit`` is its failure, not the end of the process that loads it."""
    try:
        yield
    except (Exception, GeneratorExit):
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise  # the user's Ctrl-C, which never reaches another thread
        raise ModelError(
            f"{where}: the model raises {type(error).__name__}({first_line(error)}) while it loads; it must not end the process"
        ) from error


_EXTRAS = {
    "sklearn": "sklearn", "joblib": "sklearn", "skl2onnx": "sklearn", "skops": "sklearn", "pandas": "sklearn",
    "xgboost": "boosting", "lightgbm": "boosting", "onnxmltools": "boosting", "mlflow": "mlflow",
}  # fmt: skip


def _missing(where: str, error: ImportError) -> UserError:
    module = (error.name or "").split(".")[0]
    if module in _EXTRAS:
        return MissingExtra(_EXTRAS[module], f"the model {where}")
    return ModelError(
        f"{where}: the model needs the module {module or first_line(error)!r}: install it beside Tidegate"
    )


def warm_up(runtime: Runtime, where: str) -> None:
    """Runs the example, checks the answers, and completes the signature with outputs that nobody described.

    Raises ContractError: a model that fails on its own example would fail its first caller.
    """
    signature = runtime.signature
    for rows in _WARMUP_ROWS:
        try:
            outputs = settle(runtime.predict(example_inputs(signature, rows)))
        except ContractError as error:
            raise ContractError(f"{where}: {error}") from error
        except Exception as error:
            raise ContractError(
                f"{where}: the model fails on its example row {_short(signature.example)}: {type(error).__name__}: "
                f"{first_line(error)}. Declare one that it takes under options.example"
            ) from error
        if not signature.outputs:
            signature = msgspec.structs.replace(signature, outputs=_described(outputs, where))
            runtime.signature = signature
        try:
            checker(signature)(outputs, rows)
        except ContractError as error:
            raise ContractError(f"{where}: {error}") from error


def _described(outputs: Tensors, where: str) -> Any:
    if not isinstance(outputs, Mapping) or not outputs:
        raise ContractError(f"{where}: the model must return named arrays, got {type(outputs).__name__}")
    try:
        return specs_of(outputs)
    except (AttributeError, KeyError) as error:
        raise ContractError(f"{where}: an output is not an array of numbers or text") from error


def _short(example: Any) -> str:
    text = repr(example)
    return text if len(text) <= 120 else text[:117] + "..."


def settle(result: Tensors | Awaitable[Tensors]) -> Tensors:
    """The value of a prediction that may be a coroutine; for threads, also below a running event loop."""
    if not inspect.isawaitable(result):
        return result

    async def wait() -> Tensors:
        return await result

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(wait())
    answer: list[Tensors] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            answer.append(asyncio.run(wait()))
        except BaseException as error:  # noqa: BLE001 - raised again in the calling thread
            failure.append(error)

    thread = threading.Thread(target=run, name="tidegate-settle")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return answer[0]


def _single_row_ms(runtime: Runtime) -> tuple[float, float]:
    """Median and least time of one row, after the warm-up."""
    inputs = example_inputs(runtime.signature, 1)
    times: list[float] = []
    until = time.perf_counter() + _MEASURE_SECONDS
    while len(times) < _MEASURE_CALLS:
        before = time.perf_counter()
        settle(runtime.predict(inputs))
        after = time.perf_counter()
        times.append(after - before)
        if after > until:
            break
    return sorted(times)[len(times) // 2] * 1000, min(times) * 1000


def _resident_bytes() -> int:
    """Resident set of this process; 0 where the system does not tell."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize()
    return 0


def release(loaded: LoadedModel) -> None:
    """Closes a model and gives its memory back to the system where the allocator can."""
    loaded.close()
    gc.collect()
    trim_memory()


def trim_memory() -> None:
    """Asks glibc to return free pages; nothing elsewhere."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
