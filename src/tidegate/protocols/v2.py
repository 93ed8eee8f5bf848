"""The Open Inference Protocol v2 over HTTP, with binary tensors, the model repository and statistics.

Source: kserve/open-inference-protocol, and the extensions that Triton's own clients speak.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from tidegate import __version__
from tidegate.errors import MalformedBody, NotFound, Unsupported
from tidegate.protocols.base import Request, Response, Role, Route
from tidegate.protocols.calls import make_call
from tidegate.protocols.errors import v2_error
from tidegate.protocols.v2_body import LENGTH_HEADER, read_request, select, write_response
from tidegate.protocols.v2_documents import INFER
from tidegate.protocols.v2_recipes import Recipes
from tidegate.protocols.v2_tensors import bind
from tidegate.types import Signature

if TYPE_CHECKING:
    from tidegate.serving.call import Call
    from tidegate.serving.live import Endpoint, Live
    from tidegate.serving.predict import Predictor

EXTENSIONS = ("binary_tensor_data", "model_repository", "statistics")

_JSON = ((b"content-type", b"application/json"),)
_PRIORITIES = {1: 0, 2: 1}


class OpenInference:
    """``/v2``: a model is an endpoint; naming a version goes past the router."""

    def __init__(self, predictor: Predictor) -> None:
        self._recipes = Recipes()
        self._predictor = predictor

    @property
    def _live(self) -> Live:
        return self._predictor.live

    def routes(self) -> list[Route]:
        """Fixed paths come before those with names in them."""
        routes = [
            _route("GET", "/v2", self.metadata, "none"),
            _route("GET", "/v2/health/live", self.live, "none"),
            _route("GET", "/v2/health/ready", self.ready, "none"),
            _route("POST", "/v2/repository/index", self.index, "predict"),
            _route("POST", "/v2/repository/models/{model}/load", self.load, "operate"),
            _route("POST", "/v2/repository/models/{model}/unload", self.unload, "operate"),
            _route("GET", "/v2/models/stats", self.statistics, "predict"),
        ]
        for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            routes += [
                _route("GET", model, self.model_metadata, "predict"),
                _route("GET", f"{model}/ready", self.model_ready, "none"),
                _route("GET", f"{model}/stats", self.statistics, "predict"),
                Route("POST", f"{model}/infer", self.infer, "predict", INFER, v2_error),
            ]
        return routes

    async def metadata(self, request: Request) -> Response:
        return _json({"name": "tidegate", "version": __version__, "extensions": EXTENSIONS})

    async def live(self, request: Request) -> Response:
        return _json({"live": True})

    async def ready(self, request: Request) -> Response:
        reasons = await self._live.probe()
        if reasons:
            return _json({"ready": False, "reasons": reasons}, 503)
        return _json({"ready": True})

    async def model_metadata(self, request: Request) -> Response:
        endpoint, version = self._target(request)
        return _json(model_metadata(endpoint, version))

    async def model_ready(self, request: Request) -> Response:
        endpoint, version = self._target(request)
        ready = is_ready(endpoint, version)
        return _json({"name": endpoint.name, "ready": ready}, 200 if ready else 503)

    async def infer(self, request: Request) -> Response:
        endpoint, version = self._target(request)
        length = request.headers.get(LENGTH_HEADER)
        head = request.body[: int(length)] if length is not None and length.isdigit() and len(length) < 5 else b""
        recipe = self._recipes.find(endpoint, version, head) if head else None
        known = recipe.read(request.body, len(head)) if recipe is not None else None
        if recipe is not None and known is not None:
            sent, inputs, rows = recipe.request, known, recipe.rows
        else:
            signature = signature_of(endpoint, version)
            sent = read_request(request.body, length, signature)
            if signature.outputs:
                select(sent.outputs, [spec.name for spec in signature.outputs])
            inputs, rows = bind(signature, sent.inputs, endpoint.settings.max_rows)
            if head:
                self._recipes.remember(endpoint, version, head, sent, signature)
        call = make_call(request, endpoint, inputs, rows, "v2", version=version)
        apply_parameters(call, sent.parameters)
        prediction = await self._predictor.predict(call)
        variant = ((b"x-model-variant", prediction.variant.encode()),)
        return write_response(sent, prediction.outputs, endpoint.name, prediction.version, variant)

    async def index(self, request: Request) -> Response:
        wanted = _json_body(request)
        entries = repository_index(self._live, only_ready=wanted.get("ready") is True)
        caller = request.caller
        return _json([entry for entry in entries if caller is None or caller.facts.reaches(entry["name"])])

    async def load(self, request: Request) -> Response:
        parameters = _json_body(request).get("parameters") or {}
        if parameters:
            raise Unsupported("load takes no parameters here: models are configured on the server")
        await self._live.load_endpoint(request.args["model"])
        return _json({})

    async def unload(self, request: Request) -> Response:
        await self._live.unload_endpoint(request.args["model"])
        return _json({})

    async def statistics(self, request: Request) -> Response:
        if "model" in request.args:
            endpoint, version = self._target(request)
            return _json({"model_stats": model_statistics(self._live, endpoint, version)})
        caller, live = request.caller, self._live
        shown = [e for name, e in live.endpoints.items() if caller is None or caller.facts.reaches(name)]
        return _json({"model_stats": [entry for e in shown for entry in model_statistics(live, e, "")]})

    def _target(self, request: Request) -> tuple[Endpoint, str]:
        return target(self._live, request.args["model"], request.args.get("version", ""))


def _route(method: str, path: str, handler: Callable[..., Any], role: Role) -> Route:
    return Route(method, path, handler, role, on_error=v2_error)


def _json(document: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(document), status, _JSON)


def _json_body(request: Request) -> dict[str, Any]:
    if not request.body.strip():
        return {}
    try:
        return msgspec.json.decode(request.body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedBody("the body must be a JSON object") from error


def target(live: Live, model: str, version: str) -> tuple[Endpoint, str]:
    """The endpoint of that name, once the version, where one is named, is known to be under it."""
    endpoint = live.endpoint(model)
    if version:
        known = sorted({loaded.ref.version for loaded in endpoint.versions.values()})
        if version not in known:
            raise NotFound(f'model "{endpoint.name}" has no version "{version}"; it has {", ".join(known)}')
    return endpoint, version


def signature_of(endpoint: Endpoint, version: str) -> Signature:
    for loaded in endpoint.versions.values() if version else ():
        if loaded.ref.version == version:
            return loaded.loaded.signature
    return endpoint.signature


def is_ready(endpoint: Endpoint, version: str) -> bool:
    """Whether that version answers; without one, whether the baseline does."""
    if version:
        return any(v.ready for v in endpoint.versions.values() if v.ref.version == version)
    baseline = endpoint.versions.get(endpoint.plan.baseline.name)
    return baseline is not None and baseline.ready


def model_metadata(endpoint: Endpoint, version: str) -> dict[str, Any]:
    signature = signature_of(endpoint, version)
    shown = [v for v in endpoint.versions.values() if version in ("", v.ref.version)]
    return {
        "name": endpoint.name,
        "versions": list(dict.fromkeys(v.ref.version for v in shown)),
        "platform": shown[0].loaded.facts.platform if shown else "",
        "inputs": [{"name": s.name, "datatype": s.datatype, "shape": s.shape} for s in signature.inputs],
        "outputs": [{"name": s.name, "datatype": s.datatype, "shape": s.shape} for s in signature.outputs],
    }


def repository_index(live: Live, only_ready: bool) -> list[dict[str, str]]:
    """One entry a configured version, loaded or not."""
    entries = []
    for name, plan in live.snapshot.endpoints.items():
        endpoint = live.endpoints.get(name)
        for variant in plan.variants:
            version = endpoint.versions.get(variant.name) if endpoint is not None else None
            ready = version is not None and version.ready
            if ready or not only_ready:
                entries.append(
                    {
                        "name": name,
                        "version": version.ref.version if version is not None else variant.model.version,
                        "state": "READY" if ready else "UNAVAILABLE",
                        "reason": "" if ready else "loading" if version is not None else "unloaded",
                    }
                )
    return entries


def model_statistics(live: Live, endpoint: Endpoint, version: str) -> list[dict[str, Any]]:
    """Counts since the process started; durations are in nanoseconds."""
    entries = []
    for variant, counts in live.statistics(endpoint.name).items():
        loaded = endpoint.versions.get(variant)
        if loaded is None or version not in ("", loaded.ref.version):
            continue
        success, executions = int(counts["success"]), int(counts["executions"])
        queue, run = int(counts["queue_seconds"] * 1e9), int(counts["run_seconds"] * 1e9)
        entries.append(
            {
                "name": endpoint.name,
                "version": loaded.ref.version,
                "last_inference": 0,
                "inference_count": int(counts["rows"]),
                "execution_count": executions,
                "inference_stats": {
                    "success": {"count": success, "ns": queue + run},
                    "fail": {"count": int(counts["fail"]), "ns": 0},
                    "queue": {"count": success, "ns": queue},
                    "compute_input": {"count": success, "ns": 0},
                    "compute_infer": {"count": success, "ns": run},
                    "compute_output": {"count": success, "ns": 0},
                },
                "batch_stats": [],
            }
        )
    return entries


def apply_parameters(call: Call, parameters: Mapping[str, Any]) -> None:
    """Triton's own parameters: ``timeout`` in microseconds may only shorten; ``priority`` 1 is the highest."""
    timeout, priority = parameters.get("timeout"), parameters.get("priority")
    if type(timeout) is int and timeout > 0:
        call.deadline = min(call.deadline, call.received + timeout / 1e6)
    if type(priority) is int and priority > 0:
        call.priority = _PRIORITIES.get(priority, 2)
