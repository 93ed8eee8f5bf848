"""Folders with model.py: the contract is told, held, and the model goes when it is unloaded."""

from __future__ import annotations

import sys
import threading
import types
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.serving.runtimes.agreement import assert_batched_equals_single
from tidegate.errors import ContractError, ModelError
from tidegate.serving.runtimes.base import LoadedModel
from tidegate.serving.runtimes.load import load_model, settle
from tidegate.settings import Trust
from tidegate.testing import models
from tidegate.types import ModelRef

pytestmark = pytest.mark.slow

SIGNED = """
import numpy as np
class Model:
    signature = {"inputs": {"x": {"datatype": "FP64", "shape": [-1, 2]}}, "outputs": {"y": "FP64"}}
"""


def own_modules() -> set[str]:
    return {name for name in sys.modules if name.startswith("tidegate_model_")}


def load(folder: Path, source: str = models.PYTHON_MODEL, files: Any = None, **options: Any) -> LoadedModel:
    models.write_python_model(folder, source, files)
    return load_model(ModelRef(uri=str(folder), options=options), Trust(pickles=(str(folder.parent),)))


def test_default_model(tmp_path: Path) -> None:
    loaded = load(tmp_path / "m")
    assert loaded.facts.runtime == "python"
    assert not loaded.facts.inline
    outputs = assert_batched_equals_single(loaded, {"x": np.arange(8.0).reshape(4, 2)}, 0.0)
    assert outputs["predictions"].tolist() == [1.5, 5.5, 9.5, 13.5]


def test_async_predict_bare_answers_and_undeclared_outputs(tmp_path: Path) -> None:
    source = """
    class Model:
        async def load(self, path):
            self.words = (path / "words.txt").read_text().split()
        async def predict(self, inputs):
            return [self.words[int(v) % 2] for v in inputs["x"]]
    """
    loaded = load(
        tmp_path / "m", source, {"words.txt": "even odd"}, signature={"inputs": {"x": "FP64"}, "example": {"x": 1}}
    )
    assert loaded.signature.outputs[0].datatype == "BYTES"
    outputs = assert_batched_equals_single(loaded, {"x": np.array([1.0, 2.0, 3.0])}, 0.0)
    assert outputs["predictions"].tolist() == ["odd", "even", "odd"]


def test_other_class_by_option(tmp_path: Path) -> None:
    source = models.PYTHON_MODEL.replace("class Model", "class Scorer")
    with pytest.raises(ContractError, match=r"no class Model; it defines Scorer \(name one with options\.class\)"):
        load(tmp_path / "a", source)
    assert load(tmp_path / "b", source, **{"class": "Scorer"}).facts.runtime == "python"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("x = 1", "defines no class Model"),
        ("class Model:\n    pass", "no method predict"),
        ("class Model:\n    def predict(self): pass", r"predict must take \(self, inputs\)"),
        ("class Model:\n    def load(self): pass\n    def predict(self, i): pass", r"load must take \(self, path\)"),
        ("class Model:\n    def predict(self, i): return i", "declares no inputs"),
        ("class Model:\n    signature = 3\n    def predict(self, i): return i", "a signature is a mapping"),
        (SIGNED + "    def predict(self, i): return {'z': i['x'].sum(1)}", "'y' is missing; the model returned 'z'"),
        (SIGNED + "    def predict(self, i): return i['x'].sum()", "a single value for 1 rows"),
        (SIGNED + "    def predict(self, i): return {'y': ['a']}", "where float64 is declared"),
        (SIGNED + "    def predict(self, i): return {'y': [None]}", "holds NoneType"),
        (SIGNED + "    def predict(self, i): return None", "returned NoneType"),
        (SIGNED + "    def predict(self, i): return 1 / 0", "fails on its example row"),
    ],
)
def test_broken_contracts_are_named_at_load(tmp_path: Path, source: str, says: str) -> None:
    with pytest.raises(ContractError, match=says):
        load(tmp_path / "m", source)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def", r"SyntaxError.*\(line 1\)"),
        ("import nothing_like_this", "not installed: ModuleNotFoundError"),
        ("\n\nraise RuntimeError('no')", r"fails on import: RuntimeError: no \(model\.py, line 3\)"),
        (
            "class Model:\n    def __init__(self): raise OSError('x')\n    def predict(self, i): pass",
            r"Model\(\) fails",
        ),
        (
            "class Model:\n    def load(self, p): open(p / 'w')\n    def predict(self, i): pass",
            "load fails: FileNotFound",
        ),
    ],
)
def test_failures_at_load_name_the_line(tmp_path: Path, source: str, says: str) -> None:
    before = own_modules()
    with pytest.raises(ModelError, match=says):
        load(tmp_path / "m", source)
    assert own_modules() == before


