"""Tidegate, the floor and every peer, one after the other, in rounds. Each subject has the server's core to itself."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

from benchmarks.harness import models
from benchmarks.harness.machine import commit, describe
from benchmarks.harness.measure import Effort
from benchmarks.harness.results import FOLDER
from benchmarks.harness.server import Server, SubjectFailed
from benchmarks.harness.subjects import floor, tidegate_file
from benchmarks.harness.wrk import Load, wrk
from benchmarks.peers.subjects import PEERS, PeerUnavailable

ROUNDS = 3
"""Rounds start every server twice; three of them keep the whole run below half an hour."""
LONGEST_WARM_UP = 20
PATH = FOLDER / "peers.json"

Start = Callable[[str], contextlib.AbstractContextManager[Server]]


def run(effort: Effort, *, fresh: bool = False, only: list[str] | None = None) -> None:
    """Goes on with what an earlier run of the same commit left, unless ``fresh``; saves after every subject."""
    document: dict[str, Any] = {} if fresh or not PATH.exists() else json.loads(PATH.read_text(encoding="utf-8"))
    if document.get("machine", {}).get("commit") != commit():
        document = {}
    document.setdefault("machine", describe())
    subjects: dict[str, Any] = document.setdefault("subjects", {})
    starts = _subjects(subjects, only or [])
    for number in range(1, min(ROUNDS, effort.rounds) + 1):
        for name, (models_served, start) in starts.items():
            entry = subjects[name]
            if len(entry["runs"]) >= number or "reason" in entry:
                continue
            print(f"round {number}, {name} ...", end=" ", flush=True)
            try:
                entry["runs"].append(_measure(effort, models_served, start))
                print(f"{entry['runs'][-1]['seconds']:.0f} s", flush=True)
            except (SubjectFailed, OSError, RuntimeError) as error:
                entry["reason"] = str(error)[-800:]
                print(f"failed: {error}", flush=True)
            _save(document)
    _save(document)


def _subjects(entries: dict[str, Any], only: list[str]) -> dict[str, tuple[tuple[str, ...], Start]]:
    """Installs what is to be measured; a peer that cannot be had gets its reason and no rounds."""
    starts: dict[str, tuple[tuple[str, ...], Start]] = {}
    made = models.make()
    files = {"rf": made.forest, "lr": made.regression}
    ours: dict[str, tuple[str, str, Start]] = {
        "floor": ("Floor", "plain ASGI, msgspec, ONNX Runtime; no product", lambda which: floor(files[which])),
        "tidegate": ("Tidegate", "as installed", lambda which: tidegate_file(files[which])),
    }
    for name, (title, settings, start) in ours.items():
        entries.setdefault(name, {"title": title, "settings": settings, "runs": []})
        starts[name] = (("rf", "lr"), start)
    for peer in PEERS:
        if only and peer.name not in only:
            continue
        entry = entries.setdefault(peer.name, {"title": peer.title, "settings": peer.settings, "runs": []})
        try:
            peer.install()
        except PeerUnavailable as error:
            print(f"{peer.name} cannot be installed: {error}", flush=True)
            entry["reason"] = str(error)[-800:]
            continue
        entry.pop("reason", None)
        entry["version"] = peer.version()
        starts[peer.name] = (peer.models, partial(_start, peer))
    return starts


@contextlib.contextmanager
def _start(peer: Any, which: str) -> Iterator[Server]:
    with peer.server(which) as server:
        yield server


def _measure(effort: Effort, served: tuple[str, ...], start: Start) -> dict[str, Any]:
    began = time.monotonic()
    found: dict[str, Any] = {}
    for which in served:
        with start(which) as server:
            found[f"{which}_start_seconds"] = server.seconds_to_first_answer
            found[f"{which}_warm_up_seconds"] = _warm(server)
            found[f"{which}_32"] = asdict(_load(server, 32, max(3.0, effort.seconds)))
            found[f"{which}_1"] = asdict(_load(server, 1, effort.seconds))
            found[f"{which}_memory_mb"] = server.memory_mb()
    found["seconds"] = time.monotonic() - began
    return found


def _load(server: Server, connections: int, seconds: float) -> Load:
    load = wrk(server.port, server.probe, connections=connections, seconds=seconds)
    if load.failures > 0.01 * load.requests + 5:
        raise SubjectFailed(f"{load.failures} of {load.requests} requests failed: {server.output()}")
    return load


def _warm(server: Server) -> int:
    """Load until the rate stops growing: a server that compiles as it runs needs many seconds."""
    best = 0.0
    seconds = 0
    while seconds < LONGEST_WARM_UP:
        rate = wrk(server.port, server.probe, connections=32, seconds=2).rate
        seconds += 2
        if seconds >= 4 and rate < 1.04 * best:
            break
        best = max(best, rate)
    return seconds


def _save(document: dict[str, Any]) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    PATH.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
