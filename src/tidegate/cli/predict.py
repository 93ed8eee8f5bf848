"""``tidegate predict``: the rows of a file through a running server, in bounded memory."""

from __future__ import annotations

import asyncio
import csv
import json
import math
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol

import click

from tidegate.cli.control import HERE
from tidegate.cli.rows import Convert, Row, format_of, is_number, open_input, read_rows
from tidegate.errors import UserError

LONGEST_WAIT = 1000
"""Bad rows that are held back until an answer shows which columns the CSV output has."""


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--url", envvar="TIDEGATE_URL", default="http://127.0.0.1:8000", help="Address of the server.")
@click.option("--endpoint", default="", help="Endpoint; the server's default when left out.")
@click.option("--key", envvar="TIDEGATE_KEY", default="", help="Key, when the server asks for one.")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="File to write; stdout when left out.")
@click.option("--format", "input_format", help="csv, json, jsonl or parquet; told from the name when left out.")
@click.option("--output-format", help="jsonl or csv; told from --output's name when left out.")
@click.option("--batch-rows", type=click.IntRange(min=1), default=256, help="Rows in one request.")
@click.option("--concurrency", type=click.IntRange(1, 256), default=4, help="Requests in flight.")
@click.option("--timeout", type=click.FloatRange(min=0.001), default=30.0, help="Seconds for one request.")
@click.option(
    "--attempts", type=click.IntRange(min=1), default=8, help="Times that a request is sent when the server is busy."
)
@click.option("--unit", default="", help="Column that names each row's unit (user), for sticky routing.")
@click.option("--max-errors", type=click.IntRange(min=0), default=0, help="Stop after this many bad rows; 0: never.")
def predict(
    file: Path | None,
    url: str,
    endpoint: str,
    key: str,
    output: Path | None,
    input_format: str | None,
    output_format: str | None,
    batch_rows: int,
    concurrency: int,
    timeout: float,
    attempts: int,
    unit: str,
    max_errors: int,
) -> None:
    """Send rows of a file or of stdin to a server, print the answers.

    FILE is CSV, JSON, JSONL or Parquet, perhaps with .gz; stdin when left out or "-".

    Every row gives exactly one line: its answer, or why it has none. The exit code is 1 when a row had none.
    """
    path = None if file is None or str(file) == "-" else file
    if path is None and sys.stdin.isatty():
        raise UserError("no file given, and nothing comes from stdin")
    form = format_of(path, input_format)
    kind = output_format or ("csv" if output is not None and output.suffix == ".csv" else "jsonl")
    if kind not in ("jsonl", "csv"):
        raise UserError(f"--output-format {kind}: expected jsonl or csv")
    try:
        target = output.open("w", encoding="utf-8", newline="") if output is not None else sys.stdout
    except OSError as error:
        raise UserError(f"{output}: cannot be written: {error.strerror}") from None

    async def run() -> int:
        import httpx

        from tidegate.cli.caller import Caller, answer_all

        headers = {"Content-Type": "application/json"} | ({"X-API-Key": key} if key else {})
        try:
            client = httpx.AsyncClient(base_url=url, headers=headers, timeout=timeout, mounts=dict.fromkeys(HERE))
        except (httpx.InvalidURL, ValueError) as error:
            raise UserError(f"--url {url}: {error}") from None
        bad = 0
        with open_input(path, sys.stdin.buffer) as source, Progress(source, path) as progress:
            async with client:
                columns = await model_columns(client, endpoint) if form == "csv" else None
                writer = Jsonl(target) if kind == "jsonl" else Csv(target)
                rows = counted(read_rows(source, form, converter(columns, unit), unit), progress)
                where = f"/predict/{endpoint}" if endpoint else "/predict"
                caller = Caller(client, where, attempts=attempts)
                async for answers in answer_all(caller, rows, batch_rows, concurrency):
                    for answer in answers:
                        if answer.error:
                            bad += 1
                            click.echo(f"{path or 'stdin'}:{answer.line}: {answer.error}", err=True)
                        writer.write({"line": answer.line} | answer.values, answer.error)
                        if max_errors and bad >= max_errors:
                            raise UserError(f"stopped after {bad} bad row{'' if bad == 1 else 's'}")
                writer.finish()
        return bad

    # asyncio's own handler would wait for a read from stdin that may never end.
    before = signal.signal(signal.SIGINT, _interrupt)
    try:
        bad = asyncio.run(run())
    finally:
        signal.signal(signal.SIGINT, before)
        target.flush()
        if output is not None:
            target.close()
    if bad:
        raise SystemExit(1)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


