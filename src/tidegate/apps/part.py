"""What makes a process of ``tidegate up`` end when that is killed: nobody would watch it any more, and it would keep the
ports from the next one."""

from __future__ import annotations

import contextlib
import os
import signal
import sys

PARENT = "TIDEGATE_PART_OF"
_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Of a process that has the id of its parent in the environment: SIGTERM when that ends, as if it had been asked to
    (Linux; elsewhere it goes on)."""
    parent = os.environ.pop(PARENT, "")  # what it starts itself is no part
    if not parent or sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError, ImportError):
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if str(os.getppid()) != parent:  # it was gone before
            raise SystemExit(0)
