"""``tidegate report``: pages to read about two files, or about what an endpoint has predicted."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tidegate.cli.control import DEFAULT_ADDRESS, ControlClient, connect, part
from tidegate.errors import UserError

if TYPE_CHECKING:
    from tidegate.control.monitoring.reports import Made, ReportKind

LOOK_SECONDS = 1.0
FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def app() -> None:
    """Make reports to read: drift, quality, or both with alerts.

    Of files: --baseline and --production (CSV, JSON lines, Parquet). Of an endpoint: --endpoint, at a control plane.
    """


def _options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(
        (
            click.option("--baseline", type=FILE, help="Rows as they should be, such as those of the training."),
            click.option("--production", type=FILE, help="Rows to look at."),
            click.option("--html", type=FILE, help="Where the page goes; reports/<kind>.html if neither is given."),
            click.option("--json", "data", type=FILE, help="Where all figures go, as JSON."),
            click.option("--max-rows", type=click.IntRange(2), default=50_000, help="Most rows of a file; a sample of more."),
            click.option("--seed", type=int, default=0, help="Of that sample."),
            click.option("--endpoint", help="Of what this endpoint has predicted, in place of files."),
            click.option("--since", default="24h", help="How far back, such as 90m, 24h or 7d."),
            click.option("--variant", default="baseline", help="Whose predictions."),
            click.option("--reference", default="", help="Name of a baseline; else the one of the endpoint's monitor."),
            click.option("--no-wait", is_flag=True, help="Only ask for it."),
            click.option("--control", envvar="TIDEGATE_CONTROL", default=DEFAULT_ADDRESS, help="Address of the control plane."),
            click.option("--key", envvar="TIDEGATE_KEY", default="", show_default=False, help="Key; run/admin.key if unset."),
        )
    ):  # fmt: skip
        command = option(command)
    return command


@app.command()
@_options
def drift(**given: Any) -> None:
    """Have the columns drifted? By Tidegate's verdict and by Evidently's."""
    _report("drift", **given)


@app.command()
@click.option("--quality-only", type=FILE, help="Rows to look at by themselves, without a baseline.")
@_options
def quality(quality_only: Path | None, **given: Any) -> None:
    """Are the rows as they should be: missing values, ranges, categories?"""
    if quality_only is not None:
        if given["production"] is not None:
            raise UserError("--quality-only is for one file alone; with --production, leave it out")
        given |= {"production": quality_only, "baseline": None}
    _report("quality", **given)


@app.command()
@_options
def summary(**given: Any) -> None:
    """Drift and quality on one page; of an endpoint, with its alerts."""
    _report("summary", **given)


def _report(
    kind: ReportKind,
    *,
    baseline: Path | None,
    production: Path | None,
    html: Path | None,
    data: Path | None,
    max_rows: int,
    seed: int,
    endpoint: str | None,
    control: str,
    key: str,
    **asked: Any,
) -> None:
    if endpoint is not None:
        if baseline is not None or production is not None:
            raise UserError("--endpoint is of what is stored; it goes without --baseline and --production")
        with connect(control, key) as client:
            _of_endpoint(client, kind, endpoint, html=html, data=data, **asked)
        return
    if production is None or (baseline is None and kind != "quality"):
        needed = "--production FILE" if kind == "quality" else "--baseline FILE --production FILE"
        raise UserError(f"tidegate report {kind} needs {needed}, or --endpoint NAME")
    made = _of_files(kind, baseline, production, max_rows, seed)
    if html is None and data is None:
        html = Path("reports") / f"{kind}.html"
    if html is not None:
        _write(html, made.html.encode())
    if data is not None:
        import msgspec

        from tidegate.control.monitoring.reports import data_of

        _write(data, msgspec.json.format(msgspec.json.encode(data_of(made.summary, made.evidently)), indent=2))
    _tell(made)


def _of_files(kind: ReportKind, baseline: Path | None, production: Path, max_rows: int, seed: int) -> Made:
    from tidegate.control.monitoring.evidently_page import check_installed

    check_installed()
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        shown = progress.add_task("reading", total=None)

        def tell(done: int, total: int, text: str) -> None:
            progress.update(shown, completed=done, total=total, description=text)

        from tidegate.control.monitoring.files import table_of_file
        from tidegate.control.monitoring.reports import of_tables

        reference = None if baseline is None else table_of_file(baseline)
        rows = table_of_file(production)
        title = f"{kind}: {production.name}" + (f" against {baseline.name}" if baseline is not None else "")
        return of_tables(kind, reference, rows, now=time.time(), title=title, most_rows=max_rows, seed=seed, tell=tell)


def _of_endpoint(
    client: ControlClient,
    kind: str,
    endpoint: str,
    *,
    html: Path | None,
    data: Path | None,
    since: str,
    variant: str,
    reference: str,
    no_wait: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    body = {"kind": kind, "endpoint": endpoint, "since": since, "variant": variant, "baseline": reference}
    job = client.post("/reports", body)
    if no_wait:
        click.echo(f"job {job['id']} makes it; look at it: tidegate job show {job['id']}")
        return
    last = ""
    while job["state"] in ("queued", "running"):
        text = job.get("progress", {}).get("text", "") or job["state"]
        if text != last:
            click.echo(f"{job['id']}: {text}", err=True)
            last = text
        sleep(LOOK_SECONDS)
        job = client.get(f"/jobs/{part(job['id'])}")
    if job["state"] != "done":
        raise UserError(f"the report is {job['state']}: {job.get('error') or 'no reason was given'}")
    result = job["result"]
    if html is not None:
        _write(html, client.read(f"/reports/{part(result['report'])}/document"))
    if data is not None:
        _write(data, client.read(f"/reports/{part(result['report'])}/data"))
    _say(result["rows"], result["drifted"], result["broken"])
    click.echo(f"{client.address}/reports/{part(result['report'])}")


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None
    click.echo(f"wrote {path}")


def _tell(made: Made) -> None:
    for note in made.summary.notes:
        click.echo(f"note: {note}", err=True)
    _say(made.summary.rows, made.summary.drifted, len(made.summary.findings))
    if made.summary.domain is not None:
        from tidegate.control.monitoring.report_page import told_apart

        click.echo(told_apart(made.summary.domain))


def _say(rows: int, drifted: Sequence[str], broken: int) -> None:
    names = ", ".join(drifted[:10]) + (" …" if len(drifted) > 10 else "")
    click.echo(
        f"{rows:,} row{'' if rows == 1 else 's'}; drifted: {names or 'none'}; checks of quality broken: {broken}"
    )
