"""Records for the tests of the store, with what they do not care about filled in."""

from __future__ import annotations

from typing import Any

from tidegate.observations import Beat, Exposure, Feedback, PredictionEvent, VariantWindow
from tidegate.storage.records import ExperimentRow, KeyRow, ReleaseEventRow, ReleaseRow
from tidegate.types import EndpointPlan, ModelRef, RoutingSnapshot, Variant

START = 1_700_000_000.0


def a_snapshot(share: int = 0) -> RoutingSnapshot:
    variants = (Variant("baseline", ModelRef("a.onnx")), Variant("candidate", ModelRef("b.onnx", version="2"), share))
    return RoutingSnapshot(0, {"iris": EndpointPlan("iris", variants, salt="salt")}, "iris")


def a_window(sequence: int, **fields: Any) -> VariantWindow:
    values: dict[str, Any] = {
        "process": "p1",
        "sequence": sequence,
        "endpoint": "iris",
        "variant": "baseline",
        "version": "1",
        "snapshot": 2,
        "share": 9_900,
        "start": START + sequence,
        "seconds": 1.0,
        "requests": 100,
        "failures": 1,
        "outcomes": {"ok": 99, "failed": 1},
        "latency": {200: 60, 201: 40},
        "outputs": {"setosa": 100},
    }
    return VariantWindow(**values | fields)


def an_event(request_id: str, **fields: Any) -> PredictionEvent:
    values: dict[str, Any] = {
        "request_id": request_id,
        "process": "p1",
        "endpoint": "iris",
        "variant": "baseline",
        "version": "1",
        "snapshot": 2,
        "time": START,
        "seconds": 0.001,
        "inputs": b'{"x":[1]}',
        "outputs": b'{"label":["setosa"]}',
    }
    return PredictionEvent(**values | fields)


def an_exposure(unit: str, variant: str = "baseline", time: float = START, **fields: Any) -> Exposure:
    values: dict[str, Any] = {"experiment": "colours", "endpoint": "iris", "request_id": f"of-{unit}"}
    return Exposure(unit=unit, variant=variant, time=time, **values | fields)


def an_outcome(time: float = START + 1, **fields: Any) -> Feedback:
    values: dict[str, Any] = {"metric": "bought", "value": 1.0, "time": time, "received": time}
    return Feedback(**values | fields)


def a_beat(instance: str, time: float = START, **fields: Any) -> Beat:
    values: dict[str, Any] = {"host": "h", "port": 8000, "pid": 1, "workers": 2, "started": START}
    return Beat(instance=instance, time=time, **values | fields)


def a_release(id: str, **fields: Any) -> ReleaseRow:  # noqa: A002
    values: dict[str, Any] = {
        "endpoint": "iris",
        "state": "ramping",
        "open": True,
        "created": START,
        "changed": START,
        "revision": 1,
        "body": "{}",
    }
    return ReleaseRow(id, **values | fields)


def a_change(release: str, revision: int = 1, kind: str = "started") -> ReleaseEventRow:
    return ReleaseEventRow(release, revision, START + revision, kind, "{}")


def an_experiment(name: str, **fields: Any) -> ExperimentRow:
    values: dict[str, Any] = {"endpoint": "iris", "state": "running", "created": START, "revision": 1, "body": "{}"}
    return ExperimentRow(name, **values | fields)


def a_key(id: str, **fields: Any) -> KeyRow:  # noqa: A002
    values: dict[str, Any] = {
        "salt": "s",
        "digest": "d",
        "created": START,
        "expires": None,
        "revoked": None,
        "used": None,
        "body": "{}",
    }
    return KeyRow(id, **values | fields)
