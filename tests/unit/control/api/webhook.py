"""Webhooks as MLflow signs them."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import msgspec

SECRET = "shared between the registry and us"


def alias_moved(name: str = "iris", version: str = "4", alias: str = "champion") -> bytes:
    data = {"name": name, "alias": alias, "version": version}
    said: dict[str, Any] = {"entity": "model_version_alias", "action": "created", "data": data}
    return msgspec.json.encode(said)


def signed(body: bytes, at: float, delivery: str = "d-1", secret: str = SECRET) -> dict[str, str]:
    text = f"{delivery}.{int(at)}.".encode() + body
    signature = base64.b64encode(hmac.new(secret.encode(), text, hashlib.sha256).digest()).decode()
    return {
        "Content-Type": "application/json",
        "X-MLflow-Signature": f"v1,{signature}",
        "X-MLflow-Timestamp": str(int(at)),
        "X-MLflow-Delivery-Id": delivery,
    }


def older(body: bytes, secret: str = SECRET) -> dict[str, str]:
    """The older registry webhooks, which sign the body alone."""
    return {"X-Databricks-Signature": hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}
