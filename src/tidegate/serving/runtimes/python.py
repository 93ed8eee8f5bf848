"""A user's folder with ``model.py``: any Python, held to the contract at load and at each call.

The class (``Model``, or ``options.class``) has ``predict(inputs)``, which may be ``async``, and optionally
``load(path)``, ``close()`` and ``signature``. ``inputs`` maps names to arrays with one row each per row; the answer is
a mapping of the same kind, or one array when there is one output.
"""

from __future__ import annotations

import gc
import importlib.util
import inspect
import itertools
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tidegate.errors import ContractError, ModelError
from tidegate.serving.runtimes.base import Opened
from tidegate.serving.runtimes.checked import checker
from tidegate.serving.runtimes.coroutines import Coroutines
from tidegate.serving.runtimes.signatures import overlay, parse_signature, with_example
from tidegate.serving.runtimes.sources import first_line
from tidegate.types import Array, Signature, Tensors

_numbers = itertools.count(1)
_importing = threading.RLock()
"""``sys.path`` and ``sys.modules`` belong to the process: one model is imported at a time."""


def open_python(folder: Path, where: str, options: Mapping[str, Any]) -> Opened:
    """Imports, checks the contract, calls ``load``. Raises ContractError that says what is missing, or ModelError."""
    name = f"tidegate_model_{next(_numbers)}"
    coroutines = Coroutines()
    try:
        model = _build(folder, where, name, str(options.get("class", "Model")), coroutines)
        signature = _signature(model, where, options)
    except BaseException:
        coroutines.close()
        _forget(name)
        raise
    return Opened(runtime=PythonRuntime(model, signature, name, where, coroutines), runtime_name="python")


def _build(folder: Path, where: str, name: str, class_name: str, coroutines: Coroutines) -> Any:
    with _imports_from(folder):
        module = _imported(folder, where, name)
        kind: Any = getattr(module, class_name, None)
        if not inspect.isclass(kind):
            found = [n for n, v in vars(module).items() if inspect.isclass(v) and v.__module__ == name]
            hint = f"; it defines {', '.join(found)} (name one with options.class)" if found else ""
            raise ContractError(f"{where}: model.py defines no class {class_name}{hint}")
        if not callable(getattr(kind, "predict", None)):
            raise ContractError(f"{where}: {class_name} has no method predict(self, inputs)")
        _takes(kind, "predict", "inputs", where)
        try:
            model: Any = kind()
        except Exception as error:
            raise ModelError(f"{where}: {class_name}() fails: {_explained(error, folder)}") from error
        if hasattr(kind, "load"):
            _takes(kind, "load", "path", where)
            try:
                result = model.load(folder)
                if inspect.isawaitable(result):
                    coroutines.run(result)
            except MemoryError as error:
                raise ModelError(f"{where}: not enough memory to load this model") from error
            except Exception as error:
                raise ModelError(f"{where}: load fails: {_explained(error, folder)}") from error
    return model


def _takes(kind: Any, method: str, argument: str, where: str) -> None:
    function = getattr(kind, method)
    if not callable(function):
        raise ContractError(f"{where}: {kind.__name__}.{method} is not a method")
    try:
        inspect.signature(function).bind(None, None)
    except TypeError as error:
        raise ContractError(f"{where}: {kind.__name__}.{method} must take (self, {argument}): {error}") from error
    except ValueError:
        return


def _imported(folder: Path, where: str, name: str) -> ModuleType:
    """``model.py`` as a package of its own, so that ``from . import other`` works at any time."""
    file = folder / "model.py"
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=[str(folder)])
    if spec is None or spec.loader is None:
        raise ModelError(f"{where}: model.py cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        raise ModelError(
            f"{where}: model.py needs a module that is not installed: {_explained(error, folder)}"
        ) from error
    except Exception as error:
        raise ModelError(f"{where}: model.py fails on import: {_explained(error, folder)}") from error
    return module


def _explained(error: BaseException, folder: Path) -> str:
    """The exception and the line in the user's folder that raised it."""
    line, traceback = "", error.__traceback__
    while traceback is not None:
        file = Path(traceback.tb_frame.f_code.co_filename)
        if folder in file.parents:
            line = f" ({file.relative_to(folder)}, line {traceback.tb_lineno})"
        traceback = traceback.tb_next
    if isinstance(error, SyntaxError) and error.lineno:
        line = f" (line {error.lineno})"
    return f"{type(error).__name__}: {first_line(error)}{line}"


