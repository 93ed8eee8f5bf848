"""The steps of the workflows in ``dags/`` that run in the project's own environment.

python -m churn.workflow features                # data/production.csv, of the labelled rows of the survey
python -m churn.workflow evaluate FOLDER         # whether the training in FOLDER is good enough; 99: it is not
python -m churn.workflow register FOLDER --key K # the version of it; with one key there is one version
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import yaml

from churn.production import ProductionRows
from churn.survey import from_environment
from churn.versions import export

SKIP = 99
"""Airflow's BashOperator takes this exit code for "skip me and what follows"."""
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
META = (
    "task",
    "target",
    "metrics",
    "gate",
    "rows",
    "origins",
    "data_digest",
    "config_digest",
    "model_digest",
    "run_id",
)


@click.group(help=__doc__)
def app() -> None: ...


@app.command()
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), default=Path("data/production.csv"))
def features(output: Path) -> None:
    rows = ProductionRows(from_environment(os.environ).database)
    try:
        counts = export(rows, output)
    finally:
        rows.close()
    click.echo(f"{output}: {counts['kept']} customers of {counts['read']} labelled rows")


@app.command()
@click.argument("folder", type=FOLDER)
def evaluate(folder: Path) -> None:
    gate = _report(folder)["gate"]
    click.echo(f"{'accepted' if gate['accepted'] else 'refused'}: {gate['reason']}")
    raise SystemExit(0 if gate["accepted"] else SKIP)


@app.command()
@click.argument("folder", type=FOLDER)
@click.option("--key", required=True, help="Name of the training.")
@click.option("--alias", "alias", default="challenger")
def register(folder: Path, key: str, alias: str) -> None:
    report = _report(folder)
    name = report["name"]
    # Of a model that nobody registered yet there is no list.
    known = json.loads(_tidegate("model", "list", name, "--json", good=False) or "[]")
    version = next((one["version"] for one in known if one["metadata"].get("training") == key), None)
    if version is None:
        aliases = [alias] if any("champion" in one["aliases"] for one in known) else [alias, "champion"]
        meta = {"training": key, "family": report["best"]["family"]} | {
            field: value if isinstance(value, str) else json.dumps(value)
            for field in META
            if (value := report.get(field))
        }
        source = f"runs:/{report['run_id']}/model" if report.get("run_id") else str(folder / "model.joblib")
        words = [word for name_ in aliases for word in ("--alias", name_)]
        words += [word for field, value in meta.items() for word in ("--meta", f"{field}={value}")]
        profile = str(folder / "profile.json")
        made = json.loads(_tidegate("model", "register", name, source, "--profile", profile, "--json", *words))
        version = made["version"]
    click.echo(f"models:/{name}/{version}")


@app.command()
@click.argument("model")
def experiment(model: str) -> None:
    """``AB_ENABLED`` and ``AB_BUCKET_B_PCT`` say whether, and for how many of the customers."""
    if os.environ.get("AB_ENABLED", "true").strip().lower() in ("0", "false", "no", "off"):
        click.echo("AB_ENABLED is off: no experiment")
        return
    spec = yaml.safe_load((Path(__file__).parent / "experiment.yaml").read_text("utf-8"))
    spec["arms"][0] |= {"model": model, "share": float(os.environ.get("AB_BUCKET_B_PCT") or spec["arms"][0]["share"])}
    Path("run").mkdir(exist_ok=True)
    file = Path("run") / "experiment.json"
    file.write_text(json.dumps(spec), "utf-8")
    click.echo(_tidegate("experiment", "start", str(file), "--reason", "which model keeps more customers").strip())


def _report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text("utf-8"))
    return found


def _tidegate(*words: str, good: bool = True) -> str:
    done = subprocess.run([sys.executable, "-m", "tidegate", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0 and good:
        raise click.ClickException(done.stderr.strip())
    return done.stdout if done.returncode == 0 else ""


if __name__ == "__main__":
    app()
