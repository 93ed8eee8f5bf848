"""Environment names of the replaced systems that speak of "the" model: what they mean for the default endpoint.

``settings.ENDPOINT_ALIASES`` lists them, and this module is their rule. A ``TIDEGATE_`` name wins over them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tidegate.config.tree import Leaf, Problem, Table, put

_STAGES = ("None", "Staging", "Production", "Archived")
_YES = ("1", "true", "yes", "on")
_NO = ("0", "false", "no", "off")
_CANDIDATE = "candidate"

Entries = Mapping[str, tuple[str, str]]
"""Value and origin by the name of the variable."""


def place_older(entries: Entries, names: Table, table: Table, problems: list[Problem]) -> None:
    """Writes what the older names mean into ``table``; ``names`` is what other sources gave. An empty value says nothing."""
    found = {name: entry for name, entry in entries.items() if entry[0].strip()}
    endpoint = _default_endpoint(found, names)
    model = _model(found)
    if model is not None:
        uri, origin = model
        endpoint = endpoint or _made_of(uri)
        put(table, ("endpoints", endpoint, "model"), Leaf(None, origin, uri, lax=True))
    if not endpoint:
        return
    if "AB_STICKY_HEADER" in found:
        value, origin = found["AB_STICKY_HEADER"]
        put(table, ("endpoints", endpoint, "routing", "unit_header"), Leaf(None, origin, value, lax=True))
    _share(found, names, endpoint, table, problems)


def _default_endpoint(found: Entries, names: Table) -> str:
    """The configured default, or else the first that is configured; empty when there is none."""
    if "TIDEGATE_DEFAULT_ENDPOINT" in found:
        return found["TIDEGATE_DEFAULT_ENDPOINT"][0].strip()
    chosen = names.items.get("default_endpoint")
    if isinstance(chosen, Leaf) and (chosen.text or chosen.value):
        return str(chosen.text or chosen.value)
    endpoints = names.items.get("endpoints")
    return next(iter(endpoints.items), "") if isinstance(endpoints, Table) else ""


def _model(found: Entries) -> tuple[str, str] | None:
    """The URI, and where it comes from. A path is exact, and so wins over a registered model's name."""
    if "MODEL_PATH" in found:
        return found["MODEL_PATH"]
    for name in ("MODEL_REGISTRY_NAME", "MLFLOW_MODEL_NAME"):
        if name in found:
            value, origin = found[name]
            return registered(value.strip(), found.get("MODEL_STAGE", ("", ""))[0].strip()), origin
    return None


def registered(name: str, stage: str = "") -> str:
    """``models:/…`` of a registered model. A stage is one of MLflow's older ones, a version number, or an alias."""
    known = {one.lower(): one for one in _STAGES}
    if stage.lower() in known:
        return f"models:/{name}/{known[stage.lower()]}"
    return f"models:/{name}/{stage}" if stage.isdigit() else f"models:/{name}@{stage or 'champion'}"


def _made_of(uri: str) -> str:
    """A name for the endpoint where none is configured: the registered model's, or the file's."""
    plain = uri.split("@")[0].rstrip("/")
    last = plain.split("/")[1] if plain.startswith("models:/") else plain.rpartition("/")[2].partition(".")[0]
    return re.sub(r"[^A-Za-z0-9_-]+", "-", last).strip("-") or "model"


def _share(found: Entries, names: Table, endpoint: str, table: Table, problems: list[Problem]) -> None:
    """The share of the default endpoint's candidate; an endpoint without one has nothing to split."""
    given = found.get("AB_BUCKET_B_PCT")
    if "AB_ENABLED" in found:
        value, origin = found["AB_ENABLED"]
        if value.strip().lower() in _NO:
            given = ("0", origin)
        elif value.strip().lower() not in _YES:
            problems.append(Problem(origin, "", f'got "{value}"; allowed: true or false'))
            return
    variants = _variants(names, endpoint)
    if given is None or not variants:
        return
    if len(variants) > 1 and _CANDIDATE not in variants:
        text = f"{endpoint} has the variants {', '.join(variants)}; give each its share in the configuration"
        problems.append(Problem(given[1], f"endpoints.{endpoint}.variants", text))
        return
    chosen = _CANDIDATE if _CANDIDATE in variants else variants[0]
    put(table, ("endpoints", endpoint, "variants", chosen, "share"), Leaf(None, given[1], given[0].strip(), lax=True))


def _variants(names: Table, endpoint: str) -> list[str]:
    below: Table | Leaf | None = names
    for name in ("endpoints", endpoint, "variants"):
        below = below.items.get(name) if isinstance(below, Table) else None
    return list(below.items) if isinstance(below, Table) else []
