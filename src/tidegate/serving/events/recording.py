"""What is recorded of one endpoint under one snapshot. The event loop calls it for every request."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from tidegate.errors import RequestError, TidegateError
from tidegate.observations import VariantWindow
from tidegate.serving.batching import Ran
from tidegate.serving.call import Call
from tidegate.serving.events.exposures import Exposures
from tidegate.serving.events.outputs import output_of, predicted
from tidegate.serving.events.sampling import Sampler
from tidegate.serving.events.windows import FORCED, FULL, Note, Windows
from tidegate.serving.outcome import outcome_of
from tidegate.serving.routing import Route
from tidegate.serving.version import Version
from tidegate.types import Tensors

if TYPE_CHECKING:
    from tidegate.serving.live import Endpoint

LARGE_ROWS = 1024
"""A request of so many rows is counted at once, so that its answer is not kept."""

HASTY = 4.0
"""A caller that allows less than so many times what the baseline takes is the one who makes it late."""


class Recording:
    """Requests count for the variant that the router chose, whoever answered; what cannot be kept is counted as
    dropped. ``endpoint`` is only watched: once nobody answers under it any more, the recording has ended."""

    def __init__(
        self,
        endpoint: Endpoint,
        snapshot: int,
        sampler: Sampler,
        exposures: Exposures,
        wall: float,
        monotonic: float,
    ) -> None:
        signature = endpoint.signature
        self.snapshot = snapshot
        self._windows = Windows(endpoint.name, endpoint.plan.variants, snapshot, signature.labels, wall, monotonic)
        self._variants = self._windows.variants
        self._output = output_of(signature)
        self._sampler = sampler
        self._exposures = exposures
        self._unsampled = sampler.gap()
        self._endpoint = weakref.ref(endpoint)

    @property
    def ended(self) -> bool:
        """True when nothing can be added any more."""
        return self._endpoint() is None

    def answered(self, call: Call, route: Route, version: Version, ran: Ran, cached: bool, now: float) -> None:
        """A request that ``version`` answered. ``now`` is ``perf_counter`` seconds."""
        if route.forced or call.fallback:
            self._answered_otherwise(call, route, now)
        else:
            counts = self._variants[route.variant.name]
            answers = counts.answers
            array = ran.outputs.get(self._output)
            try:
                value = array.item()  # type: ignore[union-attr]  # almost always one row
            except (ValueError, AttributeError):
                value = predicted(array)
            answers.append((now - call.received, value, call.unit))
            if len(answers) >= FULL or call.rows >= LARGE_ROWS:
                counts.fold()
        self._unsampled -= 1
        if self._unsampled < 0:
            self._unsampled = self._sampler.gap()
            self._sampler.sample(call, self.snapshot, version, ran, cached, route.forced, now)

    def _answered_otherwise(self, call: Call, route: Route, now: float) -> None:
        counts = self._variants[route.variant.name]
        if route.forced:
            counts.note(Note(FORCED))
        else:
            counts.note(Note(_fair(call, call.fallback), now - call.received, call.unit))

    def failed(self, call: Call, route: Route, error: BaseException, now: float) -> None:
        """A request that nobody answered. One that could not be meant is not counted."""
        if isinstance(error, RequestError):
            return
        counts = self._variants[route.variant.name]
        if route.forced:
            counts.note(Note(FORCED))
            return
        kind = outcome_of(error)[0]
        # Who waited in vain waited at least so long; who was turned away did not wait.
        seconds = now - call.received if kind in ("deadline", "gone") else None
        blamed = isinstance(error, TidegateError) and error.variant not in ("", route.variant.name)
        if call.fallback or blamed:
            kind = call.fallback or "failed"
        elif kind == "deadline":
            kind = "timeout"
        counts.note(Note(_fair(call, kind), seconds, call.unit))

    def shadowed(self, variant: str, kind: str, unit: str, seconds: float | None, outputs: Tensors | None) -> None:
        """A copy that a shadow ran, or failed to."""
        predictions = None if outputs is None else predicted(outputs.get(self._output))
        counts = self._variants[variant]
        counts.note(Note(kind, seconds, unit, predictions))
        if type(predictions) is list and len(predictions) >= LARGE_ROWS:
            counts.fold()

    def exposed(self, unit: str, route: Route, request_id: str) -> bool:
        """Whether it is on record that the unit gets the route's variant of the experiment."""
        endpoint = self._windows.endpoint
        return self._exposures.expose(route.experiment, endpoint, unit, route.variant.name, request_id)

    def windows(self, process: str, sequence: Callable[[], int], wall: float, monotonic: float) -> list[VariantWindow]:
        return self._windows.take(process, sequence, wall, monotonic)


def _fair(call: Call, kind: str) -> str:
    """A timeout is the variant's failure, unless the caller allowed next to nothing; both variants by one measure."""
    if kind != "timeout":
        return kind
    endpoint, allowed = call.endpoint, call.deadline - call.received
    hasty = allowed < endpoint.timeout and allowed < HASTY * endpoint.baseline.expected_seconds(call.rows)
    return "deadline" if hasty else kind
