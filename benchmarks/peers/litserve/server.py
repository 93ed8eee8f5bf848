# mypy: ignore-errors
"""``python server.py PORT MODEL.joblib BATCH``: batches of up to BATCH rows, one worker."""

import sys

import joblib
import litserve
import numpy


class Iris(litserve.LitAPI):
    def setup(self, device):
        self.model = joblib.load(sys.argv[2])

    def decode_request(self, request):
        return request["features"]

    def batch(self, inputs):
        return numpy.asarray(inputs, dtype=float).reshape(len(inputs), -1)

    def predict(self, x):
        return self.model.predict(numpy.asarray(x, dtype=float).reshape(-1, 4))

    def unbatch(self, output):
        return output.tolist()

    def encode_response(self, output):
        return {"predictions": output if isinstance(output, int) else output.tolist()}


if __name__ == "__main__":
    batch = int(sys.argv[3])
    api = Iris(max_batch_size=batch, batch_timeout=0.002 if batch > 1 else 0.0)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=60)
    server.run(
        port=int(sys.argv[1]), host="127.0.0.1", generate_client_file=False, log_level="warning", access_log=False
    )
