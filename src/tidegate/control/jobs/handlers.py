"""What runs jobs of each kind: ``module:function``, imported where it runs and not before.

A handler is ``run(task: Task) -> Mapping[str, Any]``. What it raises decides: UserError and RequestError fail the job at
once, anything else is tried again. It may be run again from the start at any point, after a crash: what must not happen
twice belongs into ``task.step``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tidegate.errors import UserError

if TYPE_CHECKING:
    from tidegate.control.jobs.task import Task

Handler = Callable[["Task"], Mapping[str, Any]]

HANDLERS: Mapping[str, str] = {
    "batch": "tidegate.control.jobs.batch:run",
    "notify": "tidegate.control.monitoring.notify:run",
    "report": "tidegate.control.monitoring.reports:run",
    "train": "tidegate.apps.training:run_train",
    "retrain": "tidegate.apps.training:run_retrain",
    "dvc-pull": "tidegate.integrations.dvc:run_pull",
    "dvc-push": "tidegate.integrations.dvc:run_push",
}

LIGHT = frozenset({"notify"})
"""Kinds that run on a thread of the worker: quick, of little memory, with time-outs of their own. All others get a process."""


def handler_of(target: str) -> Handler:
    """Raises UserError when it is not installed here."""
    module, _, function = target.partition(":")
    try:
        found: Handler = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise UserError(f"this worker cannot run {target}: {error}; is it of the same version?") from error
    return found
