"""``tidegate batch``: predict every row of a file, as a job."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import click
import msgspec

from tidegate.cli.control import ControlClient, control_options, part
from tidegate.cli.job import line, print_job, show_list, state_option, watch
from tidegate.cli.options import limit_option, reason_option
from tidegate.errors import UserError

FORMATS = click.Choice(["csv", "jsonl", "parquet"])
_SUFFIXES = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".pq": "parquet"}
NO_RESULT = 1
"""Exit code: the job was done, and not one row has a result."""


@click.group()
def app() -> None:
    """Predict every row of a file: each gives one result, or one entry among the errors."""


@app.command()
@click.argument("source")
@click.option("--endpoint", required=True, help="Whose baseline model predicts.")
@click.option("--model", default="", help="Another version instead, such as models:/iris/4.")
@click.option("--format", "form", type=FORMATS, help="Of the input; told by its name when not given.")
@click.option("--results", "results_form", type=FORMATS, help="Of the results; as the input's when not given.")
@click.option("--keep", multiple=True, help="A column of the input that goes into the results; several times.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Wait, and write the results there.")
@click.option("--watch", "watches", is_flag=True, help="Show how far it is until it has ended.")
@click.option("--on-server", is_flag=True, help="SOURCE is a path there, below one of jobs.sources.")
@reason_option
@control_options
def submit(
    client: ControlClient,
    source: str,
    endpoint: str,
    model: str,
    form: str | None,
    results_form: str | None,
    keep: tuple[str, ...],
    output: Path | None,
    watches: bool,
    on_server: bool,
    reason: str,
) -> None:
    """Predict every row of SOURCE: a file here, which is sent, or an address that the server may read (jobs.sources)."""
    form = form or _format_of(source)
    results_form = results_form or (_SUFFIXES.get(output.suffix.lower()) if output is not None else None)
    there = on_server or "://" in source
    body: dict[str, Any] = {
        "endpoint": endpoint,
        "source": source if there else client.send("/batch-inputs", _read(Path(source)))["source"],
        "format": form,
        "model": model,
        "keep": list(keep),
        "reason": reason,
    }
    job = client.post("/batch-jobs", body | ({"output": results_form} if results_form else {}))
    click.echo(line(job))
    if not watches and output is None:
        click.echo(f"next: tidegate batch results {job['id']}")
        return
    done = watch(client, job["id"])
    sums = done["result"]
    click.echo(f"{sums['rows']:,} rows: {sums['written']:,} results, {sums['failed']:,} errors, {_model(sums)}")
    if output is not None:
        _save(client, job["id"], "results", output)
        click.echo(f"results: {output}")
    if sums["failed"]:
        first = _first_error(client, job["id"])
        click.echo(f"first error: row {first['row']}: {first['reason']}")
        click.echo(f"errors: tidegate batch results {job['id']} --errors")
    if sums["failed"] and not sums["written"]:
        raise SystemExit(NO_RESULT)


@app.command("list")
@state_option
@click.option("--endpoint", default="", help="Only of this endpoint.")
@limit_option(20)
@control_options
def list_(client: ControlClient, state: str | None, endpoint: str, limit: int) -> None:
    """List batch jobs, newest first."""
    found = client.pages("/batch-jobs", limit, state=state, endpoint=endpoint)
    show_list(found, "no batch jobs yet; submit one: tidegate batch submit FILE --endpoint NAME")


@app.command()
@click.argument("job")
@control_options
def show(client: ControlClient, job: str) -> None:
    """Show how far a batch job is, and what came of it."""
    print_job(client.get(f"/batch-jobs/{part(job)}"))


@app.command()
@click.argument("job")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="File; standard output when not given.")
@click.option("--errors", is_flag=True, help="The rows without a result, and why, as JSON lines.")
@control_options
def results(client: ControlClient, job: str, output: Path | None, errors: bool) -> None:
    """Take the results of a batch job that is done."""
    what = "errors" if errors else "results"
    if output is not None:
        _save(client, job, what, output)
        return
    for data in client.fetch(f"/batch-jobs/{part(job)}/{what}"):
        sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


@app.command()
@click.argument("job")
@reason_option
@control_options
def cancel(client: ControlClient, job: str, reason: str) -> None:
    """Cancel a batch job that waits or runs."""
    click.echo(line(client.post(f"/batch-jobs/{part(job)}/cancel", {"reason": reason})))


def _first_error(client: ControlClient, job: str) -> dict[str, Any]:
    lines = b""
    with contextlib.closing(client.fetch(f"/batch-jobs/{part(job)}/errors")) as data:
        for piece in data:
            lines += piece
            if b"\n" in lines:
                break
    found: dict[str, Any] = msgspec.json.decode(lines.partition(b"\n")[0])
    return found


def _save(client: ControlClient, job: str, what: str, output: Path) -> None:
    """There once it is whole."""
    fresh = output.with_name(f"{output.name}.new")
    try:
        with fresh.open("wb") as file:
            for data in client.fetch(f"/batch-jobs/{part(job)}/{what}"):
                file.write(data)
        fresh.replace(output)
    except OSError as error:
        raise UserError(f"{output}: cannot be written: {error.strerror}") from None
    finally:
        fresh.unlink(missing_ok=True)


def _read(path: Path) -> Iterator[bytes]:
    try:
        file: IO[bytes] = path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    with file:
        while data := file.read(1 << 20):
            yield data


def _format_of(source: str) -> str:
    found = _SUFFIXES.get(Path(source.partition("?")[0]).suffix.lower())
    if found is None:
        raise UserError(f"{source}: the format cannot be told from the name; give --format csv, jsonl or parquet")
    return found


def _model(sums: dict[str, Any]) -> str:
    return f"by version {sums['model']['version']}"
