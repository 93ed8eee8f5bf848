"""Batch prediction: each row of a file gives exactly one result or one entry among the errors, in order, by one pinned
model. Reading, scoring and writing go on side by side, a few pieces at a time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from tidegate.control.jobs.chunks import ROW, VERSION, Chunks, Note
from tidegate.control.jobs.pieces import Format, Piece, Position, Source, score
from tidegate.control.jobs.sources import open_source
from tidegate.control.jobs.task import UPLOAD, Scorer, Task, uploaded
from tidegate.errors import InvalidInput, ModelFailed, UserError
from tidegate.types import ModelRef

AHEAD = 2
"""Pieces that were read and not yet scored, and those that were scored and not yet written: each bounds the memory."""
HOPELESS = 1000
"""After so many rows that the model fails on, and none that it does not, the job fails."""
INPUT, RESULTS, ERRORS = "input", "results", "errors.jsonl"

Name = Annotated[str, Meta(min_length=1, max_length=256)]


class BatchPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a job of kind ``batch`` is given."""

    endpoint: str = ""
    model: str = ""
    """Path or URI; the endpoint's baseline, as it is at the start, when empty."""
    source: str
    """An upload, a path, or an address."""
    format: Format = "csv"
    output: Format = "csv"
    keep: tuple[Name, ...] = ()
    """Columns of the input that go into the results."""


def run(task: Task) -> Mapping[str, Any]:
    plan = msgspec.convert(task.payload, BatchPlan)
    task.progress(text="starting")
    ref = msgspec.convert(task.step("model", lambda: msgspec.to_builtins(_pinned(task, plan))), ModelRef)
    results, errors = task.folder / results_name(plan), task.folder / ERRORS
    chunks = Chunks(task.folder / "pieces", plan.output, plan.keep, ref.version)
    if "joined" not in task.job.steps:
        path = input_of(task, plan)
        task.step("input", lambda: _stamp(path))
        if _stamp(path) != task.job.steps["input"]:
            raise UserError("the input was changed since the job began; submit it again")
        scorer = task.model(ref)
        try:
            _score_all(task, plan, path, scorer, chunks)
        finally:
            scorer.close()
        chunks.join(results, errors)
    done = task.step("joined", lambda: _sums(chunks.finished()))
    chunks.remove()
    (task.folder / INPUT).unlink(missing_ok=True)
    if plan.source.startswith(UPLOAD):
        uploaded(task.folder.parent, plan.source).unlink(missing_ok=True)
    task.progress(done["rows"], done["rows"], f"{done['written']:,} results, {done['failed']:,} errors")
    model = {"uri": ref.uri, "version": ref.version, "digest": ref.digest}
    return {**done, "model": model, "results": results.name, "errors": errors.name}


def results_name(plan: BatchPlan) -> str:
    return f"{RESULTS}.{plan.output}"


def input_of(task: Task, plan: BatchPlan) -> Path:
    """Raises InvalidInput when it is not there."""
    if plan.source.startswith(("http://", "https://")):
        from tidegate.control.jobs.fetch import fetch

        path = task.folder / INPUT
        task.step("fetched", lambda: fetch(plan.source, path, task.progress))
    else:
        upload = plan.source.startswith(UPLOAD)
        path = uploaded(task.folder.parent, plan.source) if upload else Path(plan.source)
    if not path.is_file():
        raise InvalidInput("the input is not there for this worker; does it share that folder with the control plane?")
    return path


def _pinned(task: Task, plan: BatchPlan) -> ModelRef:
    """Raises InvalidInput, ModelError."""
    with task.store.read() as unit:
        published = unit.snapshots.latest()
    served = published.snapshot.endpoints.get(plan.endpoint) if published is not None else None
    if not plan.model:
        if served is None and plan.endpoint not in task.settings.endpoints:
            raise InvalidInput(f"there is no endpoint {plan.endpoint[:80]!r}")
        return task.configured(plan.endpoint) if served is None else served.baseline.model
    ref = task.registry.ref(plan.model)
    if served is None:
        return ref
    return msgspec.structs.replace(ref, options=served.baseline.model.options, runtime=served.baseline.model.runtime)


