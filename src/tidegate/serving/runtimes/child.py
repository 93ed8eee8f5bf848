"""The process of an isolated model: ``python -m tidegate.serving.runtimes.child SOCKET LIFELINE``."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from typing import Any

import msgspec

from tidegate.errors import ModelError, TidegateError
from tidegate.serving.runtimes import wire
from tidegate.serving.runtimes.base import LoadedModel
from tidegate.serving.runtimes.load import load_model, settle
from tidegate.serving.runtimes.sources import first_line
from tidegate.settings import Trust
from tidegate.types import ModelRef


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    end_with_parent(int(sys.argv[2]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        loaded = _load(channel, wire.receive(channel))
        if loaded is not None:
            _serve(channel, loaded)
    except (EOFError, OSError):
        pass
    finally:
        # Threads of the model must not keep the process.
        os._exit(0)


def end_with_parent(lifeline: int) -> None:
    """Ends this process when the other end of the pipe closes.

    On Linux the kernel sends SIGIO, whose default is to end the process: that works while C code holds the
    interpreter. (PR_SET_PDEATHSIG would end the child with the parent's thread that started it.) A thread that
    waits for the end of the pipe does it elsewhere.
    """
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import fcntl

        signal.signal(signal.SIGIO, signal.SIG_DFL)
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)

    def watch() -> None:
        with contextlib.suppress(OSError):
            os.read(lifeline, 1)
        os._exit(0)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def _load(channel: socket.socket, order: Mapping[str, Any]) -> LoadedModel | None:
    try:
        if order.get("memory_mb"):
            limit_memory(float(order["memory_mb"]))
        ref = msgspec.convert(order["ref"], ModelRef)
        options = {key: value for key, value in ref.options.items() if key != "memory_mb"}
        ref = msgspec.structs.replace(ref, options=options)
        loaded = load_model(ref, msgspec.convert(order["trust"], Trust), threads=int(order["threads"]))
    except MemoryError:
        wire.send(channel, {"kind": "ModelError", "error": "not enough memory to load this model"})
        return None
    except TidegateError as error:
        wire.send(channel, {"kind": type(error).__name__, "error": str(error)})
        return None
    except Exception as error:  # noqa: BLE001 - the parent must hear of anything
        wire.send(channel, {"kind": "ModelError", "error": f"{type(error).__name__}: {first_line(error)}"})
        return None
    facts, signature = msgspec.to_builtins(loaded.facts), msgspec.to_builtins(loaded.signature)
    wire.send(channel, {"facts": facts, "signature": signature})
    return loaded


def limit_memory(megabytes: float) -> None:
    """Bounds the memory that this process may hold: private data on Linux, address space elsewhere. A library's
    thread stacks count too, so a model needs some 300 MB before its own data."""
    try:
        import resource
    except ImportError as error:
        raise ModelError("memory_mb needs a system with resource limits") from error
    kind = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS
    limit = int(megabytes * 1024 * 1024)
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (limit, hard))


def _serve(channel: socket.socket, loaded: LoadedModel) -> None:
    runtime = loaded.runtime
    while True:
        message = wire.receive(channel)
        if "close" in message:
            with contextlib.suppress(Exception):
                runtime.close()
            wire.send(channel, {"closed": True})
            return
        try:
            outputs = settle(runtime.predict(wire.unpack(message["predict"])))
            answer: dict[str, Any] = {"outputs": wire.pack(outputs)}
        except MemoryError:
            gc.collect()
            answer = {"kind": "MemoryError", "error": "the model ran out of memory"}
        except Exception as error:  # noqa: BLE001 - the model's own exception, whatever it is
            answer = {"kind": type(error).__name__, "error": first_line(error)}
        del message
        wire.send(channel, answer)


if __name__ == "__main__":
    main()
