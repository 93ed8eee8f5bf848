"""Models in a process of their own: crashes, hangs, memory, and no orphans."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.serving.runtimes.agreement import assert_batched_equals_single
from tidegate.clock import ManualClock
from tidegate.errors import ContractError, ModelError, ModelFailed, UntrustedModel
from tidegate.serving.runtimes import wire
from tidegate.serving.runtimes.base import LoadedModel
from tidegate.serving.runtimes.isolated import IsolatedRuntime, load_isolated
from tidegate.settings import Trust
from tidegate.testing import models
from tidegate.types import ModelRef

pytestmark = pytest.mark.slow

ROW = {"x": np.ones((2, 4))}
SIGNED = models.PYTHON_MODEL.split("    def load")[0]
CLOCK = ManualClock()


@pytest.fixture
def loads() -> Iterator[Callable[..., LoadedModel]]:
    loaded: list[LoadedModel] = []

    def load(
        uri: str | Path = "fake:", timeout: float = 10.0, trust: Trust | None = None, **options: Any
    ) -> LoadedModel:
        ref = ModelRef(uri=str(uri), options=options)
        loaded.append(load_isolated(ref, trust or Trust(), timeout=timeout, clock=CLOCK))
        return loaded[-1]

    yield load
    for model in loaded:
        model.runtime.close()


def python_model(tmp_path: Path, predict: str, head: str = "") -> tuple[Path, Trust]:
    folder = models.write_python_model(
        tmp_path / "m", f"{head}\n{SIGNED}    def predict(self, inputs):\n        {predict}\n"
    )
    return folder, Trust(pickles=(str(tmp_path),))


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        threading.Event().wait(0.01)
    return True


def test_answers_are_those_of_the_runtime_inside(tmp_path: Path, loads: Callable[..., LoadedModel]) -> None:
    loaded = loads(models.write_classifier_onnx(tmp_path / "c.onnx", labels=["a", "b", "c"]))
    assert loaded.facts.runtime == "onnx"
    assert not loaded.facts.inline
    assert loaded.signature.labels == ("a", "b", "c")
    inputs = {"features": np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)}
    assert_batched_equals_single(loaded, inputs, 1e-6)


def test_texts_blobs_and_large_arrays_cross(tmp_path: Path, loads: Callable[..., LoadedModel]) -> None:
    loaded = loads(models.write_table_onnx(tmp_path / "t.onnx"))
    rows = 100_000
    codes = np.array(["ü" * (row % 7) for row in range(rows)], object)
    outputs = loaded.runtime.predict({"amount": np.arange(rows, dtype=np.float32), "code": codes})
    assert outputs["echo"][:, 0].tolist() == codes.tolist()  # type: ignore[index]
    np.testing.assert_array_equal(outputs["total"][:, 0], np.arange(rows, dtype=np.float32) * 2)  # type: ignore[index]


def test_raised_exceptions_are_model_failures_and_the_process_lives(loads: Callable[..., LoadedModel]) -> None:
    loaded = loads(fail_on=7.0)
    before = loaded.runtime.pid  # type: ignore[attr-defined]
    with pytest.raises(ModelFailed, match="RuntimeError: the fake model failed as told"):
        loaded.runtime.predict({"x": np.full((1, 4), 7.0)})
    assert loaded.runtime.predict(ROW)["predictions"].tolist() == [4.0, 4.0]  # type: ignore[index]
    assert loaded.runtime.pid == before  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("predict", "says"),
    [("import os; os._exit(9)", "exit code 9"), ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV")],
)
def test_crash_is_an_error_then_the_process_is_started_again(
    tmp_path: Path, loads: Callable[..., LoadedModel], predict: str, says: str
) -> None:
    folder, trust = python_model(
        tmp_path, f"if inputs['x'][0, 0] == 7:\n            {predict}\n        return inputs['x'].sum(1)"
    )
    loaded = loads(folder, trust=trust)
    row = {"x": np.ones((1, 2))}
    first = loaded.runtime.pid  # type: ignore[attr-defined]
    with pytest.raises(ModelFailed, match=says):
        loaded.runtime.predict({"x": np.full((1, 2), 7.0)})
    with pytest.raises(ModelFailed, match="started again in"):
        loaded.runtime.predict(row)
    CLOCK.advance(1)
    assert loaded.runtime.predict(row)["predictions"].tolist() == [2.0]  # type: ignore[index]
    assert loaded.runtime.pid != first  # type: ignore[attr-defined]
    assert not alive(first)


def test_pause_grows_with_each_crash_in_a_row(loads: Callable[..., LoadedModel]) -> None:
    loaded = loads(crash=True)
    for _ in range(3):
        with pytest.raises(ModelFailed, match="exit code 3"):
            loaded.runtime.predict(ROW)
        CLOCK.advance(0.35)
    with pytest.raises(ModelFailed, match="started again in"):
        loaded.runtime.predict(ROW)


@pytest.mark.parametrize("hang", ["while True: pass", "import threading; threading.Event().wait()"])
def test_hang_ends_at_the_time_limit(tmp_path: Path, loads: Callable[..., LoadedModel], hang: str) -> None:
    folder, trust = python_model(
        tmp_path, f"if inputs['x'][0, 0] == 7:\n            {hang}\n        return inputs['x'].sum(1)"
    )
    loaded = loads(folder, trust=trust, timeout=0.5)
    pid, started = loaded.runtime.pid, time.monotonic()  # type: ignore[attr-defined]
    with pytest.raises(ModelFailed, match=r"no answer within 0\.5 s"):
        loaded.runtime.predict({"x": np.full((1, 2), 7.0)})
    assert time.monotonic() - started < 5
    assert not alive(pid)


def test_memory_limit_is_an_error_of_that_call_alone(tmp_path: Path, loads: Callable[..., LoadedModel]) -> None:
    folder, trust = python_model(
        tmp_path, "return np.ones(int(inputs['x'][0, 0]) * 131072 + 1)[:1].repeat(len(inputs['x']))"
    )
    loaded = loads(folder, trust=trust, memory_mb=600)
    with pytest.raises(ModelFailed, match=r"[Mm]emory"):
        loaded.runtime.predict({"x": np.full((1, 2), 2000.0)})
    CLOCK.advance(60)
    assert loaded.runtime.predict({"x": np.ones((1, 2))})["predictions"].tolist() == [1.0]  # type: ignore[index]


def test_load_errors_keep_their_class(tmp_path: Path) -> None:
    folder, trust = python_model(tmp_path, "return 1")
    with pytest.raises(UntrustedModel, match=r"trust\.pickles"):
        load_isolated(ModelRef(uri=str(folder)), Trust())
    with pytest.raises(ContractError, match="a single value"):
        load_isolated(ModelRef(uri=str(folder)), trust)
    with pytest.raises(ModelError, match="no such file"):
        load_isolated(ModelRef(uri=str(tmp_path / "nothing")), trust)


@pytest.mark.parametrize(
    ("head", "says"), [("import os; os._exit(4)", "exit code 4"), ("while True: pass", "not loaded within 2 s")]
)
def test_crash_or_hang_while_loading_is_a_load_error(tmp_path: Path, head: str, says: str) -> None:
    folder, trust = python_model(tmp_path, "return 1", head)
    with pytest.raises(ModelError, match=says):
        load_isolated(ModelRef(uri=str(folder)), trust, load_timeout=2.0)


def test_close_ends_the_process_also_while_it_hangs(loads: Callable[..., LoadedModel]) -> None:
    loaded = loads(hang=True)
    pid = loaded.runtime.pid  # type: ignore[attr-defined]
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            loaded.runtime.predict(ROW)
        except ModelFailed as error:
            failures.append(error)

    caller = threading.Thread(target=ask)
    caller.start()
    loaded.runtime.close()
    caller.join(10)
    assert not caller.is_alive()
    assert failures
    assert not alive(pid)
    with pytest.raises(ModelError, match="closed"):
        loaded.runtime.predict(ROW)


@pytest.mark.parametrize("ends", ["closed", "killed"])
def test_what_the_process_puts_aside_goes_with_it(tmp_path: Path, loads: Callable[..., LoadedModel], ends: str) -> None:
    """Such as what it fetches from a registry; also when it never had the time to clean up."""
    left = tmp_path / "left"
    head = f"import pathlib, tempfile\npathlib.Path({str(left)!r}).write_text(tempfile.mkdtemp())"
    folder, trust = python_model(tmp_path, "return inputs['x'].sum(1)", head)
    loaded = loads(folder, trust=trust)
    made = Path(left.read_text())
    assert made.is_dir()
    if ends == "killed":
        os.kill(loaded.runtime.pid, signal.SIGKILL)  # type: ignore[attr-defined]
        with pytest.raises(ModelFailed):
            loaded.runtime.predict({"x": np.ones((1, 2))})
    else:
        loaded.close()
    assert not made.parent.exists()


def test_child_inherits_no_listening_socket(loads: Callable[..., LoadedModel]) -> None:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        os.set_inheritable(listener.fileno(), True)
        inode = Path(f"/proc/self/fd/{listener.fileno()}").readlink()
        pid = loads().runtime.pid  # type: ignore[attr-defined]
        held = [entry.readlink() for entry in Path(f"/proc/{pid}/fd").iterdir()]
        assert inode not in held


@pytest.mark.parametrize("busy", ["True", "False"])
def test_no_orphan_when_the_parent_is_killed(tmp_path: Path, busy: str) -> None:
    """Also while the model holds the interpreter: the kernel tells the child, not a thread of it."""
    folder, trust = python_model(
        tmp_path, "return inputs['x'].sum(1) if inputs['x'][0, 0] != 7 else sum(range(10**12))"
    )
    script = (
        "import sys, threading, numpy as np\n"
        "from tidegate.serving.runtimes.isolated import load_isolated\n"
        "from tidegate.settings import Trust\n"
        "from tidegate.types import ModelRef\n"
        f"loaded = load_isolated(ModelRef(uri={str(folder)!r}), Trust(pickles={trust.pickles!r}))\n"
        "print(loaded.runtime.pid, flush=True)\n"
        f"if {busy}: loaded.runtime.predict({{'x': np.full((1, 2), 7.0)}})\n"
        "threading.Event().wait()\n"
    )
    aside = {**os.environ, "TMPDIR": str(tmp_path)}  # what was put aside cannot go with its owner here
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=aside)
    assert parent.stdout is not None
    try:
        pid = int(parent.stdout.readline())
        assert alive(pid)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        parent.stdout.close()
    assert until(lambda: not alive(pid))


def test_child_outlives_the_thread_that_started_it(loads: Callable[..., LoadedModel]) -> None:
    loaded: list[LoadedModel] = []
    thread = threading.Thread(target=lambda: loaded.append(loads()))
    thread.start()
    thread.join()
    assert loaded[0].runtime.predict(ROW)["predictions"].tolist() == [4.0, 4.0]  # type: ignore[index]


def test_callers_of_several_threads_get_their_own_answers(loads: Callable[..., LoadedModel]) -> None:
    runtime = loads().runtime
    assert isinstance(runtime, IsolatedRuntime)
    wrong: list[float] = []

    def ask(value: float) -> None:
        for _ in range(50):
            answer = runtime.predict({"x": np.full((1, 4), value)})["predictions"][0]
            if answer != value * 4:
                wrong.append(answer)

    threads = [threading.Thread(target=ask, args=(float(n),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_wire_carries_every_kind_of_array() -> None:
    import msgspec

    tensors: dict[str, Any] = {
        "f": np.arange(6, dtype=np.float32).reshape(2, 3),
        "h": np.ones((1, 2), np.float16),
        "b": np.array([True, False]),
        "empty": np.zeros((0, 4)),
        "strided": np.arange(10)[::2],
        "o": np.array(["a", b"\x00", None], object),
        "u": np.array(["x", "yy"]),
    }
    back = wire.unpack(msgspec.msgpack.decode(msgspec.msgpack.encode(wire.pack(tensors))))
    for name, array in tensors.items():
        assert back[name].shape == array.shape
        assert back[name].tolist() == array.tolist()
