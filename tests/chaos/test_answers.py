"""R1 and R2: every request gets exactly one answer, and it is the right one, whatever its neighbours do."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.caller import Answer, Caller, Load, request_bytes
from tests.process import serving, until
from tidegate.testing.models import iris, iris_forest, write_joblib

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

POISON = -666.0
REQUESTS = 10_000


class Mixed:
    """A stream of every kind of request, each with the only answers that are right for it."""

    def __init__(self) -> None:
        self.kinds: dict[str, int] = {}

    def __call__(self, caller: Caller, number: int) -> str:
        draw = random.Random(number)
        kind = draw.choices(
            ["native", "records", "msgpack", "v2", "binary", "mlflow", "poison", "hasty", "left", "wrong"],
            [20, 10, 10, 10, 10, 10, 10, 8, 6, 6],
        )[0]
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        rows = [[float(number), float(row), draw.random(), 1.0] for row in range(draw.choice([1, 1, 1, 2, 7, 40]))]
        headers = {
            "X-Request-Id": f"r{number}",
            "X-Priority": draw.choice(["critical", "normal", "bulk"]),
            "X-Timeout-Ms": "20000",
        }
        wrong = str(getattr(self, f"_{kind}")(caller, rows, headers, draw))
        return f"{kind}: {wrong}" if wrong else ""

    def _native(self, caller: Caller, rows: list[list[float]], headers: dict[str, str], _: random.Random) -> str:
        return _right(caller.call("POST", "/predict", {"features": rows}, headers), rows, headers)

    def _records(self, caller: Caller, rows: list[list[float]], headers: dict[str, str], _: random.Random) -> str:
        records = [{f"x{place}": value for place, value in enumerate(row)} for row in rows]
        return _right(caller.call("POST", "/predict", {"records": records}, headers), rows, headers)

    def _msgpack(self, caller: Caller, rows: list[list[float]], headers: dict[str, str], _: random.Random) -> str:
        body = msgspec.msgpack.encode({"features": rows})
        answer = caller.call("POST", "/predict", body, {**headers, "content-type": "application/msgpack"})
        if answer.status == 200 and "msgpack" in answer.headers["content-type"]:
            answer = answer._replace(body=msgspec.json.encode(msgspec.msgpack.decode(answer.body)))
        return _right(answer, rows, headers)

    def _v2(self, caller: Caller, rows: list[list[float]], headers: dict[str, str], _: random.Random) -> str:
        tensor = {"name": "x", "shape": [len(rows), 4], "datatype": "FP64", "data": rows}
        answer = caller.call("POST", "/v2/models/sum/infer", {"inputs": [tensor]}, headers)
        if answer.status != 200:
            return f"{answer.status} {answer.body[:200]!r}"
        return _same(answer.json["outputs"][0]["data"], rows)

    def _binary(self, caller: Caller, rows: list[list[float]], headers: dict[str, str], _: random.Random) -> str:
        raw = struct.pack(f"<{4 * len(rows)}d", *(value for row in rows for value in row))
        tensor: dict[str, Any] = {"name": "x", "shape": [len(rows), 4], "datatype": "FP64"}
        tensor["parameters"] = {"binary_data_size": len(raw)}
        head = msgspec.json.encode({"inputs": [tensor], "parameters": {"binary_data_output": True}})
        headers = {**headers, "Inference-Header-Content-Length": str(len(head))}
        answer = caller.call("POST", "/v2/models/sum/infer", head + raw, headers)
        if answer.status != 200:
            return f"{answer.status} {answer.body[:200]!r}"
        place = int(answer.headers["inference-header-content-length"])
        return _same(list(struct.unpack(f"<{len(rows)}d", answer.body[place:])), rows)

    def _mlflow(self, caller: Caller, rows: list[list[float]], headers: dict[str, str], _: random.Random) -> str:
        answer = caller.call("POST", "/invocations", {"inputs": rows}, headers)
        if answer.status != 200:
            return f"{answer.status} {answer.body[:200]!r}"
        got = answer.json["predictions"]
        return _same(got["predictions"] if isinstance(got, dict) else got, rows)

    def _poison(self, caller: Caller, rows: list[list[float]], headers: dict[str, str], _: random.Random) -> str:
        """The model fails on this value: this request alone gets a 500, without the model's words."""
        rows[-1][3] = POISON
        answer = caller.call("POST", "/predict", {"features": rows}, headers)
        if answer.status != 500 or b"as told" in answer.body:
            return f"{answer.status} {answer.body[:200]!r}"
        return "" if answer.json["request_id"] == headers["X-Request-Id"] else "another one's answer"

    def _hasty(self, caller: Caller, rows: list[list[float]], headers: dict[str, str], draw: random.Random) -> str:
        """Right, or too late, or refused because it would be."""
        headers["X-Timeout-Ms"] = str(draw.choice([0.5, 1, 3, 6]))
        answer = caller.call("POST", "/predict", {"features": rows}, headers)
        if answer.status in (429, 503) and "retry-after" not in answer.headers:
            return "refused without Retry-After"
        return "" if answer.status in (429, 503, 504) else _right(answer, rows, headers)

    def _left(self, caller: Caller, rows: list[list[float]], headers: dict[str, str], draw: random.Random) -> str:
        """Hangs up: in the middle of its own request, or before the answer."""
        message = request_bytes("POST", "/predict", {"features": rows}, headers)
        with Caller(caller.port) as other:
            other.send(message[: draw.choice([20, len(message) - 5, len(message), len(message)])])
        return ""

    def _wrong(self, caller: Caller, rows: list[list[float]], headers: dict[str, str], draw: random.Random) -> str:
        body = draw.choice([b"{", b'{"features": [[1, 2]]}', b'{"features": [["a", 1, 2, 3]]}', b"[]"])
        answer = caller.call("POST", "/predict", body, headers)
        return "" if answer.status in (400, 422) else f"{answer.status} for {body!r}"


