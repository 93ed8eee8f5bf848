"""What monitoring, jobs, retrainings and reports leave in the store, for the pages that show them."""

from __future__ import annotations

import random
from typing import Any

import msgspec

from tests.e2e.production import HOSTILE
from tests.e2e.seed import NOW, PERSON
from tidegate.control.jobs.job import Attempt, Job, Progress
from tidegate.control.jobs.queue import row_of as job_row
from tidegate.control.monitoring.alerts import alert_id
from tidegate.control.monitoring.raising import AlertChange, event_row
from tidegate.control.monitoring.raising import row_of as alert_row
from tidegate.control.monitoring.records import Alert, Basis, ColumnResult, DriftReport, Metric, Performance
from tidegate.control.monitoring.reports import MEDIA, Made, Summary, packed
from tidegate.control.training.gate import Comparison
from tidegate.control.training.result import Rows
from tidegate.control.training.retraining import Event, Outcome, Retraining
from tidegate.control.training.retraining import row_of as retraining_row
from tidegate.control.training.sources import Origin
from tidegate.storage.records import DocumentRow
from tidegate.storage.store import Store, Unit

WINDOW = 3600.0
BEGIN = 1_795_219_200.0
"""21 November 2026, 00:00 UTC."""


def report(index: int, **more: Any) -> DriftReport:
    """Of the window ``index`` hours after ``BEGIN``; quiet unless ``columns`` says otherwise."""
    start = BEGIN + index * WINDOW
    usual: dict[str, Any] = {
        "id": f"d-churn-{index}", "endpoint": "churn", "variant": "baseline", "version": "4", "baseline": "churn-train",
        "start": start, "seconds": WINDOW, "created": start + WINDOW + 10, "rows": 820, "complete": True, "drifted": False,
    }  # fmt: skip
    return DriftReport(**usual | more)


def result(column: str, ratio: float, note: str = "") -> ColumnResult:
    """``ratio``: the statistic as times its threshold."""
    return ColumnResult(
        column=column, kind="number", method="psi", statistic=round(0.11 * ratio, 4), floor=0.1, threshold=0.11,
        p_value=0.0003 if ratio > 1 else 0.4, q_value=0.002 if ratio > 1 else 0.7, drifted=ratio > 1 and not note,
        reference_rows=5000, rows=820, note=note,
    )  # fmt: skip


def performances(windows: int = 60) -> list[Performance]:
    """Accuracy falls; the newest windows are only estimated, since their labels are late."""
    rng = random.Random(5)
    found = []
    bases: tuple[Basis, ...] = ("prediction", "arrival", "estimated")
    for index in range(windows):
        for basis in bases:
            if (basis == "prediction" and index > windows - 12) or (basis == "arrival" and index < 8):
                continue
            value, half = 0.91 - 0.1 * index / windows + rng.gauss(0, 0.008), 0.03
            metrics = {"accuracy": Metric(value, value - half, value + half)}
            if basis != "estimated":
                metrics["f1"] = Metric(value - 0.08, value - 0.08 - half, value - 0.08 + half)
            found.append(
                Performance(
                    endpoint="churn", variant="baseline", version="3" if index < windows // 2 else "4", basis=basis,
                    start=BEGIN + index * WINDOW, seconds=WINDOW, labels=0 if basis == "estimated" else 240,
                    predictions=820, task="classification", metrics=metrics,
                )
            )  # fmt: skip
    return found


def alert(name: str, **more: Any) -> Alert:
    """One that fires."""
    usual: dict[str, Any] = {
        "id": name, "endpoint": "churn", "rule": f"drift:baseline:{name}", "source": "drift", "variant": "baseline",
        "version": "4", "column": "monthly_charges", "state": "firing", "statistic": "psi", "value": 0.284,
        "threshold": 0.11, "rows": 820, "reference_rows": 5000, "window": NOW - 3600, "window_seconds": WINDOW,
        "broken": 3, "created": NOW - 11_000, "changed": NOW - 7300, "fired": NOW - 7300, "notified": NOW - 7299,
        "text": "monthly_charges of churn (baseline, version 4): psi 0.284, more than 0.11, in 820 rows",
        "command": "tidegate monitor show churn --column monthly_charges",
    }  # fmt: skip
    return Alert(**usual | more)


