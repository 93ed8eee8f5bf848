"""Webhooks of model registries: who sent one, and what it says. Pure; replays are refused by the store's deliveries.

Two forms are taken. MLflow 3 signs ``id.timestamp.body`` (mlflow/webhooks/delivery.py, after standardwebhooks.com) and
sends alias and version events. The older registry webhooks sign the body alone and tell of stages.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from tidegate.control.registry.base import AliasMoved
from tidegate.errors import MalformedBody, NotAllowed, NotAuthenticated

TOLERANCE_SECONDS = 300.0
"""How old, or how far ahead of our clock, a delivery may be."""

_SIGNATURE, _TIMESTAMP, _ID = "x-mlflow-signature", "x-mlflow-timestamp", "x-mlflow-delivery-id"
_OLDER_SIGNATURE = "x-databricks-signature"
_VERSION = "v1"
_DELIVERY_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
"""Without a dot, so that the signed text can be taken apart in one way only."""
_SECONDS = re.compile(r"[0-9]{1,12}")
_HEX = re.compile(r"[0-9a-fA-F]{64}")
_MOST_SIGNATURES = 8
_LONGEST_NAME = 256


class Delivery(msgspec.Struct, frozen=True):
    """A webhook whose sender is known. ``id`` is the same when it is sent again, and is taken once."""

    id: str
    time: float
    """When it was sent, in seconds since the epoch; when it came, where the sender does not say."""
    form: Literal["mlflow", "older"]


class VersionCreated(msgspec.Struct, frozen=True):
    name: str
    version: str
    run_id: str = ""


class StageMoved(msgspec.Struct, frozen=True):
    name: str
    version: str
    stage: str
    """As the registry writes it: Production, Staging, Archived, None."""
    previous: str = ""


class Ignored(msgspec.Struct, frozen=True):
    """Well-formed, but nothing that concerns a release."""

    event: str


Event = AliasMoved | VersionCreated | StageMoved | Ignored


def verify(headers: Mapping[str, str], body: bytes, secret: str, now: float) -> Delivery:
    """Raises NotAllowed when no secret is set, and NotAuthenticated when the signature is missing, wrong or too old.

    ``body`` is what came over the wire, byte for byte; ``now`` in seconds since the epoch.
    """
    if not secret:
        raise NotAllowed("webhooks are off here: registry.webhook_secret is not set")
    given = {name.lower(): value for name, value in headers.items()}
    if _SIGNATURE in given:
        return _verify_mlflow(given, body, secret, now)
    if _OLDER_SIGNATURE in given:
        return _verify_older(given[_OLDER_SIGNATURE], body, secret, now)
    raise NotAuthenticated("a webhook needs a signature: X-MLflow-Signature or X-Databricks-Signature")


def _verify_mlflow(given: Mapping[str, str], body: bytes, secret: str, now: float) -> Delivery:
    delivery, timestamp = given.get(_ID, ""), given.get(_TIMESTAMP, "")
    if not _DELIVERY_ID.fullmatch(delivery) or not _SECONDS.fullmatch(timestamp):
        raise NotAuthenticated("a signed webhook needs X-MLflow-Delivery-Id and X-MLflow-Timestamp")
    expected = _digest(secret, f"{delivery}.{timestamp}.".encode() + body)
    if not any(hmac.compare_digest(expected, found) for found in _signatures(given[_SIGNATURE])):
        raise NotAuthenticated("the signature does not fit the body, the timestamp and the delivery id")
    _must_be_recent(float(timestamp), now)
    return Delivery(f"mlflow:{delivery}", float(timestamp), "mlflow")


def _signatures(header: str) -> list[bytes]:
    """Those of the version that is known; several stand side by side while a secret is changed."""
    found = []
    for part in header.split()[:_MOST_SIGNATURES]:
        version, _, text = part.partition(",")
        try:
            signature = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            continue
        if version == _VERSION:
            found.append(signature)
    return found


def _verify_older(signature: str, body: bytes, secret: str, now: float) -> Delivery:
    text = signature.strip()
    expected = _digest(secret, body)
    if not _HEX.fullmatch(text) or not hmac.compare_digest(expected, bytes.fromhex(text)):
        raise NotAuthenticated("the signature does not fit the body")
    sent = _object(body).get("event_timestamp")
    at = now
    if isinstance(sent, int | float) and not isinstance(sent, bool):
        at = sent / 1000  # milliseconds
        _must_be_recent(at, now)
    # It has no id of its own; what is signed tells deliveries apart, for the same text is the same delivery.
    return Delivery(f"older:{expected.hex()}", at, "older")


def _must_be_recent(sent: float, now: float) -> None:
    if abs(now - sent) > TOLERANCE_SECONDS:
        raise NotAuthenticated(f"the webhook was not sent within {TOLERANCE_SECONDS:.0f} seconds of now")


def _digest(secret: str, text: bytes) -> bytes:
    return hmac.new(secret.encode(), text, hashlib.sha256).digest()


def parse(body: bytes) -> Event:
    """What a webhook says, in either form. Raises MalformedBody."""
    said = _object(body)
    if "entity" in said:
        return _parse_mlflow(said)
    if "event" in said:
        return _parse_older(said)
    raise MalformedBody("not a registry's webhook: expected entity and action, or event")


def _parse_mlflow(said: Mapping[str, Any]) -> Event:
    event = f"{_text(said, 'entity')}.{_text(said, 'action')}"
    data = said.get("data")
    if event not in ("model_version_alias.created", "model_version_alias.deleted", "model_version.created"):
        return Ignored(event)
    if not isinstance(data, dict):
        raise MalformedBody("data: expected an object", loc=("data",))
    if event == "model_version.created":
        return VersionCreated(_text(data, "name"), _number(data), str(data.get("run_id") or "")[:_LONGEST_NAME])
    version = _number(data) if event == "model_version_alias.created" else None
    return AliasMoved(name=_text(data, "name"), alias=_text(data, "alias"), version=version)


def _parse_older(said: Mapping[str, Any]) -> Event:
    event = _text(said, "event")
    if event == "MODEL_VERSION_TRANSITIONED_STAGE":
        previous = str(said.get("from_stage") or "")[:_LONGEST_NAME]
        return StageMoved(_text(said, "model_name"), _number(said), _text(said, "to_stage"), previous)
    if event == "MODEL_VERSION_CREATED":
        return VersionCreated(_text(said, "model_name"), _number(said), str(said.get("run_id") or "")[:_LONGEST_NAME])
    return Ignored(event)


def _object(body: bytes) -> dict[str, Any]:
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedBody("the webhook's body is not JSON") from error
    if not isinstance(said, dict):
        raise MalformedBody("the webhook's body is not a JSON object")
    return said


def _text(said: Mapping[str, Any], key: str) -> str:
    value = said.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_NAME:
        raise MalformedBody(f"{key}: expected a text of 1 to {_LONGEST_NAME} characters", loc=(key,))
    return value


def _number(said: Mapping[str, Any]) -> str:
    """A version, which some senders write as a number."""
    value = said.get("version")
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise MalformedBody("version: expected a whole number", loc=("version",))
    return text