async def model_columns(client: Any, endpoint: str) -> dict[str, bool] | None:
    """Columns that the model names, and whether each is text; None when the server does not say."""
    import httpx

    try:
        name = endpoint or (await client.get("/info")).json().get("default_endpoint", "")
        response = await client.get(f"/models/{name}")
        described = response.json() if response.status_code == 200 else {}
    except (httpx.HTTPError, ValueError, AttributeError):
        return None
    inputs = described.get("signature", {}).get("inputs", []) if isinstance(described, dict) else []
    if len(inputs) == 1 and inputs[0].get("columns"):
        return dict.fromkeys(inputs[0]["columns"], False)
    if len(inputs) == 1 and len(inputs[0].get("shape", ())) > 1:
        return None
    return {spec["name"]: spec.get("datatype") == "BYTES" for spec in inputs} or None


def converter(columns: dict[str, bool] | None, unit: str) -> Convert:
    """Makes a row's value of CSV texts: the model's columns, numbers where it wants numbers, null for empty cells."""

    def value(name: str, text: str) -> Any:
        text_column = columns[name] if columns is not None else bool(text.strip()) and not is_number(text)
        if text_column:
            return text
        if not text.strip():
            return None
        if not is_number(text):
            raise ValueError(f'column "{name}": expected a number, got "{text[:40]}"')
        number = float(text)
        if math.isinf(number):
            raise ValueError(f'column "{name}": expected a finite number, got "{text}"')
        if math.isnan(number):
            return None
        return int(text) if text.strip().lstrip("+-").isdigit() else number

    def convert(cells: dict[str, str] | list[str]) -> tuple[Any, str]:
        if isinstance(cells, list):
            return [float(cell) if is_number(cell) else cell for cell in cells], ""
        who = cells.get(unit, "") if unit else ""
        if columns is None:
            return [value(name, text) for name, text in cells.items() if name != unit], who
        missing = [name for name in columns if name not in cells]
        if missing:
            raise UserError(f'the file has no column "{missing[0]}"; the model takes: {", ".join(columns)}')
        return {name: value(name, cells[name]) for name in columns}, who

    return convert


def counted(rows: Iterator[Row], progress: Progress) -> Iterator[Row]:
    for number, row in enumerate(rows, 1):
        if number % 64 == 0:
            progress.show(number)
        yield row


class Writer(Protocol):
    def write(self, values: dict[str, Any], error: str) -> None: ...

    def finish(self) -> None: ...


class Jsonl:
    def __init__(self, target: IO[str]) -> None:
        self.target = target

    def write(self, values: dict[str, Any], error: str) -> None:
        line = values | {"error": error} if error else values
        self.target.write(json.dumps(line, ensure_ascii=False) + "\n")

    def finish(self) -> None:
        """Every line is written at once."""


class Csv:
    """The first answer decides the columns; lists get one column per element."""

    def __init__(self, target: IO[str]) -> None:
        self.writer = csv.writer(target, lineterminator="\n")
        self.header: list[str] | None = None
        self.waiting: list[tuple[dict[str, Any], str]] = []

    def write(self, values: dict[str, Any], error: str) -> None:
        flat: dict[str, Any] = {}
        for name, value in values.items():
            if isinstance(value, list):
                flat |= {f"{name}_{index}": item for index, item in enumerate(value)}
            else:
                flat[name] = value
        if self.header is None:
            if error:
                if len(self.waiting) == LONGEST_WAIT:
                    raise UserError(f"the first {LONGEST_WAIT} rows are all bad; see the lines above")
                self.waiting.append((flat, error))
                return
            self._start(flat)
        self._row(flat, error)

    def finish(self) -> None:
        if self.header is None and self.waiting:
            self._start(self.waiting[0][0])

    def _start(self, flat: dict[str, Any]) -> None:
        self.header = [*flat, "error"]
        self.writer.writerow(self.header)
        for earlier, text in self.waiting:
            self._row(earlier, text)

    def _row(self, flat: dict[str, Any], error: str) -> None:
        assert self.header is not None
        self.writer.writerow([*(flat.get(name, "") for name in self.header[:-1]), error])


class Progress:
    """A bar on a terminal's stderr; nothing elsewhere."""

    def __init__(self, source: IO[bytes], path: Path | None) -> None:
        self.source = source
        self.size = path.stat().st_size if path is not None and path.suffix != ".gz" else 0
        self.bar: Any = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            columns = (BarColumn(), TextColumn("{task.fields[rows]:,} rows"), TimeElapsedColumn())
            self.bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self.task = self.bar.add_task("", total=self.size or None, rows=0)
            self.bar.start()
        return self

    def show(self, rows: int) -> None:
        if self.bar is not None:
            self.bar.update(self.task, rows=rows, completed=self.source.tell() if self.size else None)

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()
