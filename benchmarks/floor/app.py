"""Plain ASGI on uvicorn, msgspec, ONNX Runtime: no routing, no ids, no metrics, no batching.

``python app.py PORT MODEL.onnx`` serves predictions; without a model it gives one fixed answer.
The answer has the same fields, and about the same size, as Tidegate's, so that both encode and send as much.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Body(msgspec.Struct):
    features: list[list[float]]


class Answer(msgspec.Struct):
    predictions: list[Any]
    scores: list[Any]
    model: dict[str, str]
    request_id: str
    cached: bool
    timing_ms: dict[str, float]


MODEL = {"endpoint": "iris", "name": "iris", "version": "1a2b3c4d5e6f", "variant": "baseline"}
TIMING = {"queue": 0.012, "run": 0.034, "total": 0.123, "batch_rows": 1}
REQUEST_ID = "0123456789abcdef0123456789abcdef"
encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Body).decode


def predicting(path: str) -> Callable[[bytes], bytes]:
    import numpy
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    outputs = [output.name for output in session.get_outputs()]

    def predict(body: bytes) -> bytes:
        rows = numpy.array(decode(body).features, dtype=numpy.float32)
        predictions, scores = session.run(outputs, {name: rows})
        return encode(Answer(predictions.tolist(), scores.tolist(), MODEL, REQUEST_ID, False, TIMING))

    return predict


def fixed(body: bytes) -> bytes:
    return FIXED


FIXED = encode(Answer([0], [[0.97, 0.02, 0.01]], MODEL, REQUEST_ID, False, TIMING))


def application(answer: Callable[[bytes], bytes]) -> Any:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        message = await receive()
        body: bytes = message["body"]
        while message.get("more_body"):
            message = await receive()
            body += message["body"]
        content = answer(body)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    return app


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(
        application(predicting(sys.argv[2]) if len(sys.argv) > 2 else fixed),
        port=int(sys.argv[1]), loop="uvloop", http="httptools", lifespan="off", proxy_headers=False, access_log=False, log_level="warning",
    )  # fmt: skip