def test_wrong_rows_in_traffic_are_a_contract_error(tmp_path: Path) -> None:
    loaded = load(tmp_path / "m", SIGNED + "    def predict(self, i): return i['x'].sum(1)[:3]")
    with pytest.raises(ContractError, match="3 rows for 5 rows"):
        settle(loaded.runtime.predict({"x": np.ones((5, 2))}))


def test_two_models_with_modules_of_one_name(tmp_path: Path) -> None:
    source = SIGNED.replace("import numpy as np", "import parts") + (
        "    def predict(self, i):\n        from . import late\n        return i['x'].sum(1) * parts.factor + late.shift\n"
    )
    outside = types.ModuleType("parts")
    sys.modules["parts"] = outside
    first = load(tmp_path / "a", source, {"parts.py": "factor = 2", "late.py": "shift = 1"})
    second = load(tmp_path / "b", source, {"parts.py": "factor = 3", "late.py": "shift = 5"})
    row = {"x": np.ones((1, 2))}
    assert settle(first.runtime.predict(row))["y"].tolist() == [5.0]
    assert settle(second.runtime.predict(row))["y"].tolist() == [11.0]
    assert sys.modules.pop("parts") is outside
    assert not any(str(tmp_path) in entry for entry in sys.path)


def test_unload_frees_the_model_and_calls_close(tmp_path: Path) -> None:
    source = SIGNED + (
        "    def load(self, path):\n        self.path, self.weights = path, np.ones(10)\n"
        "    def predict(self, i): return i['x'].sum(1)\n"
        "    def close(self): (self.path / 'closed').write_text('yes')\n"
    )
    before = own_modules()
    loaded = load(tmp_path / "m", source)
    assert len(own_modules()) == len(before) + 1
    gone = weakref.ref(loaded.runtime._model)  # type: ignore[attr-defined]
    loaded.runtime.close()
    loaded.runtime.close()
    assert gone() is None
    assert (tmp_path / "m" / "closed").read_text() == "yes"
    assert own_modules() == before
    with pytest.raises(ModelError, match="closed"):
        loaded.runtime.predict({"x": np.ones((1, 2))})


def test_async_model_keeps_one_loop_and_survives_what_it_raises(tmp_path: Path) -> None:
    source = SIGNED + (
        "    async def load(self, path):\n"
        "        import asyncio\n"
        "        self.loop = asyncio.get_running_loop()\n"
        "    async def predict(self, inputs):\n"
        "        import asyncio\n"
        "        assert asyncio.get_running_loop() is self.loop\n"
        "        kind = {7: SystemExit, 8: asyncio.CancelledError, 9: KeyboardInterrupt}.get(int(inputs['x'][0, 0]))\n"
        "        if kind: raise kind\n"
        "        await asyncio.sleep(0)\n"
        "        return inputs['x'].sum(axis=1)\n"
    )
    others = set(threading.enumerate())
    runtime = load(tmp_path / "m", source).runtime
    own = [thread for thread in threading.enumerate() if thread not in others]
    assert [thread.name for thread in own] == ["tidegate-coroutines"]
    for first, name in ((7.0, "SystemExit"), (8.0, "CancelledError"), (9.0, "KeyboardInterrupt")):
        with pytest.raises(RuntimeError, match=name):
            runtime.predict({"x": np.array([[first, 0.0]])})
        # Values, not a coroutine: the batcher calls it in a thread.
        answer = runtime.predict({"x": np.array([[1.0, 2.0]])})
        assert isinstance(answer, dict)
        assert answer["y"].tolist() == [3.0]
    runtime.close()
    own[0].join(timeout=5.0)
    assert not own[0].is_alive()


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import sys\nsys.exit(7)", r"SystemExit\(7\) while it loads"),
        ("class Model:\n    def __init__(self): raise SystemExit(3)\n    def predict(self, i): pass", "SystemExit"),
        (SIGNED + "    def predict(self, i): raise SystemExit(4)", "SystemExit"),
        (SIGNED + "    def predict(self, i): raise KeyboardInterrupt", "KeyboardInterrupt"),
    ],
)
def test_a_model_that_exits_while_it_loads_is_refused_in_a_thread_of_the_server(
    tmp_path: Path, source: str, says: str
) -> None:
    """In a task of the event loop these would end the server: a reload must fail instead."""
    with ThreadPoolExecutor(1) as pool, pytest.raises(ModelError, match=says):
        pool.submit(load, tmp_path / "m", source).result()


def test_a_model_that_exits_when_it_is_closed(tmp_path: Path) -> None:
    source = SIGNED + "    def predict(self, i): return i['x'].sum(1)\n    def close(self): raise SystemExit(5)"
    loaded = load(tmp_path / "m", source)
    with pytest.raises(ModelError, match="close fails: SystemExit: 5"):
        loaded.runtime.close()
