"""Operators for Apache Airflow 3: each asks the control plane for one thing, waits for it, and gives its result to XCom.

The control plane's address and key are those of an Airflow connection (host, password), or of the environment
(``TIDEGATE_CONTROL``, ``TIDEGATE_API_KEY``). A task that Airflow tries again finds what its first try had started; one that
Airflow kills, or that takes longer than its ``execution_timeout``, cancels it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar

from airflow.sdk import BaseBranchOperator, BaseOperator, Connection
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.sdk.log import mask_secret

from tidegate.errors import Refused, UserError
from tidegate.integrations.control import DEFAULT_ADDRESS, Control, Ended, ask, newest_drift

Names = str | Sequence[str]


def control_of(conn_id: str) -> Control:
    """Of a connection, or of the environment when ``conn_id`` is empty. The key is masked in Airflow's logs."""
    if not conn_id:
        address = os.environ.get("TIDEGATE_CONTROL") or DEFAULT_ADDRESS
        key = os.environ.get("TIDEGATE_API_KEY") or os.environ.get("TIDEGATE_KEY") or ""
    else:
        found = Connection.get(conn_id)
        address, key = _address(found), found.password or ""
    if key:
        mask_secret(key)
    return Control(address, key)


def _address(connection: Any) -> str:
    """``host`` may be a whole address; else ``schema``, or else the type of the connection, says http or https."""
    host = connection.host or "127.0.0.1"
    if "://" not in host:
        scheme = next((one for one in (connection.schema, connection.conn_type) if one in ("http", "https")), "http")
        host = f"{scheme}://{host}"
    return f"{host}:{connection.port}" if connection.port else str(host)


def key_of(context: Mapping[str, Any]) -> str:
    """The same for all tries of one task of one run, and no other."""
    task = context["ti"]
    return f"airflow/{task.dag_id}/{task.task_id}/{task.run_id}/{task.map_index}"


class TidegateOperator(BaseOperator):  # type: ignore[misc]
    """POSTs ``body`` to ``path`` below ``/api/v1``; what that starts is waited for.

    XCom gets the result of a job, or else the whole of what was started; ``place`` is where the control plane shows it.
    """

    template_fields: ClassVar[Sequence[str]] = ("path", "body", "conn_id")
    ui_color: ClassVar[str] = "#d5eef2"
    cancels: ClassVar[bool] = True
    """Whether a killed task takes back what it asked for."""
    again: ClassVar[bool] = True
    """Whether another try of the task does once more what has failed."""
    enough: Sequence[str] = ()
    """States that are waited for, beside those in which it has ended."""

    def __init__(
        self,
        *,
        path: str = "",
        body: Mapping[str, Any] | None = None,
        conn_id: str = "",
        wait: bool = True,
        poll_seconds: float = 5.0,
        **given: Any,
    ) -> None:
        super().__init__(**given)
        self.path = path
        self.body = dict(body or {})
        self.conn_id = conn_id
        self.wait = wait
        self.poll_seconds = poll_seconds
        self._place = ""

    def asked(self) -> tuple[str, dict[str, Any]]:
        """Path and body, once the templates are filled in."""
        return self.path, self.body

    def execute(self, context: Any) -> Any:
        path, body = self.asked()
        try:
            with control_of(self.conn_id) as control:
                found = ask(
                    control,
                    path,
                    body,
                    key_of(context),
                    wait=self.wait,
                    again=self.again,
                    enough=self.enough,
                    every=self.poll_seconds,
                    began=self._began,
                    told=self._told,
                )
        except Ended as error:
            raise (AirflowException if self.again else AirflowFailException)(str(error)) from None
        except Refused as error:
            raise AirflowException(str(error)) from None
        except UserError as error:  # another try would be told the same
            raise AirflowFailException(str(error)) from None
        if self._place:
            context["ti"].xcom_push(key="place", value=self._place)
        result = found.get("result")
        return result if self.wait and isinstance(result, dict) else found

    def on_kill(self) -> None:
        if not (self._place and self.cancels):
            return
        try:
            with control_of(self.conn_id) as control:
                control.post(f"{self._place}/cancel", key=f"cancel{self._place}/{time.time():.0f}")
            self.log.info("%s: told to stop", self._place)
        except (UserError, Refused) as error:
            self.log.warning("%s could not be told to stop: %s", self._place, error)

    def _began(self, place: str) -> None:
        self._place = place
        self.log.info("started %s", place)

    def _told(self, found: Mapping[str, Any]) -> None:
        progress = found.get("progress") or {}
        total = f" of {progress['total']}" if progress.get("total") else ""
        done = f", {progress['done']}{total} {progress.get('text', '')}" if progress.get("done") else ""
        self.log.info("%s: %s%s", self._place, found.get("state", "?"), done)


