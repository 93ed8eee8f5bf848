"""Tidegate's own HTTP API: predict, feedback, and what is being served."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from tidegate import __version__
from tidegate.clock import SystemClock
from tidegate.errors import NotReady, UnsupportedMedia
from tidegate.feedback import feedback_of, within
from tidegate.protocols import answers, arrays, bodies, documents, examples, forms, tensors
from tidegate.protocols.answers import Fragment
from tidegate.protocols.base import Request, Response, Route
from tidegate.protocols.calls import make_call
from tidegate.protocols.errors import native_error
from tidegate.protocols.images import check_images
from tidegate.serving.live import Endpoint
from tidegate.serving.predict import Predictor
from tidegate.serving.runtimes.checked import finite
from tidegate.settings import Limits
from tidegate.types import NUMPY_DTYPES, Prediction, Signature, Tensors

ARROW = "application/vnd.apache.arrow.stream"
MSGPACK = ("application/msgpack", "application/x-msgpack", "application/vnd.msgpack")
_JSON = ((b"content-type", b"application/json"),)
_MOST_FRAGMENTS = 64


class _Features(msgspec.Struct, forbid_unknown_fields=True):
    features: list[list[float]]


class _FeaturesOrNull(msgspec.Struct, forbid_unknown_fields=True):
    features: list[list[float | None]]


_FEATURES: Mapping[bool, Any] = {
    False: msgspec.json.Decoder(_Features).decode,
    True: msgspec.json.Decoder(_FeaturesOrNull).decode,
}


class _PackedArray(msgspec.Struct, forbid_unknown_fields=True):
    dtype: str
    shape: list[int]
    data: bytes


class _Packed(msgspec.Struct, forbid_unknown_fields=True):
    features: list[list[float]] | _PackedArray


_PACKED = msgspec.msgpack.Decoder(_Packed).decode


class _Plan:
    """What is the same for all requests of one endpoint under one snapshot."""

    __slots__ = (
        "check",
        "columns",
        "decode",
        "dtype",
        "endpoint",
        "fragments",
        "images",
        "largest",
        "name",
        "signature",
    )

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.signature: Signature = endpoint.signature
        self.fragments: dict[tuple[str, str], Fragment] = {}
        self.images = any(spec.content == "image" for spec in self.signature.inputs)
        spec = self.signature.inputs[0]
        self.dtype = NUMPY_DTYPES[spec.datatype]
        floats = self.signature.is_matrix and self.dtype.kind == "f"
        self.decode = _FEATURES[spec.allow_nan] if floats else None
        self.name = spec.name
        self.columns = arrays.width_of(spec, 1) if floats else -1
        # JSON numbers are finite doubles: only a narrower type can overflow.
        self.check = floats and self.dtype.itemsize < 8
        self.largest = arrays.largest_of(self.dtype) if self.check else 0.0


class Native:
    """Routes of the native API. ``limits`` bound nesting and pixels; the server bounds bytes and time."""

    def __init__(self, predictor: Predictor, limits: Limits) -> None:
        self._predictor = predictor
        self._limits = limits
        self._plans: dict[str, _Plan] = {}

    def routes(self) -> list[Route]:
        predict = [
            Route("POST", f"{prefix}/predict{suffix}", self.predict, "predict", document, native_error)
            for prefix in ("", "/api/v1")
            for suffix, document in (("", documents.PREDICT_DEFAULT), ("/{endpoint}", documents.PREDICT))
        ]
        return [
            *predict,
            Route("POST", "/feedback", self.feedback, "predict", documents.FEEDBACK, native_error),
            Route("POST", "/api/v1/feedback", self.feedback, "predict", documents.FEEDBACK, native_error),
            Route("GET", "/info", self.info, "predict", documents.INFO, native_error),
            Route("GET", "/models", self.models, "predict", documents.MODELS, native_error),
            Route("GET", "/models/{endpoint}", self.model, "predict", documents.MODEL, native_error),
        ]

    async def predict(self, request: Request) -> Response:
        endpoint = self._predictor.live.endpoint(request.args.get("endpoint", ""))
        plan = self._plans.get(endpoint.name)
        if plan is None or plan.endpoint is not endpoint:
            plan = self._plan(endpoint)
        units: tuple[str, ...] = ()
        inputs = self._read_fast(request, plan)
        if inputs is None:
            inputs, units = self._read(request, plan)
        call = make_call(request, endpoint, inputs, tensors.rows_of(inputs), "native", units=units)
        prediction = await self._predictor.predict(call)
        accept = request.headers.get(b"accept")
        if accept is not None and accept not in (b"*/*", b"application/json"):
            return self._negotiated(accept, prediction, plan, request)
        fragment = plan.fragments.get((prediction.variant, prediction.version)) or _fragment(plan, prediction)
        return answers.json_answer(prediction, plan.signature, fragment, request)

    async def feedback(self, request: Request) -> Response:
        """Durable before the answer; sending the same again changes nothing."""
        recorder = self._predictor.live.recorder
        if recorder is None:
            raise NotReady("feedback is not kept by this server: it has no store", retry_after=60.0)
        media = bodies.media_type(request.headers)
        if media != "application/json":
            raise UnsupportedMedia(f"content type {media[:80]!r} is not taken; send application/json")
        rows = feedback_of(bodies.read_json(request.body, self._limits.depth), SystemClock.wall())
        if request.caller is not None:
            rows = within(rows, request.caller.facts.endpoints)
        accepted = await recorder.feedback(rows)
        return _json({"accepted": accepted, "duplicates": len(rows) - accepted})

    async def info(self, request: Request) -> Response:
        live = self._predictor.live
        snapshot = live.snapshot
        return _json(
            {
                "name": "tidegate",
                "version": __version__,
                "snapshot": snapshot.number,
                "source": live.origin,
                "since": live.since,
                "store": live.standing.store,
                "refused_snapshot": live.standing.refused,
                "default_endpoint": snapshot.default_endpoint,
                "ready": not live.not_ready(),
                "endpoints": {
                    name: _variants(endpoint) for name, endpoint in live.endpoints.items() if _reaches(request, name)
                },
            }
        )

    async def models(self, request: Request) -> Response:
        live = self._predictor.live
        described = [describe(endpoint) for name, endpoint in live.endpoints.items() if _reaches(request, name)]
        return _json({"snapshot": live.snapshot.number, "models": described})

    async def model(self, request: Request) -> Response:
        live = self._predictor.live
        endpoint = live.endpoint(request.args["endpoint"])
        return _json({"snapshot": live.snapshot.number, **describe(endpoint)})

    def _plan(self, endpoint: Endpoint) -> _Plan:
        live = self._predictor.live.endpoints
        self._plans = {name: plan for name, plan in self._plans.items() if live.get(name) is plan.endpoint}
        plan = self._plans[endpoint.name] = _Plan(endpoint)
        return plan

    def _read_fast(self, request: Request, plan: _Plan) -> Tensors | None:
        """The hot path: ``{"features": rows}`` to a matrix of floats. None for all else, and for what needs words."""
        if plan.decode is None:
            return None
        body = request.body
        media = request.headers.get(b"content-type", b"application/json")
        if media == b"application/msgpack":
            decode: Any = _PACKED
        elif media == b"application/json" or bodies.media_type(request.headers) == "application/json":
            decode = plan.decode
            if body.count(b'"') != 2:  # exactly one key, so that none is there twice
                return None
        else:
            return None
        try:
            rows = (decode(body) if len(body) < bodies.LARGE else bodies.without_collector(decode, body)).features
            if type(rows) is _PackedArray:
                return self._read_array(rows, plan)
            tensors.limit_rows(len(rows), plan.endpoint.settings.max_rows)
            wide = np.array(rows, np.float64)
        except (ValueError, RecursionError):  # also msgspec's and Unicode errors
            return None
        if wide.ndim != 2:
            return None
        if wide.shape[1] != plan.columns and (plan.columns >= 0 or not wide.shape[1]):
            return None
        if not plan.check:
            return {plan.name: wide}
        if not arrays.finite(wide, plan.largest):
            return None  # too large for the type, or a gap that the model may take
        return {plan.name: wide.astype(plan.dtype)}

    def _read_array(self, packed: _PackedArray, plan: _Plan) -> Tensors | None:
        """An array of the model's own type as a view of the body; None for what needs converting or words."""
        array = bodies.read_array(packed.dtype, packed.shape, packed.data)
        if array.dtype != plan.dtype or array.ndim != 2 or array.shape[1] != plan.columns or not len(array):
            return None
        tensors.limit_rows(len(array), plan.endpoint.settings.max_rows)
        return {plan.name: array} if finite(array) else None

    def _read(self, request: Request, plan: _Plan) -> tuple[Tensors, tuple[str, ...]]:
        """Any form, any media type. Raises RequestError."""
        media = bodies.media_type(request.headers)
        signature, max_rows = plan.signature, plan.endpoint.settings.max_rows
        units: tuple[str, ...] = ()
        if media == "application/json":
            body = bodies.read_object(request.body, self._limits.depth)
            inputs, units = forms.read_form(body, signature, max_rows)
        elif media in MSGPACK:
            body = bodies.read_msgpack(request.body, self._limits.depth)
            inputs, units = forms.read_form(body, signature, max_rows)
        elif media == ARROW:
            from tidegate.protocols.arrow import read_arrow

            inputs = read_arrow(request.body, signature, max_rows)
        elif media == "multipart/form-data":
            from tidegate.protocols.multipart import read_multipart

            inputs, units = read_multipart(request.body, request.headers[b"content-type"], signature, max_rows)
        else:
            known = f"application/json, {MSGPACK[0]}, {ARROW} or multipart/form-data"
            raise UnsupportedMedia(f"content type {media[:80]!r} is not taken; send {known}")
        if plan.images:
            check_images(inputs, signature, self._limits.image_pixels)
        return inputs, units

    def _negotiated(self, accept: bytes, prediction: Prediction, plan: _Plan, request: Request) -> Response:
        """The answer in the first media type that the client accepts and we speak; JSON otherwise."""
        fragment = plan.fragments.get((prediction.variant, prediction.version)) or _fragment(plan, prediction)
        for choice in accept.lower().split(b","):
            media = choice.split(b";", 1)[0].strip().decode("latin-1")
            if media in MSGPACK:
                binary = request.body.count(b"\xa5dtype") > 0 and bodies.media_type(request.headers) in MSGPACK
                return answers.msgpack_answer(prediction, plan.signature, fragment, request, binary=binary)
            if media == ARROW:
                return answers.arrow_answer(prediction, plan.signature, fragment)
            if media in ("application/json", "*/*", "application/*"):
                break
        return answers.json_answer(prediction, plan.signature, fragment, request)


