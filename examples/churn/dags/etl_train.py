"""Every night: preprocess → train → evaluate → register. What is good enough gets the alias challenger, and Tidegate lets it
through as far as the evidence allows (``registry.on_challenger: release``).

The steps run in the project's own Python (``CHURN_PYTHON``) and folder (``CHURN_HOME``).
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

PYTHON = os.environ.get("CHURN_PYTHON", "python")
HOME = os.environ.get("CHURN_HOME", str(Path(__file__).resolve().parent.parent))
FOLDER = "run/etl/{{ run_id | replace(':', '-') | replace('+', '-') }}"


def step(name: str, command: str, **more: Any) -> BashOperator:
    return BashOperator(task_id=name, bash_command=command, cwd=HOME, append_env=True, **more)


with DAG(
    "churn_etl_train",
    schedule="@daily",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=30)},
    tags=["churn", "tidegate"],
    doc_md=__doc__,
):
    preprocess = step("preprocess", f"{PYTHON} -m dvc pull --quiet || true; {PYTHON} -m dvc repro --quiet")
    train = step("train", f"{PYTHON} -m tidegate train training.yaml --no-register --output {FOLDER} || [ $? -eq 1 ]")
    evaluate = step("evaluate", f"{PYTHON} -m churn.workflow evaluate {FOLDER}")
    register = step("register", f"{PYTHON} -m churn.workflow register {FOLDER} --key '{{{{ run_id }}}}' | tail -1")
    preprocess >> train >> evaluate >> register
