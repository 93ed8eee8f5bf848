# mypy: ignore-errors
"""``python server.py PORT MODEL.joblib``: one replica, batches of up to 32 requests."""

import sys
import threading

import joblib
import numpy
import ray
from ray import serve

PORT, MODEL = int(sys.argv[1]), sys.argv[2]


@serve.deployment(num_replicas=1, max_ongoing_requests=256, ray_actor_options={"num_cpus": 0.1})
class Iris:
    def __init__(self, path: str) -> None:
        self.model = joblib.load(path)

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.002)
    async def predict(self, rows: list) -> list:
        return self.model.predict(numpy.asarray(rows, dtype=float).reshape(-1, 4)).tolist()

    async def __call__(self, request) -> dict:
        body = await request.json()
        return {"predictions": [await self.predict(body["features"])]}


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", object_store_memory=100 * 2**20)
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    serve.run(Iris.bind(MODEL), route_prefix="/predict")
    threading.Event().wait()