def describe(endpoint: Endpoint) -> dict[str, Any]:
    """An endpoint's inputs, outputs and variants, in plain values."""
    return {
        "endpoint": endpoint.name,
        "signature": endpoint.signature,
        "example": next(iter(examples.bodies_of(endpoint.signature).values())),
        "variants": _variants(endpoint, facts=True),
    }


def _variants(endpoint: Endpoint, *, facts: bool = False) -> list[dict[str, Any]]:
    rest = 10_000 - sum(variant.share for variant in endpoint.plan.variants[1:])
    described = []
    for position, variant in enumerate(endpoint.plan.variants):
        version = endpoint.versions[variant.name]
        loaded = version.loaded.facts
        item: dict[str, Any] = {
            "variant": variant.name,
            "share": (rest if position == 0 else variant.share) / 100,
            "shadow": variant.shadow,
            "name": version.ref.name or endpoint.name,
            "version": version.ref.version,
            "digest": loaded.digest,
            "runtime": loaded.runtime,
            "ready": version.ready,
        }
        if facts:
            item["facts"] = {
                name: value for name, value in msgspec.structs.asdict(loaded).items() if name not in ("uri", "digest")
            }
        described.append(item)
    return described


def _reaches(request: Request, endpoint: str) -> bool:
    """Whether the caller's key is of this endpoint."""
    return request.caller is None or request.caller.facts.reaches(endpoint)


def _fragment(plan: _Plan, prediction: Prediction) -> Fragment:
    if len(plan.fragments) >= _MOST_FRAGMENTS:
        plan.fragments.clear()
    fragment = answers.fragment_of(plan.endpoint, prediction.variant, prediction.version)
    plan.fragments[(prediction.variant, prediction.version)] = fragment
    return fragment


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), 200, _JSON)
