"""The process of a job, apart from its job."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

GREEDY = """
import sys
from tidegate.apps.task import limit_memory
limit_memory(int(sys.argv[1]))
try:
    kept = bytearray(700 << 20)
except MemoryError:
    print("refused")
else:
    print("given")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds the data of one process")
@pytest.mark.parametrize(("megabytes", "said"), [(0, "given"), (600, "refused")])
def test_a_job_gets_no_more_memory_than_the_settings_say(megabytes: int, said: str) -> None:
    """A small file may unpack to more than the machine has."""
    done = subprocess.run(
        [sys.executable, "-c", GREEDY, str(megabytes)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == said
