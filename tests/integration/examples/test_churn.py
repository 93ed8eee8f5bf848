"""examples/churn as a whole: real PostgreSQL, MLflow, Airflow, DVC; real planes, worker and survey; everything over HTTP.

The fixture lets the story happen once, in the order of ``Loop.happen``; the tests look at what it left.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from churn.generator import FEATURES, NONE, Drift, make, records
from churn.project import HERE, Project
from churn.system import Ports, System, call, fast
from churn.traffic import Customers
from tests.airflow import Airflow
from tests.databases import create_database
from tests.process import free_port, until
from tests.services import running, shared, shared_folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore")]

PATIENCE = 240.0
QUIET = 0.3
"""Pace of the customers while nothing waits for them, which leaves the processors to the training."""
DRIFT = Drift(covariate=True, concept=True)
NAMES = ("AB_ENABLED", "AB_BUCKET_B_PCT", "AB_STICKY_HEADER", "MODEL_PATH", "MODEL_REGISTRY_NAME", "MODEL_STAGE")
ENDED = ("promoted", "rolled_back", "refused", "failed", "ended")


class Loop:
    """What happened, and what is needed to look at it."""

    def __init__(self, folder: Path, database: str, mlflow: str) -> None:
        self.mlflow = mlflow
        self.database = database
        environment = {**fast(HERE), "DATABASE_URL": database, "MLFLOW_TRACKING_URI": mlflow, "PUSH_EVERY": "600"}
        environment["TIDEGATE_ENDPOINTS__CHURN__MONITOR__RETRAIN__MIN_LABELS"] = "2500"
        environment["TIDEGATE_ENDPOINTS__CHURN__MONITOR__RETRAIN__COOLDOWN"] = "1h"  # the second one is the workflow's
        environment["TIDEGATE_ENDPOINTS__CHURN__RELEASE__STEPS"] = "[50, 100]"
        self.project = Project(folder / "project", environment)
        for name in [one for one in self.project.environment if one.startswith("OTEL_") or one in NAMES]:
            del self.project.environment[name]
        self.project.environment["AB_BUCKET_B_PCT"] = "40"
        self.system = System(self.project, Ports(free_port(), free_port(), free_port()))
        self.customers = Customers(self.system.ports.data, self.system.ports.survey, survey=20.0, centre=70.0)
        self.folder = folder
        self.airflow: Airflow
        self.facts: dict[str, Any] = {}
        self.times: dict[str, float] = {}

    @property
    def control(self) -> Any:
        return self.system.control

    def happen(self) -> None:
        began = time.monotonic()
        chapters = (
            self.train, self.start, self.serve, self.experiment, self.drift, self.retrain, self.recover, self.drift_again,
        )  # fmt: skip
        try:
            for chapter in chapters:
                chapter()
                self.times[chapter.__name__] = round(time.monotonic() - began, 1)
        finally:
            print(f"\nseconds until the end of each chapter: {self.times}")

    def train(self) -> None:
        """The first version comes out of the nightly workflow. The experiment has it in both arms: between a model and
        itself no difference may be found."""
        self.project.make()
        home = self.project.home
        training = yaml.safe_load((home / "training.yaml").read_text())
        training["gate"]["margin"] = 0.1  # the third version is hardly better than the second
        (home / "training.yaml").write_text(yaml.safe_dump(training, sort_keys=False))
        where = {"CHURN_PYTHON": sys.executable, "CHURN_HOME": str(home)}
        environment = {name: value for name, value in self.project.environment.items() if name not in os.environ}
        self.airflow = Airflow(
            self.folder, home / "dags", {**environment, **where, "PYTHONPATH": str(self.project.folder)}
        )
        self.facts["etl"] = self.airflow.test("churn_etl_train")
        self.project.commit("Data")
        self.project.command("dvc", "push", "--quiet")
        self.facts["arm"] = "models:/churn/1"

    def start(self) -> None:
        self.system.start()
        control = f"http://127.0.0.1:{self.system.ports.control}"
        self.airflow.environment |= {"TIDEGATE_CONTROL": control, "TIDEGATE_API_KEY": self.system.operate_key}

    def serve(self) -> None:
        begin = time.time()
        self.customers.start(self.system.predict_key)
        self.wait(lambda: self.customers.accuracy(begin)[1] >= 500, "customers came")
        self.facts["before"] = self.customers.accuracy(begin)[0]

    def experiment(self) -> None:
        self.project.python("-m", "churn.workflow", "experiment", self.facts["arm"])
        self.wait(lambda: self.control.get("/experiments/keeping")["state"] == "running", "the experiment runs")
        path = "/experiments/keeping/report"
        self.wait(lambda: min(self.control.get(path)["units"].values()) >= 80, "customers take part")
        self.facts["again"] = [(one, self.predict(one.customer)) for one in self.customers.seen[-20:]]
        self.control.post("/experiments/keeping/stop", {"reason": "enough"})
        self.wait(lambda: all(one.variant != "b" for one in self.customers.seen[-30:]), "nobody gets the arm any more")
        shown = {one.customer for one in self.customers.seen if one.variant == "b"}
        self.wait(lambda: self.control.get(path)["units"].get("b") == len(shown), "the last exposures are in the log")
        self.facts["report"] = self.control.get(path)

    def drift(self) -> None:
        self.facts["drift began"] = time.time()
        self.customers.drift = DRIFT

        def columns() -> set[str]:
            alerts = self.control.get("/alerts", endpoint="churn", state="firing", limit=100)["items"]
            return {one["column"] for one in alerts if one["source"] == "drift"}

        self.facts["columns"] = self.wait(
            lambda: found if {"monthly_charge", "data_gb"} <= (found := columns()) else None, "the drift is found"
        )

    def retrain(self) -> None:
        def newest() -> dict[str, Any] | None:
            found = self.control.get("/retrainings", endpoint="churn")["items"]
            return found[0] if found else None

        begun = self.wait(newest, "a retraining begins by itself")
        path = f"/retrainings/{begun['id']}"
        self.wait(lambda: self.control.get(path)["state"] != "queued", "its job runs")
        self.customers.pace = QUIET
        self.wait(lambda: self.control.get(path)["state"] != "training", "it is trained")
        self.customers.pace = 1.0
        self.wait(lambda: self.control.get(path)["state"] in ENDED, "the retraining ends")
        self.facts["drifted"] = self.customers.accuracy(self.facts["drift began"] + 1.0, begun["created"])
        self.facts["retraining"] = self.control.get(path)

    def recover(self) -> None:
        """The hourly workflow finds that all is well with the new version."""
        begin = time.time() + 1.0
        self.wait(lambda: self.customers.accuracy(begin)[1] >= 400, "customers came after the release")
        self.facts["after"] = self.customers.accuracy(begin)[0]
        self.wait(lambda: self.newest_window()["start"] > begin, "a whole window is the new version's")
        self.customers.pace = QUIET
        self.facts["calm"] = self.airflow.test("churn_drift_retrain", "--mark-success-pattern", "^report$")

    def drift_again(self) -> None:
        """The customers of before come back. Nothing may begin by itself so soon; the hourly workflow has it trained."""
        begin = time.time()
        self.customers.drift, self.customers.pace = NONE, 1.0

        def found() -> bool:
            window = self.newest_window()
            return bool(window["start"] > begin and window["drifted"])

        self.wait(found, "a whole window has drifted")
        self.customers.stop()
        self.facts["hourly"] = self.airflow.test("churn_drift_retrain")
        self.facts["told"] = self.result_of("retrain")
        path = f"/retrainings/{self.facts['told']['id']}"
        self.wait(lambda: self.control.get(path)["state"] in ("releasing", *ENDED), "its release begins")
        self.facts["asked"] = self.control.get(path)

    def newest_window(self) -> dict[str, Any]:
        """What the workflow decides by."""
        found = self.control.get("/drift-reports", endpoint="churn", limit=50)["items"]
        newest: dict[str, Any] = next(one for one in found if one["complete"] and one["variant"] == "baseline")
        return newest

    def result_of(self, task: str) -> Any:
        """What a task of the workflows gave to XCom last."""
        with closing(sqlite3.connect(self.airflow.home / "airflow.db")) as database:
            query = "SELECT value FROM xcom WHERE task_id = ? AND key = 'return_value' ORDER BY timestamp DESC"
            [value] = database.execute(query, [task]).fetchone()
        return json.loads(value)

    def predict(self, customer: str) -> dict[str, Any]:
        status, body = self.ask_predict([next(records(make(1, seed=5)))], customer)
        assert status == 200, body
        found: dict[str, Any] = json.loads(body)
        return found

    def ask_predict(self, rows: list[dict[str, Any]], customer: str = "", key: str | None = None) -> tuple[int, bytes]:
        body = json.dumps({"records": [{name: row[name] for name in FEATURES} for row in rows]}).encode()
        named = {"X_User_Id": customer} if customer else {}
        return call(self.system.ports.data, "POST", "/predict", body, X_API_Key=key or self.system.predict_key, **named)

    def wait(self, condition: Any, what: str) -> Any:
        return self.system.wait(condition, what, PATIENCE)


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    folder = tmp_path_factory.mktemp("churn")
    with (
        shared("postgresql", shared_folder(tmp_path_factory)) as server,
        running("mlflow", folder / "mlflow") as mlflow,
    ):
        made = Loop(folder, create_database(server), mlflow.url)
        try:
            made.happen()
            yield made
        finally:
            made.customers.stop()
            made.system.stop()


def test_both_workflows_are_sound_and_run(loop: Loop) -> None:
    for text in (loop.facts["etl"], loop.facts["calm"], loop.facts["hourly"]):
        assert "state=success" in text
    for task in ("preprocess", "train", "evaluate", "register"):
        assert f"task_id={task}" in loop.facts["etl"], task
    assert "no drift" in loop.facts["calm"]
    assert "Branch into skip" in loop.facts["calm"]


def test_the_hourly_workflow_has_a_model_trained_when_there_is_drift(loop: Loop) -> None:
    assert "Branch into retrain" in loop.facts["hourly"]
    told, found = loop.facts["told"], loop.facts["asked"]
    assert (found["mode"], found["trigger"], found["reason"]) == (
        "combined", "person", "drift found by the hourly workflow",
    )  # fmt: skip
    assert found["author"].startswith("workflows"), found["author"]
    assert [event["state"] for event in found["events"]] == ["queued", "training", "accepted", "releasing"]
    assert told["outcome"] == found["outcome"]
    assert (
        found["outcome"]["rows"]["production_train"] > loop.facts["retraining"]["outcome"]["rows"]["production_train"]
    )
    job = loop.control.get(f"/jobs/{found['job']}")
    assert (job["kind"], job["state"]) == ("retrain", "done"), job["error"]
    release = loop.control.get(f"/releases/{found['release']}")
    assert release["candidate"]["version"] == found["outcome"]["version"] == "3"


def test_who_came_was_answered(loop: Loop) -> None:
    assert loop.customers.failed == 0
    assert len(loop.customers.seen) > 2000


def test_accuracy_falls_with_the_drift_and_comes_back(loop: Loop) -> None:
    before, (during, asked), after = loop.facts["before"], loop.facts["drifted"], loop.facts["after"]
    print(f"accuracy {before:.3f} before, {during:.3f} during ({asked}), {after:.3f} after")
    assert before > 0.82
    assert asked > 200
    assert during < before - 0.25
    assert after > during + 0.2
    assert after > before - 0.2


def test_the_retraining_shows_the_whole_chain(loop: Loop) -> None:
    found = loop.facts["retraining"]
    assert found["state"] == "promoted", found["events"]
    assert (found["trigger"], found["mode"], found["author"]) == ("alert", "combined", "tidegate")
    alerts = [loop.control.get(f"/alerts/{one}") for one in found["alerts"]]
    assert {"drift", "performance"} & {one["source"] for one in alerts}
    assert [event["state"] for event in found["events"]] == ["queued", "training", "accepted", "releasing", "promoted"]
    outcome = found["outcome"]
    assert outcome["rows"]["production_train"] > 1000
    assert loop.control.get(f"/jobs/{found['job']}")["state"] == "done"
    release = loop.control.get(f"/releases/{found['release']}")
    assert (release["state"], release["candidate"]["version"]) == ("promoted", outcome["version"])
    for report in found["reports"]:
        assert loop.control.get(f"/drift-reports/{report}")["drifted"]


def test_the_alerts_name_the_features_that_changed(loop: Loop) -> None:
    assert {"monthly_charge", "data_gb"} <= loop.facts["columns"]
    assert not {"gender", "region"} & loop.facts["columns"]


def test_mlflow_has_the_new_champion_and_the_version_of_its_data(loop: Loop) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(loop.mlflow, loop.mlflow)
    outcome = loop.facts["retraining"]["outcome"]
    champion = client.get_model_version_by_alias("churn", "champion")
    assert champion.version == outcome["version"]
    run = client.get_run(outcome["run_id"])
    recorded = yaml.safe_load((loop.project.home / "dvc.lock").read_text())["stages"]["preprocess"]["outs"]
    md5 = next(one["md5"] for one in recorded if one["path"] == "data/train.csv")
    assert run.data.tags["data.dvc.md5"] == md5
    status, served = call(loop.system.ports.data, "GET", "/models/churn", X_API_Key=loop.system.predict_key)
    assert (status, json.loads(served)["variants"][0]["version"]) == (200, outcome["version"])


def test_the_experiment_exposed_each_customer_to_one_arm(loop: Loop) -> None:
    shown = {one.customer for one in loop.customers.seen if one.variant == "b"}
    with psycopg.connect(loop.database) as connection:
        log = connection.execute("SELECT unit, variant FROM exposures WHERE experiment = 'keeping'").fetchall()
    assert len({unit for unit, _ in log}) == len(log)
    assert {unit for unit, variant in log if variant == "b"} == shown
    units = loop.facts["report"]["units"]
    assert units["b"] == len(shown)
    assert loop.facts["report"]["split"]["outcome"] != "fail"
    assert {one["outcome"] for one in loop.facts["report"]["comparisons"]} <= {"undecided", "no_data"}, (
        "it is the same model"
    )
    assert 0.25 < units["b"] / sum(units.values()) < 0.55, "AB_BUCKET_B_PCT is 40"
    for seen, again in loop.facts["again"]:
        if seen.variant == "b":
            assert again["model"]["variant"] == "b", "the same customer gets the same arm"


def test_models_and_batches_on_the_data_plane_need_a_key(loop: Loop) -> None:
    rows = list(records(make(50, seed=8)))
    status, body = loop.ask_predict(rows)
    assert (status, len(json.loads(body)["predictions"])) == (200, 50)
    assert loop.ask_predict(rows, key="tg_wrong")[0] == 401
    for path in ("/info", "/models"):
        assert call(loop.system.ports.data, "GET", path, X_API_Key=loop.system.predict_key)[0] == 200
    versions = {one["version"] for one in loop.control.get("/models/churn")["items"]}
    assert {"1", loop.facts["retraining"]["outcome"]["version"]} <= versions


def test_the_survey_says_how_likely_it_is_that_the_customer_leaves(loop: Loop) -> None:
    for index, row in enumerate(records(make(6, seed=9))):
        body = {"customer_id": f"asked-{index}", "answers": {name: row[name] for name in FEATURES}}
        status, answer = call(loop.system.ports.survey, "POST", "/survey/submit", json.dumps(body).encode())
        told = json.loads(answer)
        assert status == 201, answer
        assert (told["chance_to_leave"] > 0.5) == (told["prediction"] == "yes"), told


def test_baselines_can_be_seen_and_made(loop: Loop) -> None:
    names = {one["name"] for one in loop.control.get("/baselines", endpoint="churn")["items"]}
    assert {"churn@1", f"churn@{loop.facts['retraining']['outcome']['version']}"} <= names


def test_evidently_s_report_is_stored(loop: Loop) -> None:
    reports = loop.control.get("/reports", endpoint="churn")["items"]
    assert [one["kind"] for one in reports] == ["summary"]
    evidently = loop.control.get(f"/reports/{reports[0]['id']}/data")["evidently"]
    assert evidently, "Evidently's own figures are beside ours"
    page = loop.control.read(f"/reports/{reports[0]['id']}/document")
    assert b"<html" in page[:2000].lower()


def test_the_survey_s_rows_are_kept_and_pushed(loop: Loop) -> None:
    status, body = call(loop.system.ports.survey, "GET", "/production/rows")
    counted = json.loads(body)
    assert status == 200
    assert counted["rows"] > 200
    jobs = loop.control.get("/jobs", limit=100)["items"]
    moved = [one for one in jobs if one["kind"].startswith("dvc-")]
    assert {one["kind"] for one in moved} == {"dvc-pull", "dvc-push"}
    until(lambda: not any(one["state"] in ("queued", "running") for one in
                          loop.control.get("/jobs", limit=100)["items"] if one["kind"].startswith("dvc-")), "moved", 60)  # fmt: skip
    ended = [loop.control.get(f"/jobs/{one['id']}") for one in moved]
    assert {one["state"] for one in ended} == {"done"}, [one["error"] for one in ended]
    newest = next(one for one in ended if one["kind"] == "dvc-push")
    md5 = newest["result"]["versions"]["data/production.csv"].removeprefix("md5:")
    assert (loop.project.folder / "remote" / "files" / "md5" / md5[:2] / md5[2:]).is_file()
    assert "labelled customers" in loop.project.command("git", "log", "--oneline")