def alerts() -> list[Alert]:
    """Of an endpoint that nobody looks at now: firing, silenced, and over."""
    return [
        alert("a-fraud-amount", endpoint="fraud", column="amount", text="amount of fraud: psi 0.284, more than 0.11"),
        alert(
            "a-fraud-country", endpoint="fraud", column="country", source="quality", statistic="new_categories",
            value=0.031, threshold=0.01, text=f"values that the reference never had of country of fraud: {HOSTILE}",
            silenced_until=NOW + 9000, silenced_by=PERSON,
        ),
        alert(
            "a-fraud-age", endpoint="fraud", column="age", state="resolved", broken=0, right=1, fired=NOW - 100_000,
            resolved=NOW - 90_000, changed=NOW - 90_000, text="age of fraud: psi 0.04, not more than 0.1",
        ),
    ]  # fmt: skip


def add_alert(unit: Unit, raised: Alert) -> None:
    """With what happened to it."""
    pending = msgspec.structs.replace(raised, state="pending", changed=raised.created)
    fired = AlertChange(event="fired", before="pending", after="firing", text=raised.text, notified=True)
    unit.alerts.add(
        alert_row(pending, 0),
        event_row(
            pending, 0, raised.created, AlertChange(event="pending", before="ok", after="pending", text="seen once")
        ),
    )
    unit.alerts.save(alert_row(raised, 1), event_row(raised, 1, raised.fired, fired), 0)


def job(name: str, kind: str, **more: Any) -> Job:
    usual: dict[str, Any] = {"endpoint": "churn", "author": PERSON, "run_at": NOW - 900, "created": NOW - 900}
    return Job(id=name, kind=kind, **usual | more)


def jobs() -> list[Job]:
    """One in each state."""
    worker = "gpu-1:4711"
    return [
        job("j-batch-1", "batch", state="running", started=NOW - 840, tries=1, attempts=(Attempt(worker, NOW - 840),),
            progress=Progress(412_000, 1_000_000, "scoring"),
            payload={"endpoint": "churn", "source": "customers.parquet", "access_token": "never-shown"}),
        job("j-batch-3", "batch", state="done", started=NOW - 800, ended=NOW - 790, tries=1,
            progress=Progress(2000, 2000, "scoring"), result={"results": "results.csv", "errors": "errors.jsonl", "rows": 2000},
            attempts=(Attempt(worker, NOW - 800, NOW - 790),)),
        job("j-report-1", "report", state="done", started=NOW - 700, ended=NOW - 688, tries=1, progress=Progress(4, 4, "written"),
            attempts=(Attempt(worker, NOW - 700, NOW - 688),), result={"report": "doc-churn-1", "rows": 820}),
        job("j-train-1", "retrain", state="failed", started=NOW - 500, ended=NOW - 420, tries=3, parent="t-churn-2",
            error=f"customers.csv has no column {HOSTILE}", steps={"read": {"rows": 4000}},
            attempts=(Attempt(worker, NOW - 500, NOW - 480, "the worker was lost"), Attempt(worker, NOW - 470, NOW - 420, "no column"))),
        job("j-train-2", "retrain", state="done", started=NOW - 5300, ended=NOW - 5200, tries=1, parent="t-churn-1",
            attempts=(Attempt(worker, NOW - 5300, NOW - 5200),)),
        job("j-batch-2", "batch", endpoint="iris"),
        job("j-dvc-1", "dvc-pull", endpoint="", state="cancelled", ended=NOW - 300, reason="the remote moves"),
    ]  # fmt: skip