@contextmanager
def _imports_from(folder: Path) -> Iterator[None]:
    """The folder comes first in ``sys.path``; its modules leave ``sys.modules`` afterwards (the model keeps them),
    so that two folders may both have a ``utils.py``. A later ``import utils`` inside a function does not find it:
    ``from . import utils`` does."""
    own = {path.stem for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()}
    own -= {"model"} | set(sys.stdlib_module_names)
    with _importing:
        hidden = {n: m for n, m in sys.modules.items() if n.split(".")[0] in own and not _is_below(m, folder)}
        for name in hidden:
            del sys.modules[name]
        sys.path.insert(0, str(folder))
        try:
            yield
        finally:
            sys.path.remove(str(folder))
            for name in [n for n, m in sys.modules.items() if n.split(".")[0] in own and _is_below(m, folder)]:
                del sys.modules[name]
            sys.modules.update(hidden)
            importlib.invalidate_caches()


def _is_below(module: ModuleType, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    paths = [file] if file else list(getattr(module, "__path__", ()))
    return any(folder in Path(path).parents or Path(path) == folder for path in paths)


def _forget(name: str) -> None:
    for known in [n for n in sys.modules if n == name or n.startswith(f"{name}.")]:
        del sys.modules[known]


def _signature(model: Any, where: str, options: Mapping[str, Any]) -> Signature:
    raw = getattr(model, "signature", None)
    if callable(raw):
        raw = raw()
    found = parse_signature(raw, f"{where}: Model.signature") if raw is not None else Signature(inputs=())
    signature = overlay(found, options)
    if not signature.inputs:
        raise ContractError(
            f"{where}: the model declares no inputs: give the class an attribute signature = "
            '{"inputs": {"x": {"datatype": "FP64", "shape": [-1, 4]}}, "outputs": {"predictions": "FP64"}}, '
            "or write it under options.signature"
        )
    return with_example(signature)


class PythonRuntime:
    """Calls the user's class. Runs foreign Python, so never on the event loop."""

    platform = "python"
    inline_safe = False

    def __init__(self, model: Any, signature: Signature, module: str, where: str, coroutines: Coroutines) -> None:
        self.signature = signature
        self._model = model
        self._module = module
        self._where = where
        self._coroutines = coroutines

    def predict(self, inputs: Tensors) -> Tensors:
        model = self._model
        if model is None:
            raise ModelError("the model was closed")
        rows = len(next(iter(inputs.values())))
        result = model.predict(inputs)
        if inspect.isawaitable(result):
            result = self._coroutines.run(result)
        return self._named(result, rows)

    def _named(self, result: Any, rows: int) -> Tensors:
        """Named arrays from what came back; raises ContractError naming what does not fit."""
        outputs = self.signature.outputs
        if isinstance(result, Mapping):
            tensors = {str(name): _array(str(name), value) for name, value in result.items()}
        elif len(outputs) <= 1 and result is not None:
            name = outputs[0].name if outputs else "predictions"
            tensors = {name: _array(name, result)}
        else:
            raise ContractError(f"predict returned {type(result).__name__}, not a mapping of {len(outputs)} outputs")
        if outputs:
            return checker(self.signature)(tensors, rows)
        for name, array in tensors.items():
            if array.ndim == 0 or len(array) != rows:
                raise ContractError(f"output {name!r}: shape {array.shape} for {rows} rows of input")
        return tensors

    def close(self) -> None:
        model, self._model = self._model, None
        if model is None:
            return
        closing = getattr(model, "close", None)
        try:
            if callable(closing):
                result = closing()
                if inspect.isawaitable(result):
                    self._coroutines.run(result)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
                raise
            raise ModelError(f"{self._where}: close fails: {type(error).__name__}: {first_line(error)}") from error
        finally:
            self._coroutines.close()
            _forget(self._module)
            del model, closing
            # A module and its functions refer to each other: only the collector frees them.
            gc.collect()


def _array(name: str, value: Any) -> Array:
    """Text as objects. Raises ContractError for what is no array."""
    if type(value) is np.ndarray and value.dtype.kind in "fiub":
        return value
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ContractError(f"output {name!r}: rows of different length") from error
    if array.dtype.kind in "US":
        return array.astype(object)
    if array.dtype.kind == "O" and not all(isinstance(item, str | bytes) for item in array.reshape(-1)):
        raise ContractError(f"output {name!r} holds {type(array.reshape(-1)[0]).__name__}, not numbers or text")
    if array.dtype.kind not in "fiubO":
        raise ContractError(f"output {name!r}: {array.dtype} is neither numbers nor text")
    return array