def _right(answer: Answer, rows: list[list[float]], headers: dict[str, str]) -> str:
    if answer.status != 200:
        return f"{answer.status} {answer.body[:200]!r}"
    if answer.headers["x-request-id"] != headers["X-Request-Id"]:
        return f"the answer to {answer.headers['x-request-id']}"
    return _same(answer.json["predictions"], rows)


def _same(got: list[float], rows: list[list[float]]) -> str:
    wanted = [sum(row) for row in rows]
    close = len(got) == len(wanted) and all(abs(one - other) < 1e-9 for one, other in zip(got, wanted, strict=True))
    return "" if close else f"{got} instead of {wanted}"


@pytest.mark.parametrize("workers", [1, 2])
def test_ten_thousand_mixed_requests_get_one_right_answer_each(tmp_path: Path, workers: int) -> None:
    """SeldonIO/MLServer#1306: answers are never mixed up, whatever the mix of sizes in a batch."""
    config = {
        "endpoints": {
            "sum": {"model": "fake:", "options": {"base_ms": 2, "rows_ms": 0.01, "fail_on": POISON}, "batching": {"max_rows": 64}}
        }
    }  # fmt: skip
    mixed = Mixed()
    with serving(tmp_path, config, workers=workers) as server:
        with Load(server.port, mixed, clients=16, most=REQUESTS // workers) as load:
            tally = load.join(200)
        tally.assert_clean(at_least=REQUESTS // workers)
        assert min(mixed.kinds.values()) > 100, mixed.kinds
        until(lambda: server.counted("tidegate_queue_rows") == 0, "an empty queue")
        assert server.counted("tidegate_requests_total", outcome="failed") == mixed.kinds["poison"]
        assert server.counted("tidegate_requests_total", outcome="invalid") == mixed.kinds["wrong"]
        known = sum(
            server.counted("tidegate_requests_total", outcome=outcome) for outcome in ("ok", "refused", "deadline")
        )
        asked = REQUESTS // workers - mixed.kinds["poison"] - mixed.kinds["wrong"]
        assert asked - mixed.kinds["left"] <= known <= asked
        assert "exception was never retrieved" not in server.log
        assert server.is_ready()


def test_batched_and_single_answers_agree_over_http(tmp_path: Path) -> None:
    """R2: one row alone, and the same row among strangers in a batch, give the same answer."""
    model = write_joblib(iris_forest(20), tmp_path / "forest.joblib")
    features, _ = iris()
    joined: list[int] = []
    config = {"trust": {"pickles": [str(model)]}, "endpoints": {"iris": {"model": str(model)}}}
    with serving(tmp_path, config) as server:
        with server.caller() as caller:
            alone = [
                caller.call("POST", "/predict", {"features": [row.tolist()]}).json["scores"][0] for row in features
            ]

        def ask(caller: Caller, number: int) -> str:
            place = number % len(features)
            end = place + 1 + number % 5
            answer = caller.call("POST", "/predict", {"features": features[place:end].tolist()})
            joined.extend([1] * (answer.json["timing_ms"]["batch_rows"] > len(features[place:end])))
            got = [score for row in answer.json["scores"] for score in row]
            wanted = [score for row in alone[place:end] for score in row]
            return "" if got == pytest.approx(wanted, abs=1e-6) else f"{got} instead of {wanted}"

        with Load(server.port, ask, clients=16, most=1500) as load:
            load.join(60).assert_clean(at_least=1500)
        assert joined, "no request ever shared a batch"
