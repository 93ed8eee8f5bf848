"""Every hour: build features → look → detect drift → report → retrain with production rows, or skip → release.

Tidegate's monitor does the same by itself where ``monitor.retrain`` is set; this is for those who want Airflow to decide.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

from tidegate.integrations.airflow import DriftBranch, MonitorOperator, ReportOperator, RetrainOperator

PYTHON = os.environ.get("CHURN_PYTHON", "python")
HOME = os.environ.get("CHURN_HOME", str(Path(__file__).resolve().parent.parent))
AT: dict[str, Any] = {"conn_id": os.environ.get("CHURN_CONNECTION", "")}
WAITING: dict[str, Any] = {**AT, "poll_seconds": 1.0, "execution_timeout": timedelta(hours=6)}

with DAG(
    "churn_drift_retrain",
    schedule="@hourly",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=30)},
    tags=["churn", "tidegate"],
    doc_md=__doc__,
):
    features = BashOperator(
        task_id="build_features", bash_command=f"{PYTHON} -m churn.workflow features", cwd=HOME, append_env=True
    )
    look = MonitorOperator(task_id="look", endpoint="churn", **AT)
    report = ReportOperator(task_id="report", kind="summary", endpoint="churn", since="1h", **WAITING)
    branch = DriftBranch(task_id="branch", endpoint="churn", drifted="retrain", stable="skip", unknown="skip", **AT)
    retrain = RetrainOperator(
        task_id="retrain", endpoint="churn", mode="combined", reason="drift found by the hourly workflow", **WAITING
    )
    skip = EmptyOperator(task_id="skip")
    features >> look >> report >> branch >> [retrain, skip]