def retrainings() -> list[Retraining]:
    """One that was promoted, one that failed, one under way."""
    made = {"endpoint": "churn", "mode": "combined", "author": "tidegate", "changed": NOW - 1800}
    gate = Comparison(
        accepted=True, reason="accuracy is 0.914, 0.871 of version 3: better by 0.043 (0.021 to 0.065), more than 0",
        metric="accuracy", test="mcnemar", rows=1200, alpha=0.05, challenger=0.914, champion=0.871, champion_version="3",
        difference=0.043, low=0.021, high=0.065,
    )  # fmt: skip
    outcome = Outcome(
        accepted=True, name="churn", version="4", uri="models:/churn/4", run_id="8f1c2ab7", family="gradient boosting",
        data_digest="sha256:4b1d90c8aa31", config_digest="sha256:77aa01", model_digest="sha256:0451fe", code_version="d34db33f",
        rows=Rows(read=6200, rejected=3, train=4800, test=1200, production=800),
        origins=(Origin(kind="csv", place="customers.csv", revision="2b6c8bb1a7"),), gate=gate,
        metrics={"accuracy": Metric(0.914, 0.897, 0.929)},
    )  # fmt: skip
    events = (
        Event(NOW - 5400, "queued", "monthly_charges of churn drifted"), Event(NOW - 5300, "training", "a worker has it"),
        Event(NOW - 5200, "accepted", "churn 4 is registered"), Event(NOW - 5100, "releasing", "release r-churn-4 began"),
        Event(NOW - 1800, "promoted", "churn 4 is the champion"),
    )  # fmt: skip
    promoted: dict[str, Any] = made | {
        "trigger": "alert", "alerts": (alert_id("churn", "drift:baseline:monthly_charges"), "a-fraud-amount"), "reports": ("d-churn-1",), "outcome": outcome,
        "reason": "monthly_charges of churn drifted", "job": "j-train-2", "release": "r-churn-4", "events": events,
    }  # fmt: skip
    failed: dict[str, Any] = made | {
        "trigger": "person", "author": PERSON, "reason": f"a try {HOSTILE}", "job": "j-train-1",
        "events": (Event(NOW - 420, "failed", f"customers.csv has no column {HOSTILE}"),),
    }  # fmt: skip
    waits: dict[str, Any] = {"trigger": "schedule", "reason": "the last training was 7 d ago", "mode": "features"}
    return [
        Retraining(id="t-churn-1", state="promoted", created=NOW - 5400, **promoted),
        Retraining(id="t-churn-2", state="failed", created=NOW - 900, **failed),
        Retraining(
            id="t-iris-1", endpoint="iris", author="tidegate", state="training", job="j-batch-2", created=NOW - 60,
            changed=NOW - 50, waiting="its job runs", **waits,
        ),
    ]  # fmt: skip


def documents() -> list[DocumentRow]:
    """Pages that try to reach out of their frame."""
    html = (
        "<!doctype html><html lang=en><title>Drift of churn</title><h1>Drift of churn</h1><p id=out>nothing ran</p>"
        "<script>out.textContent = 'ran'; try { parent.document.title = 'taken' } catch (e) { out.textContent = 'kept in' }"
        "</script></html>"
    )
    found = []
    for name, endpoint in (("doc-churn-1", "churn"), ("doc-fraud-1", "fraud")):
        summary = Summary(
            id=name, kind="drift", title=f"Drift of {endpoint}", endpoint=endpoint, variant="baseline", version="4",
            baseline="churn-train", created=NOW - 690, reference_rows=3000, rows=820, drifted=("monthly_charges", HOSTILE),
        )  # fmt: skip
        body = packed(Made(summary, html, ()))
        said = msgspec.json.encode(summary).decode()
        found.append(DocumentRow(name, endpoint, "drift", NOW - 690, MEDIA, said, body))
    return found


def add(store: Store) -> None:
    with store.begin() as unit:
        for raised in alerts():
            add_alert(unit, raised)
        for one in jobs():
            unit.jobs.add(job_row(one, NOW - 2))
        for training in retrainings():
            unit.retrainings.add(retraining_row(training))
        for document in documents():
            unit.documents.add(document)
