"""Who sent a webhook, and what it says."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.control.registry.base import AliasMoved
from tidegate.control.registry.webhooks import Ignored, StageMoved, VersionCreated, parse, verify
from tidegate.errors import MalformedBody, NotAllowed, NotAuthenticated, RequestError

SECRET = "the secret"
NOW = 1_700_000_000.0
ALIAS = {
    "entity": "model_version_alias",
    "action": "created",
    "timestamp": "2026-01-01T00:00:00+00:00",
    "data": {"name": "iris", "alias": "champion", "version": "4"},
}
STAGE = {
    "event": "MODEL_VERSION_TRANSITIONED_STAGE",
    "webhook_id": "c5596721253c4b429368cf6f4341b88a",
    "event_timestamp": int(NOW * 1000),
    "model_name": "iris",
    "version": "8",
    "to_stage": "Production",
    "from_stage": "None",
    "text": "Registered model 'iris' version 8 transitioned from None to Production.",
}


def mac(secret: str, text: bytes) -> bytes:
    return hmac.new(secret.encode(), text, hashlib.sha256).digest()


def native(body: bytes, secret: str = SECRET, delivery: str = "d-1", timestamp: str = f"{NOW:.0f}") -> dict[str, str]:
    signed = base64.b64encode(mac(secret, f"{delivery}.{timestamp}.".encode() + body)).decode()
    return {
        "X-MLflow-Signature": f"v1,{signed}",
        "X-MLflow-Timestamp": timestamp,
        "X-MLflow-Delivery-Id": delivery,
    }


def older(body: bytes, secret: str = SECRET) -> dict[str, str]:
    return {"X-Databricks-Signature": mac(secret, body).hex()}


def written(said: Any) -> bytes:
    return json.dumps(said).encode()


def test_a_native_delivery() -> None:
    body = written(ALIAS)
    delivery = verify(native(body), body, SECRET, NOW)
    assert (delivery.id, delivery.time, delivery.form) == ("mlflow:d-1", NOW, "mlflow")
    lower = {name.lower(): value for name, value in native(body).items()}
    assert verify(lower, body, SECRET, NOW) == delivery


def test_an_older_delivery() -> None:
    body = written(STAGE)
    delivery = verify(older(body), body, SECRET, NOW)
    assert (delivery.time, delivery.form) == (NOW, "older")
    assert verify(older(body), body, SECRET, NOW + 60).id == delivery.id
    other = written({**STAGE, "version": "9"})
    assert verify(older(other), other, SECRET, NOW).id != delivery.id
    undated = written({key: value for key, value in STAGE.items() if key != "event_timestamp"})
    assert verify(older(undated), undated, SECRET, NOW).time == NOW


@pytest.mark.parametrize("seconds", [-301, 301, 86_400])
def test_what_is_not_recent_is_refused(seconds: float) -> None:
    for body, headers in ((written(ALIAS), native), (written(STAGE), older)):
        verify(headers(body), body, SECRET, NOW + (299 if seconds > 0 else -299))
        with pytest.raises(NotAuthenticated, match="300 seconds"):
            verify(headers(body), body, SECRET, NOW + seconds)


def test_a_changed_body_time_or_id_is_refused() -> None:
    body = written(ALIAS)
    good = native(body)
    for name, value in (
        ("X-MLflow-Timestamp", f"{NOW + 1:.0f}"),
        ("X-MLflow-Timestamp", "soon"),
        ("X-MLflow-Delivery-Id", "d-2"),
        ("X-MLflow-Delivery-Id", ""),
        ("X-MLflow-Signature", good["X-MLflow-Signature"].replace("v1,", "v0,")),
        ("X-MLflow-Signature", good["X-MLflow-Signature"].removeprefix("v1,")),
        ("X-MLflow-Signature", "v1,not base64"),
        ("X-MLflow-Signature", "v1,"),
        ("X-MLflow-Signature", ""),
    ):
        with pytest.raises(NotAuthenticated):
            verify({**good, name: value}, body, SECRET, NOW)
    for wrong in (body + b" ", body[:-1], b""):
        with pytest.raises(NotAuthenticated):
            verify(good, wrong, SECRET, NOW)
        with pytest.raises(NotAuthenticated):
            verify(older(body), wrong, SECRET, NOW)
    with pytest.raises(NotAuthenticated):
        verify(good, body, "another secret", NOW)
    with pytest.raises(NotAuthenticated, match="needs a signature"):
        verify({}, body, SECRET, NOW)


def test_the_signed_text_can_be_split_in_one_way_only() -> None:
    """Without this, ``id.time`` could be taken for an id and digits of the body for a time."""
    body = b'17.{"entity": "x"}'
    moved = b'{"entity": "x"}'
    headers = native(body, delivery="d-1", timestamp=f"{NOW:.0f}")
    verify(headers, body, SECRET, NOW)
    with pytest.raises(NotAuthenticated):
        verify({**headers, "X-MLflow-Delivery-Id": f"d-1.{NOW:.0f}", "X-MLflow-Timestamp": "17"}, moved, SECRET, 17.0)


def test_two_secrets_stand_side_by_side_while_one_is_changed() -> None:
    body = written(ALIAS)
    both = f"{native(body, 'old')['X-MLflow-Signature']} {native(body)['X-MLflow-Signature']}"
    assert verify({**native(body), "X-MLflow-Signature": both}, body, SECRET, NOW).form == "mlflow"


def test_without_a_secret_they_are_off() -> None:
    body = written(ALIAS)
    with pytest.raises(NotAllowed, match=r"registry\.webhook_secret"):
        verify(native(body, ""), body, "", NOW)


@pytest.mark.parametrize(
    ("said", "event"),
    [
        (ALIAS, AliasMoved(name="iris", alias="champion", version="4")),
        (
            {**ALIAS, "action": "deleted", "data": {"name": "iris", "alias": "champion"}},
            AliasMoved(name="iris", alias="champion", version=None),
        ),
        (
            {
                "entity": "model_version",
                "action": "created",
                "data": {"name": "iris", "version": "5", "source": "models:/m-1", "run_id": None, "tags": {}},
            },
            VersionCreated("iris", "5"),
        ),
        ({"entity": "prompt", "action": "created", "data": {}}, Ignored("prompt.created")),
        (STAGE, StageMoved("iris", "8", "Production", "None")),
        ({**STAGE, "version": 8}, StageMoved("iris", "8", "Production", "None")),
        (
            {"event": "MODEL_VERSION_CREATED", "model_name": "iris", "version": "2", "run_id": "ab"},
            VersionCreated("iris", "2", "ab"),
        ),
        ({"event": "COMMENT_CREATED", "model_name": "iris"}, Ignored("COMMENT_CREATED")),
    ],
)
def test_what_they_say(said: Any, event: Any) -> None:
    assert parse(written(said)) == event


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\xff", b"[]", b"1", b"{}", b'{"entity": 1}', b'{"entity": "model_version_alias"}',
        b'{"entity": "model_version_alias", "action": "created"}',
        b'{"entity": "model_version_alias", "action": "created", "data": {"name": "i", "alias": "c", "version": "x"}}',
        b'{"event": "MODEL_VERSION_TRANSITIONED_STAGE", "model_name": "i", "version": true, "to_stage": "P"}',
        b'{"event": "MODEL_VERSION_TRANSITIONED_STAGE", "model_name": "", "version": 1, "to_stage": "P"}',
        b'{"event": "' + b"x" * 300 + b'"}', b"[" * 10_000,
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        parse(body)


@given(st.binary(max_size=200), st.dictionaries(st.sampled_from(list(native(b""))), st.text(max_size=40)))
def test_anything_else_is_a_request_error(body: bytes, headers: dict[str, str]) -> None:
    with pytest.raises(NotAuthenticated):
        verify(headers, body, SECRET, NOW)
    with contextlib.suppress(RequestError):
        verify(older(body), body, SECRET, NOW)
        parse(body)
