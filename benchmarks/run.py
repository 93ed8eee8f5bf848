"""``python -m benchmarks [QUESTION ...]``: measures, keeps each question's result, prints every aim.

Each question runs alone and its result is kept as soon as it is there, so that a run can be stopped and gone on with.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import time
import traceback
from types import FrameType
from typing import NoReturn

from benchmarks.harness import machine
from benchmarks.harness.measure import Effort
from benchmarks.harness.results import FOLDER, read_rows, table

QUESTIONS = (
    "throughput", "latency", "cold_start", "memory", "batching", "uncompiled", "overload", "formats", "hot_swap",
    "workers", "endpoints_500", "tracing_off", "recording", "batch", "store", "console",
    "statistics", "drift",
)  # fmt: skip
QUIET = 0.05
"""Share of the machine that others may use before a result gets a warning."""


def main() -> int:
    arguments = _arguments()
    signal.signal(signal.SIGTERM, _stop)
    machine.keep_to(machine.LOAD_CORE)
    effort = Effort(arguments.rounds, arguments.seconds, arguments.warm_up)
    if arguments.peers:
        from benchmarks.peers import page, question

        if not arguments.report:
            question.run(effort, fresh=arguments.fresh, only=arguments.questions)
        page.write()
        return 0
    if not arguments.report:
        failed = measure(tuple(arguments.questions) or QUESTIONS, effort, 60 * arguments.minutes)
    else:
        failed = []
    rows = read_rows()
    if arguments.questions:
        rows = [row for row in rows if row["question"] in arguments.questions]
    print("\n" + table(rows))
    missed = sum(row["met"] is False for row in rows)
    met = sum(row["met"] is True for row in rows)
    print(f"\n{met} aims met, {missed} missed" + (f"; not measured: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


def measure(names: tuple[str, ...], effort: Effort, limit: float) -> list[str]:
    """Runs the questions in turn; gives back the names of those that failed or for which no time was left."""
    began = time.monotonic()
    failed = []
    for name in names:
        used = time.monotonic() - began
        if used > limit:
            print(f"{name}: no time left ({used:.0f} s used); run it alone: python -m benchmarks {name}", flush=True)
            failed.append(name)
            continue
        print(f"{name} ...", end=" ", flush=True)
        start = time.monotonic()
        try:
            result = importlib.import_module(f"benchmarks.{name}.question").run(effort)
        except Exception as error:
            print(f"failed: {error}", flush=True)
            traceback.print_exc(limit=-2)
            failed.append(name)
            continue
        result.save()
        noise = result.machine["busy_before"]
        warning = f", but the machine was {100 * noise:.0f} % busy before" if noise > QUIET else ""
        print(f"{time.monotonic() - start:.0f} s{warning}", flush=True)
    return failed


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("questions", nargs="*", help=f"some of: {', '.join(QUESTIONS)}; with --peers: names of peers")
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds of each comparison")
    parser.add_argument("--seconds", type=float, default=2, help="length of one measurement")
    parser.add_argument("--warm-up", type=float, default=1, help="seconds of load before the first round")
    parser.add_argument("--minutes", type=float, default=8.5, help="begin no further question after this time")
    parser.add_argument("--peers", action="store_true", help="measure the other servers and write docs/performance.md")
    parser.add_argument("--fresh", action="store_true", help="with --peers: forget the rounds measured before")
    parser.add_argument("--report", action="store_true", help=f"measure nothing, show what {FOLDER.name}/ holds")
    arguments = parser.parse_args()
    if not arguments.peers and (unknown := set(arguments.questions) - set(QUESTIONS)):
        parser.error(f"no question {min(unknown)!r}; there are {', '.join(QUESTIONS)}")
    return arguments


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    # An exception, so that every server that runs is ended on the way out.
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