class RetrainOperator(TidegateOperator):
    """Retrains the model of an endpoint as its ``monitor.retrain`` says. XCom gets the retraining; its ``state`` is
    ``refused`` where the gate kept the champion. ``wait_for_release``: until what follows has ended too."""

    def __init__(
        self,
        *,
        endpoint: str,
        mode: str | None = None,
        reason: str | None = None,
        wait_for_release: bool = False,
        **more: Any,
    ) -> None:
        super().__init__(path="/retrainings", body=_given(endpoint=endpoint, mode=mode, reason=reason), **more)
        self.enough = () if wait_for_release else ("accepted", "releasing")


class ReportOperator(TidegateOperator):
    """Makes a report to read: ``drift``, ``quality`` or ``summary``. XCom gets its summary and its id."""

    def __init__(
        self,
        *,
        kind: str,
        endpoint: str,
        since: str | None = None,
        variant: str | None = None,
        reason: str | None = None,
        **more: Any,
    ) -> None:
        body = _given(kind=kind, endpoint=endpoint, since=since, variant=variant, reason=reason)
        super().__init__(path="/reports", body=body, **more)


class MonitorOperator(TidegateOperator):
    """Has the monitor of an endpoint look now, not at its next turn."""

    def __init__(self, *, endpoint: str, **more: Any) -> None:
        super().__init__(path=f"/monitors/{endpoint}/run", **more)


class BaselineOperator(TidegateOperator):
    """Makes what production is compared with; ``body`` is that of ``POST /api/v1/baselines``. Done at once."""

    def __init__(self, *, body: Mapping[str, Any], **more: Any) -> None:
        super().__init__(path="/baselines", body=body, **more)


class BatchOperator(TidegateOperator):
    """Scores the rows of a file; ``body`` is that of ``POST /api/v1/batch-jobs``. XCom gets counts and the results' place."""

    def __init__(self, *, body: Mapping[str, Any], **more: Any) -> None:
        super().__init__(path="/batch-jobs", body=body, **more)


class ReleaseOperator(TidegateOperator):
    """Starts a release, and waits until it is promoted. One that is rolled back fails the task for good: nothing is released
    twice because a task is tried twice. A killed task leaves the release to the control plane and its rules."""

    cancels: ClassVar[bool] = False
    again: ClassVar[bool] = False

    def __init__(
        self,
        *,
        endpoint: str,
        model: str,
        plan: Mapping[str, Any] | None = None,
        reason: str | None = None,
        **more: Any,
    ) -> None:
        super().__init__(
            path="/releases", body=_given(endpoint=endpoint, model=model, plan=plan, reason=reason), **more
        )


class DriftBranch(BaseBranchOperator):  # type: ignore[misc]
    """Goes on with the tasks ``drifted`` when the newest drift report of a finished window says so, else with ``stable``;
    with ``unknown`` when there is none, or none within ``max_age``. XCom key ``report`` gets the report."""

    template_fields: ClassVar[Sequence[str]] = ("endpoint", "variant", "conn_id")
    ui_color: ClassVar[str] = "#d5eef2"

    def __init__(
        self,
        *,
        endpoint: str,
        drifted: Names,
        stable: Names = (),
        unknown: Names = (),
        variant: str = "baseline",
        max_age: timedelta | None = None,
        conn_id: str = "",
        **given: Any,
    ) -> None:
        super().__init__(**given)
        self.endpoint = endpoint
        self.drifted = drifted
        self.stable = stable
        self.unknown = unknown
        self.variant = variant
        self.max_age = max_age
        self.conn_id = conn_id

    def choose_branch(self, context: Any) -> Names | None:
        """``None`` skips all that follows."""
        try:
            with control_of(self.conn_id) as control:
                report = newest_drift(control, self.endpoint, self.variant)
        except Refused as error:
            raise AirflowException(str(error)) from None
        except UserError as error:
            raise AirflowFailException(str(error)) from None
        age = time.time() - (report["start"] + report["seconds"]) if report else 0.0
        if report is None or (self.max_age is not None and age > self.max_age.total_seconds()):
            self.log.info("no finished window of %s was looked at within %s", self.endpoint, self.max_age or "all time")
            return self.unknown or None
        context["ti"].xcom_push(key="report", value=report)
        columns = [one["column"] for one in report.get("columns", ()) if one.get("drifted")]
        self.log.info("report %s: %s %s", report["id"], "drift in" if report["drifted"] else "no drift", columns or "")
        return (self.drifted if report["drifted"] else self.stable) or None


def _given(**values: Any) -> dict[str, Any]:
    """Without what is None, which is left to the control plane."""
    return {name: value for name, value in values.items() if value is not None}
