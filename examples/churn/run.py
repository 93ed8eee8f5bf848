"""The whole loop on this machine: train, serve, watch; the customers change; it is found, retrained, released; it recovers.

make run      or      PYTHONPATH=.. python -m churn.run --port 8000
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any

import click
import yaml

from churn.generator import Drift
from churn.project import HERE, Project, ProjectFault
from churn.system import HOST, Ports, System, fast
from churn.traffic import Customers
from tidegate.errors import TidegateError

BEFORE = 700
TAKE_PART = 300
AFTER = 600
"""Customers that each chapter waits for."""
DRIFT = Drift(covariate=True, concept=True)
NEXT_PORT = 2
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Story:
    """What happens, in order; each chapter waits for what the one before began."""

    arm = ""

    def __init__(self, project: Project, system: System, customers: Customers, deadline: float) -> None:
        self.project = project
        self.system = system
        self.customers = customers
        self.deadline = deadline
        self.lines: list[tuple[str, str]] = []

    def until(self, condition: Any, what: str) -> Any:
        return self.system.wait(condition, what, max(self.deadline - time.monotonic(), 1.0))

    def note(self, name: str, text: str) -> None:
        self.lines.append((name, text))
        click.echo(f"  {name:22} {text}")

    def train(self) -> None:
        """The first model, and one of trees for the experiment."""
        self.project.tidegate("train", "training.yaml")
        arm = yaml.safe_load((self.project.home / "training.yaml").read_text("utf-8"))
        arm["families"] = {"gradient_boosting": {"max_iter": 40}}
        arm["gate"] = {"margin": 0.2}  # the experiment is to say which is better
        (self.project.home / "trees.yaml").write_text(yaml.safe_dump(arm, sort_keys=False), "utf-8")
        self.project.tidegate("train", "trees.yaml", "--no-register", "--output", "run/trees")
        made = self.project.python(
            "-m", "churn.workflow", "register", "run/trees", "--key", "trees", "--alias", "arm-b"
        )
        self.arm = made.split()[-1]

    def serve(self) -> float:
        """Accuracy before anything changes."""
        begin = time.time()
        self.customers.start(self.system.predict_key)
        self.until(lambda: self.customers.accuracy(begin)[1] >= BEFORE, "customers came")
        accuracy, asked = self.customers.accuracy(begin)
        self.note("before", f"{accuracy:.1%} of {asked} predictions were right")
        return accuracy

    def experiment(self) -> None:
        """Half of the customers get the model of trees, for a moment."""
        control = self.system.control
        self.project.python("-m", "churn.workflow", "experiment", self.arm)
        self.until(lambda: control.get("/experiments/keeping")["state"] == "running", "the experiment runs")

        def took_part() -> int:
            return sum(control.get("/experiments/keeping/report")["units"].values())

        self.until(lambda: took_part() >= TAKE_PART, "customers take part")
        control.post("/experiments/keeping/stop", {"reason": "long enough for a story"})
        report = control.get("/experiments/keeping/report")
        units = ", ".join(f"{count} got {arm}" for arm, count in report["units"].items())
        held = {"fail": "broken"}.get(report["split"]["outcome"], "as configured")
        self.note("experiment", f"of the customers {units}; the split is {held}")

    def drift(self) -> tuple[float, float]:
        """When it began, and the accuracy until it was found."""
        began = time.time()
        self.customers.drift = DRIFT
        alerts = self.until(lambda: self.firing(began), "Tidegate finds the drift")
        accuracy, asked = self.customers.accuracy(began + 1.0)
        columns = sorted({one["column"] for one in alerts if one["column"]})
        self.note("drift", f"{accuracy:.1%} of {asked} predictions were right")
        self.note("found", f"after {time.time() - began:.0f} s: {', '.join(columns[:6]) or alerts[0]['text']}")
        return began, accuracy

    def recover(self, began: float) -> float:
        retraining = self.until(lambda: self.retrained(began), "a retraining begins by itself")
        self.note("retraining", f"{retraining['id']}, {retraining['mode']}: {retraining['reason'][:90]}")
        ended = self.until(lambda: self.ended(retraining["id"]), "the retraining is promoted")
        if ended["state"] != "promoted":
            raise ProjectFault(f"retraining {ended['id']} is {ended['state']}: {ended['events'][-1]['text']}")
        outcome = ended["outcome"]
        rows = outcome["rows"]
        self.note(
            "trained", f"{outcome['family']} on {rows['train']} rows, {rows['production_train']} of them of production"
        )
        self.note("released", f"version {outcome['version']}, {ended['events'][-1]['text'][:90]}")
        promoted = time.time() + 1.0
        self.until(lambda: self.customers.accuracy(promoted)[1] >= AFTER, "customers get the new version")
        accuracy, asked = self.customers.accuracy(promoted)
        self.note("after", f"{accuracy:.1%} of {asked} predictions were right")
        return accuracy

    def models(self) -> list[dict[str, Any]]:
        return list(self.system.control.get("/models/churn")["items"])

    def firing(self, since: float) -> list[dict[str, Any]]:
        found = self.system.control.get("/alerts", endpoint="churn", state="firing", limit=100)["items"]
        return [one for one in found if one["fired"] >= since]

    def retrained(self, since: float) -> dict[str, Any] | None:
        found = self.system.control.get("/retrainings", endpoint="churn", limit=20)["items"]
        return next((one for one in found if one["created"] >= since), None)

    def ended(self, id: str) -> dict[str, Any] | None:  # noqa: A002
        found: dict[str, Any] = self.system.control.get(f"/retrainings/{id}")
        return found if found["state"] in ("promoted", "rolled_back", "refused", "failed", "ended") else None


@click.command()
@click.option("--port", type=click.IntRange(1, 65535 - NEXT_PORT), default=8000, help="First of three ports in a row.")
@click.option("--folder", type=click.Path(path_type=Path), default=HERE / "run", help="Emptied when it begins.")
@click.option("--customers", type=click.FloatRange(4, 500), default=100.0, help="So many come a second.")
@click.option("--seconds", type=click.FloatRange(60), default=420.0, help="End without success after this long.")
@click.option("--stay", is_flag=True, help="Go on until Ctrl-C when the story has ended, to look around.")
def main(port: int, folder: Path, customers: float, seconds: float, stay: bool) -> None:
    """Train, serve, let the customers change, and watch Tidegate find it, retrain and recover."""
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup wants it
            signal.signal(number, _interrupt)
    try:
        tell(port, folder, customers, seconds, stay)
    except KeyboardInterrupt:
        click.echo("stopped")
    except (ProjectFault, TidegateError) as error:
        click.echo(f"error: {error}", err=True)
        raise SystemExit(1) from None


def tell(port: int, folder: Path, per_second: float, seconds: float, stay: bool) -> None:
    deadline = time.monotonic() + seconds
    project = Project(folder, {name: value for name, value in fast(HERE).items() if name not in os.environ})
    click.echo("Making customers, and a Git repository with DVC for them ...")
    project.make()
    project.reproduce()
    project.command("dvc", "push", "--quiet")
    customers = Customers(port, port + 2, survey=per_second / 4, centre=per_second * 3 / 4)
    system = System(project, Ports(port, port + 1, port + 2))
    story = Story(project, system, customers, deadline)
    click.echo("Training two models ...")
    story.train()
    click.echo("Starting both planes, a worker and the survey ...")
    with system:
        click.echo(
            f"\n  Console  http://{HOST}:{port + 1}/   sign in with: {(project.run / 'admin.key').read_text().strip()}"
        )
        click.echo(f"  Survey   http://{HOST}:{port + 2}/survey/submit\n")
        try:
            before = story.serve()
            story.experiment()
            began, during = story.drift()
            after = story.recover(began)
            customers.stop()
            click.echo(summary(story, before, during, after))
            if stay:
                click.echo("Ctrl-C ends.")
                while True:
                    system.check()
                    time.sleep(1.0)
        finally:
            customers.stop()


def summary(story: Story, before: float, during: float, after: float) -> str:
    customers = story.customers
    count = story.system.control.get("/alerts", endpoint="churn", limit=100)["items"]
    lines = [
        "",
        "accuracy",
        *(f"  {name:8} {value:6.1%}  {'#' * round(40 * value)}" for name, value in
          (("before", before), ("drift", during), ("after", after))),
        f"{len(customers.seen):,} customers were answered, {customers.failed} were not; of {customers.labels:,} it became "
        f"known whether they left; {len(count)} alerts.",
        f"Recovered {(after - during) / max(before - during, 1e-9):.0%} of what was lost.",
    ]  # fmt: skip
    return "\n".join(lines)


def _interrupt(*_: object) -> None:
    """Once: whoever is impatient would leave parts behind that run on."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):  # the terminal may be gone
        os.write(1, b"ending ...\n")
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
