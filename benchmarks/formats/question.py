from __future__ import annotations

import json

import msgspec
import numpy

from benchmarks.harness import models
from benchmarks.harness.closed import compare, rates
from benchmarks.harness.measure import Effort, Spread, ratio
from benchmarks.harness.request import Request
from benchmarks.harness.results import Result
from benchmarks.harness.subjects import floor, tidegate

ROWS = 64


def binary(rows: list[list[float]], name: str = "features") -> Request:
    """A v2 infer request whose input, and whose outputs, are raw tensors."""
    tensor = numpy.asarray(rows, dtype="<f4")
    raw = tensor.tobytes()
    head = {
        "inputs": [
            {
                "name": name,
                "shape": list(tensor.shape),
                "datatype": "FP32",
                "parameters": {"binary_data_size": len(raw)},
            }
        ],
        "parameters": {"binary_data_output": True},
    }
    text = json.dumps(head, separators=(",", ":")).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(text))}
    return Request("/v2/models/iris/infer", text + raw, headers)


def msgpack(rows: list[list[float]]) -> Request:
    """Numbers as one binary value, as a client that chose msgpack for speed sends them."""
    data = numpy.asarray(rows, dtype="<f4")
    body = msgspec.msgpack.encode({"features": {"dtype": "FP32", "shape": data.shape, "data": data.tobytes()}})
    return Request("/predict", body, {"Content-Type": "application/msgpack", "Accept": "application/msgpack"})


def run(effort: Effort) -> Result:
    result = Result("formats")
    # The cheap model, so that what differs between the formats is not hidden behind the same model's time.
    path = models.make().regression
    rows = models.features(ROWS)
    plain = Request("/predict", models.document(ROWS))
    with floor(path) as base, tidegate({"iris": {"model": str(path)}}) as ours:
        cases = {
            "floor, JSON": (base, plain),
            "JSON": (ours, plain),
            "binary tensors": (ours, binary(rows)),
            "msgpack": (ours, msgpack(rows)),
        }
        found = compare(effort, cases, connections=32, result=result, label=f"{ROWS} rows")
    for name in ("binary tensors", "msgpack"):
        over_json = ratio(rates(found[name]), rates(found["JSON"]))
        result.add(f"{ROWS} rows, {name} / JSON", over_json, side="at least", bound=1.5)
        over_floor = ratio(rates(found[name]), rates(found["floor, JSON"]))
        result.add(f"{ROWS} rows, {name} / floor", over_floor, side="at least", bound=0.9)
    for name, loads in found.items():
        result.add(f"{ROWS} rows, {name}", Spread.of([ROWS * rate for rate in rates(loads)]), unit="rows/s")
    return result
