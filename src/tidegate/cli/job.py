"""``tidegate job``: work in the background."""

from __future__ import annotations

import time
from typing import Any

import click

from tidegate.cli.control import ControlClient, control_options, part
from tidegate.cli.options import limit_option, reason_option
from tidegate.errors import UserError

LOOK_SECONDS = 0.5
_OPEN = ("queued", "running")

state_option = click.option(
    "--state", type=click.Choice(["queued", "running", "done", "failed", "cancelled"]), help="Only in this."
)


@click.group()
def app() -> None:
    """Look at jobs, cancel them, try them again."""


@app.command("list")
@click.option("--kind", default="", help="Only of this kind, such as batch, train or report.")
@state_option
@click.option("--endpoint", default="", help="Only about this endpoint.")
@limit_option(20)
@control_options
def list_(client: ControlClient, kind: str, state: str | None, endpoint: str, limit: int) -> None:
    """List jobs, newest first."""
    show_list(client.pages("/jobs", limit, kind=kind, state=state, endpoint=endpoint), "no jobs")


@app.command()
@click.argument("job")
@control_options
def show(client: ControlClient, job: str) -> None:
    """Show one job: how far it is, what came of it, and every try."""
    print_job(client.get(f"/jobs/{part(job)}"))


@app.command()
@click.argument("job")
@reason_option
@control_options
def cancel(client: ControlClient, job: str, reason: str) -> None:
    """Cancel a job that waits or runs."""
    click.echo(line(client.post(f"/jobs/{part(job)}/cancel", {"reason": reason})))


@app.command()
@click.argument("job")
@reason_option
@control_options
def retry(client: ControlClient, job: str, reason: str) -> None:
    """Try a job again that failed or was cancelled; finished steps are not done again."""
    click.echo(line(client.post(f"/jobs/{part(job)}/retry", {"reason": reason})))


def show_list(jobs: Any, none: str) -> None:
    found = list(jobs)
    if not found:
        click.echo(none)
    for job in found:
        click.echo(line(job))


def line(job: dict[str, Any]) -> str:
    state = "cancelling" if job.get("cancelling") else job.get("state", "queued")
    note = job.get("error") or progress_of(job)
    return f"{job['id']:16} {job['kind']:10} {state:10} {job.get('endpoint') or '-':16} {note}".rstrip()


def progress_of(job: dict[str, Any]) -> str:
    progress = job.get("progress") or {}
    done, total = progress.get("done", 0), progress.get("total", 0)
    count = f"{done:,} of {total:,}" if total else f"{done:,}" if done else ""
    return ": ".join(word for word in (count, progress.get("text", "")) if word)


def print_job(job: dict[str, Any]) -> None:
    click.echo(line(job))
    for attempt in job.get("attempts", []):
        ended = attempt.get("ended")
        seconds = f"{ended - attempt['started']:.1f} s" if ended else "running"
        click.echo(f"  try by {attempt['worker']}: {seconds} {attempt.get('error', '')}".rstrip())
    for name, value in (job.get("result") or {}).items():
        told = ", ".join(f"{key} {one}" for key, one in value.items()) if isinstance(value, dict) else value
        click.echo(f"  {name}: {told}")


def watch(client: ControlClient, id: str) -> dict[str, Any]:  # noqa: A002
    """Shows how far it is until it has ended. Raises UserError when it did not succeed."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        shown = bar.add_task("waiting", total=None)
        while True:
            job = client.get(f"/jobs/{part(id)}")
            state, progress = job.get("state", "queued"), job.get("progress") or {}
            words = progress.get("text") or state if state in _OPEN else state
            bar.update(shown, description=words, total=progress.get("total") or None, completed=progress.get("done", 0))
            if state not in _OPEN:
                break
            time.sleep(LOOK_SECONDS)
    if state != "done":
        raise UserError(f"job {id} {state}: {job.get('error') or job.get('reason') or 'no reason was given'}")
    found: dict[str, Any] = job
    return found
