"""What a release needs before it may begin: a plan that makes sense, an endpoint that is free, a candidate that is new."""

from __future__ import annotations

import msgspec

from tidegate.control.releases.plans import splits_already
from tidegate.control.releases.prometheus import check_url
from tidegate.errors import Conflict, InvalidInput, ModelError, NotFound
from tidegate.registry_files import parse_uri, scheme_of
from tidegate.section import not_finite
from tidegate.settings import ReleaseSettings, Settings
from tidegate.storage.records import Published
from tidegate.storage.store import Unit
from tidegate.types import EndpointPlan, ModelRef

CHAMPION = "champion"
_LOCAL = ("", "file", "fake")


def check_plan(plan: ReleaseSettings) -> None:
    """Raises InvalidInput, with the place in the plan: what a caller sends has not been through the configuration."""
    for place in not_finite(plan):
        raise InvalidInput(f"{place[-1]} must be a finite number", ("plan", *place))
    if not plan.steps or list(plan.steps) != sorted(set(plan.steps)):
        raise InvalidInput("steps must be percentages that grow, such as [1, 5, 25, 50, 100]", ("plan", "steps"))
    if plan.steps[-1] != 100:
        raise InvalidInput(f"steps end at {plan.steps[-1]:g}; the last step of a release is 100", ("plan", "steps"))
    if plan.step.max_seconds < plan.step.min_seconds:
        raise InvalidInput("step.max_seconds is less than min_seconds", ("plan", "step", "max_seconds"))
    for index, rail in enumerate(plan.guardrails):
        named = [name for name in rail.__struct_fields__ if getattr(rail, name) is not None]
        if len(named) != 1:
            raise InvalidInput(
                f"a guardrail is exactly one of {', '.join(rail.__struct_fields__)}", ("plan", "guardrails", index)
            )
        if rail.prometheus is not None:
            check_url(rail.prometheus.url)


def free_endpoint(unit: Unit, newest: Published | None, endpoint: str) -> EndpointPlan:
    """The endpoint's plan, if a release may begin on it. Raises NotFound and Conflict."""
    known = newest.snapshot.endpoints if newest is not None else {}
    if endpoint not in known:
        names = ", ".join(sorted(known)[:20]) or "none is published yet"
        raise NotFound(f"no endpoint {endpoint[:80]!r}; endpoints: {names}")
    plan = known[endpoint]
    for row in unit.releases.list(endpoint=endpoint, open=True, limit=1):
        raise Conflict(f"release {row.id} is open on {endpoint} ({row.state}); end it first, or wait for it")
    for experiment in unit.experiments.list(limit=1000, open=True):
        if experiment.endpoint == endpoint:
            raise Conflict(f"experiment {experiment.name} is {experiment.state} on {endpoint}; stop it first")
    if plan.experiment is not None:
        raise Conflict(f"experiment {plan.experiment.experiment} runs on {endpoint}; stop it first")
    if taken := splits_already(plan):
        raise Conflict(f"{endpoint} splits its traffic with {taken} already; take them out of the configuration first")
    return plan


def candidate_for(plan: EndpointPlan, found: ModelRef) -> ModelRef:
    """The candidate, loaded as the baseline is: with its runtime and options. Raises InvalidInput when it is the baseline."""
    baseline = plan.baseline.model
    same = found.digest == baseline.digest if found.digest and baseline.digest else found.uri == baseline.uri
    if same:
        said = f"{found.name} version {found.version}" if found.name else found.uri
        raise InvalidInput(f"{said} is what {plan.name} serves already (version {baseline.version})", ("model",))
    runtime = baseline.runtime if found.runtime == "auto" else found.runtime
    return msgspec.structs.replace(
        found, runtime=runtime if scheme_of(found.uri) != "fake" else found.runtime,
        options=found.options or baseline.options,
    )  # fmt: skip


def check_source(uri: str, settings: Settings) -> None:
    """Raises ModelError for a scheme that no serving process would load from."""
    scheme = scheme_of(uri)
    if not uri.strip():
        raise ModelError("a release needs a model: a path, models:/name/3 or models:/name@alias")
    if scheme not in (*_LOCAL, *settings.trust.schemes):
        allowed = ", ".join(f"{name}:" for name in settings.trust.schemes)
        raise ModelError(f"{uri}: models come from a path or {allowed}; {scheme}: is not listed in trust.schemes")


def alias_of(endpoint: str, candidate: ModelRef, settings: Settings) -> str:
    """The alias that says which version of the candidate's model is live: the one that the configuration follows, else
    champion. Empty for what is in no registry."""
    if not candidate.name:
        return ""
    configured = settings.endpoints.get(endpoint)
    if configured is not None and scheme_of(configured.model) == "models":
        try:
            name, which, by_alias = parse_uri(configured.model)
        except ModelError:  # the serving side has refused it already
            return CHAMPION
        if by_alias and name == candidate.name:
            return which
    return CHAMPION
