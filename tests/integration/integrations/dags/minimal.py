"""DAGs that tests run: a look at one endpoint, and tasks that go wrong."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task

from tidegate.integrations.airflow import BaselineOperator, DriftBranch, MonitorOperator, ReportOperator

AT: dict[str, Any] = {"conn_id": "tidegate"}
SINCE = float(os.environ.get("TEST_SINCE", "0"))

with DAG("look", schedule=None):
    baseline = BaselineOperator(
        task_id="baseline", body={"name": "calm", "endpoint": "iris", "production": {"since": SINCE}}, **AT
    )
    look = MonitorOperator(task_id="look", endpoint="iris", **AT)
    report = ReportOperator(task_id="report", kind="summary", endpoint="iris", since="2h", poll_seconds=0.2, **AT)
    branch = DriftBranch(task_id="branch", endpoint="iris", drifted="retrain", stable="rest", unknown="rest", **AT)

    @task  # type: ignore[untyped-decorator]
    def retrain() -> str:
        return "would retrain"

    @task(trigger_rule="none_failed")  # type: ignore[untyped-decorator]
    def rest(found: dict[str, Any]) -> None:
        print("REPORTED", found["report"], found["rows"])

    rested = rest(report.output)
    baseline >> look >> report >> branch >> [retrain(), rested]

with DAG("faults", schedule=None):
    ReportOperator(
        task_id="late",
        kind="quality",
        endpoint="iris",
        poll_seconds=0.2,
        execution_timeout=timedelta(seconds=2),
        retries=1,
        retry_delay=timedelta(0),
        **AT,
    )
    ReportOperator(task_id="wrong", kind="drift", endpoint="nobody", retries=1, retry_delay=timedelta(0), **AT)