def _stamp(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def _score_all(task: Task, plan: BatchPlan, path: Path, scorer: Scorer, chunks: Chunks) -> None:
    source = open_source(path, plan.format, scorer.kinds, plan.keep, scorer.matrix, scorer.optional)
    check_columns(source, scorer, plan)
    notes = chunks.finished()
    total = source.count()
    written, failed = sum(note.written for note in notes), sum(note.failed for note in notes)
    start = notes[-1].end if notes else Position()
    index = len(notes)
    seen = Seen(start.row, lambda row: task.progress(row, total, "scoring"))
    scorer.told = seen.add
    pending: list[Future[Note]] = []
    with ThreadPoolExecutor(1, "writing") as writer, _Reading(source, start) as pieces:
        for piece in pieces:
            seen.begin(piece.end.row)
            parts, bad = score(piece, scorer, plan.keep)
            written, failed = written + sum(len(part.numbers) for part in parts), failed + len(bad)
            if failed >= HOPELESS and not written and (fault := scorer.fault):
                raise ModelFailed(f"the model failed on each of {failed} rows: {fault}")
            pending.append(writer.submit(chunks.write, index, parts, bad, piece.end))
            index += 1
            seen.end()
            while len(pending) > AHEAD or (pending and pending[0].done()):
                pending.pop(0).result()
        for one in pending:
            one.result()
    task.progress(written + failed, written + failed, "joining the pieces")


def check_columns(source: Source, scorer: Scorer, plan: BatchPlan) -> None:
    """What no row could mend. Raises InvalidInput."""
    twice = [name for name in plan.keep if name in (ROW, VERSION)]
    if twice:
        raise InvalidInput(f"keep: the results have a column {twice[0]!r} of their own")
    if plan.format == "jsonl":
        return  # each row brings its own names
    absent = [name for name in plan.keep if name not in source.header]
    if absent:
        raise InvalidInput(f"keep: the input has no column {absent[0]!r}")
    own = [name for name in source.header if name not in plan.keep or name in scorer.kinds]
    missing = scorer.missing(own)
    if missing:
        names = ", ".join(repr(name) for name in missing[:10])
        raise InvalidInput(f"the input lacks columns that the model takes: {names}")


def _sums(notes: list[Note]) -> dict[str, int]:
    written, failed = sum(note.written for note in notes), sum(note.failed for note in notes)
    return {"rows": written + failed, "written": written, "failed": failed}


class Seen:
    """Rows that the model was asked about, told as they grow; never beyond the piece that it has, since of rows that it
    fails on some are asked about several times."""

    def __init__(self, row: int, tell: Callable[[int], None]) -> None:
        self._row = self._limit = row
        self._tell = tell
        tell(row)

    def begin(self, end: int) -> None:
        """A piece that ends before row ``end``."""
        self._limit = end

    def add(self, rows: int) -> None:
        self._row = min(self._row + rows, self._limit)
        self._tell(self._row)

    def end(self) -> None:
        self.add(self._limit - self._row)


class _Reading:
    """Reads ahead on a thread of its own, a bounded number of pieces."""

    def __init__(self, source: Source, start: Position) -> None:
        self._source = source
        self._start = start
        self._read: queue.Queue[Piece | Exception | None] = queue.Queue(AHEAD)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reading", daemon=True)

    def __enter__(self) -> Iterator[Piece]:
        self._thread.start()
        return self._pieces()

    def __exit__(self, *_: object) -> None:
        self._stopping.set()

    def _pieces(self) -> Iterator[Piece]:
        while (piece := self._read.get()) is not None:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def _run(self) -> None:
        try:
            for piece in self._source.pieces(self._start):
                if not self._put(piece):
                    return
            self._put(None)
        except Exception as error:  # noqa: BLE001 - raised again where the pieces are taken
            self._put(error)

    def _put(self, piece: Piece | Exception | None) -> bool:
        while not self._stopping.is_set():
            try:
                self._read.put(piece, timeout=0.2)
            except queue.Full:
                continue
            return True
        return False
