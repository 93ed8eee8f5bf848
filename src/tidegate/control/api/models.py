"""The registry: versions of models and the aliases that point at them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeVar

import msgspec
from fastapi import APIRouter, Depends, Response
from msgspec import Meta

from tidegate.control.access import audit
from tidegate.control.api import examples
from tidegate.control.api.calls import Answer, Call, Cursor, Limit, Operating, body_of, give, in_pages
from tidegate.control.api.documents import documented
from tidegate.control.api.sources import source_of
from tidegate.control.registry.base import ModelVersion
from tidegate.errors import NotAllowed

router = APIRouter(prefix="/api/v1/models", tags=["models"])

PATH = "/api/v1/models"
T = TypeVar("T")
Name = Annotated[str, Meta(min_length=1, max_length=200)]


class RegisterModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``uri`` is a path on the control plane's machine, below a folder that the configuration trusts, or a URI of a scheme
    in ``trust.schemes``."""

    name: Name
    uri: Annotated[str, Meta(min_length=1, max_length=2000)]
    aliases: Annotated[tuple[Name, ...], Meta(max_length=20)] = ()
    metadata: Annotated[dict[Name, Annotated[str, Meta(max_length=5000)]], Meta(max_length=100)] = {}
    reason: Annotated[str, Meta(max_length=1000)] = ""


class SetAlias(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``version`` null removes the alias."""

    alias: Name
    version: Annotated[str, Meta(max_length=200)] | None
    reason: Annotated[str, Meta(max_length=1000)] = ""


@router.get("", summary="The newest version of every model")
@documented("operate", ModelVersion, many=True, example=examples.MODEL)
def list_all(call: Operating, limit: Limit = 50, cursor: Cursor = None) -> Response:
    return in_pages(call.services.registry.versions(""), limit, cursor)


@router.get("/{name}", summary="All versions of a model, newest first")
@documented("operate", ModelVersion, many=True, example=examples.MODEL, problems=(404,))
def versions(call: Operating, name: str, limit: Limit = 50, cursor: Cursor = None) -> Response:
    return in_pages(call.services.registry.versions(name), limit, cursor)


@router.get("/{name}/{version}", summary="One version, by number, alias or stage")
@documented("operate", ModelVersion, example=examples.MODEL, problems=(404,))
def one(call: Operating, name: str, version: str) -> Response:
    return give(call.services.registry.get(name, version))


@router.post("", status_code=201, summary="Register the next version of a model")
@documented(
    "operate", ModelVersion, takes=RegisterModel, status=201, example=examples.MODEL, takes_example=examples.REGISTER
)
def register(call: Operating, asked: Annotated[RegisterModel, Depends(body_of(RegisterModel))]) -> Response:
    _must_be_everywhere(call)
    source = source_of(asked.uri, call.services.settings.trust, never=call.services.batches.home)

    def act() -> Answer:
        def change() -> ModelVersion:
            return call.services.registry.register(asked.name, source, metadata=asked.metadata, aliases=asked.aliases)

        made = _recorded(call, "model.register", f"model:{asked.name}", asked, asked.reason, change)
        return Answer(made, 201, f"{PATH}/{made.name}/{made.version}")

    return call.write(act)


@router.post("/{name}/aliases", summary="Point an alias at a version, or remove it")
@documented("operate", status=204, takes=SetAlias, takes_example=examples.ALIAS, problems=(404,))
def set_alias(call: Operating, name: str, asked: Annotated[SetAlias, Depends(body_of(SetAlias))]) -> Response:
    """What moving `champion` does to what is served is `registry.on_alias_moved`."""
    _must_be_everywhere(call)

    def act() -> Answer:
        def change() -> None:
            call.services.registry.set_alias(name, asked.alias, asked.version)

        _recorded(call, "model.alias", f"model:{name}", asked, asked.reason, change)
        return Answer(status=204)

    return call.write(act)


def _must_be_everywhere(call: Call) -> None:
    """A model may serve any endpoint, so a key of some endpoints may not change it. Raises NotAllowed."""
    if call.caller.facts.endpoints:
        raise NotAllowed("this key is for some endpoints only; models are changed with a key for all of them")


def _recorded(call: Call, action: str, target: str, asked: msgspec.Struct, reason: str, change: Callable[[], T]) -> T:
    """The registry is not the store: the intent is written first, so that no change is without a trace."""
    services = call.services
    with services.store.begin() as unit:
        audit.record(unit, call.who, action, target, at=services.clock.wall(), after=asked, reason=reason)
    try:
        return change()
    except BaseException as error:
        with services.store.begin() as unit:
            said = f"did not happen: {type(error).__name__}"
            audit.record(unit, call.who, f"{action}-failed", target, at=services.clock.wall(), reason=said)
        raise
