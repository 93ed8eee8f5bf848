"""MLflow's scoring protocol, which SageMaker containers speak too."""

from __future__ import annotations

from urllib.parse import parse_qs

import msgspec

from tidegate import __version__
from tidegate.errors import MalformedBody, UnsupportedMedia
from tidegate.protocols import answers, bodies, documents, forms, tensors
from tidegate.protocols.base import Request, Response, Route
from tidegate.protocols.calls import make_call
from tidegate.protocols.errors import mlflow_error
from tidegate.protocols.images import check_images
from tidegate.serving.predict import Predictor
from tidegate.settings import Limits
from tidegate.types import Signature, Tensors

_JSON = (b"content-type", b"application/json")


class Mlflow:
    """Routes that MLflow's clients call. ``limits`` bound nesting and pixels; the server bounds bytes and time."""

    def __init__(self, predictor: Predictor, limits: Limits) -> None:
        self._predictor = predictor
        self._limits = limits

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/invocations", self.invoke, "predict", documents.INVOCATIONS, mlflow_error),
            Route("GET", "/ping", self.ping, "none", documents.PING, mlflow_error),
            Route("GET", "/version", self.version, "none", documents.VERSION, mlflow_error),
        ]

    async def invoke(self, request: Request) -> Response:
        endpoint = self._predictor.live.endpoint(_endpoint_name(request.query))
        inputs = self._read(request, endpoint.signature, endpoint.settings.max_rows)
        call = make_call(request, endpoint, inputs, tensors.rows_of(inputs), "mlflow")
        prediction = await self._predictor.predict(call)
        predictions = answers.parts_of(prediction.outputs, endpoint.signature)[0]
        variant = (b"x-model-variant", prediction.variant.encode("latin-1", "replace"))
        return Response(msgspec.json.encode({"predictions": predictions}), 200, (_JSON, variant))

    async def ping(self, request: Request) -> Response:
        """200 when this process can answer; orchestrators look at the status only."""
        return Response(b"\n", 503 if self._predictor.live.not_ready() else 200, (_JSON,))

    async def version(self, request: Request) -> Response:
        """The bare version text, as MLflow's server sends it; its client takes any."""
        return Response(__version__.encode(), 200, (_JSON,))

    def _read(self, request: Request, signature: Signature, max_rows: int) -> Tensors:
        media = bodies.media_type(request.headers)
        if media == "application/json":
            body = bodies.read_object(request.body, self._limits.depth, nan=True)
            inputs = forms.read_mlflow_form(body, signature, max_rows)
        elif media == "text/csv":
            from tidegate.protocols.tables import read_csv

            inputs = read_csv(request.body, signature, max_rows)
        else:
            raise UnsupportedMedia(f"content type {media[:80]!r} is not taken; send application/json or text/csv")
        check_images(inputs, signature, self._limits.image_pixels)
        return inputs


def _endpoint_name(query: bytes) -> str:
    try:
        return parse_qs(query.decode("ascii"), max_num_fields=16).get("endpoint", [""])[0]
    except ValueError:
        raise MalformedBody("the query string cannot be read") from None
