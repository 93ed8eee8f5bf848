"""Writes docs/reference/control-api.md from the OpenAPI document, so that the page cannot say something else:

python -m tests.unit.control.api.write_reference
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.unit.control.api.plane import control_plane
from tidegate.control.api.health import METRICS

REFERENCE = Path(__file__).parents[4] / "docs" / "reference" / "control-api.md"

HEAD = """\
# Control API

The control port (8001 by default) has a machine-readable twin of this page at `/openapi.json` and a page to try it at `/docs`;
both are made from the types that the server really decodes. This page is written by
`python -m tests.unit.control.api.write_reference`, and a test fails when it is old.

Keys go into `X-API-Key` or `Authorization: Bearer`; [how to manage them](../how-to/access.md). Bodies are JSON of at most
1 MiB, unknown fields are refused. Lists take `limit` and `cursor`, and answer `{"items": […], "next": cursor or null}`.
Every `POST` and `DELETE` takes `Idempotency-Key`: the same key and body within a day get the first answer again (a new API key
is not shown again), another body 422, and a repetition while the first is under way 409.

Errors are `application/problem+json` as on the [data port](errors.md). Times are seconds since the epoch, shares basis points
of 10 000.

"""


def page(document: Mapping[str, Any]) -> str:
    metrics = "\n".join(f"| `{name}` | {text} |" for name, text in METRICS.items())
    return (
        HEAD
        + "\n".join(_sections(document))
        + f"\n## Metrics\n\n| gauge at `/metrics` | meaning |\n|---|---|\n{metrics}\n"
    )


def _sections(document: Mapping[str, Any]) -> Iterator[str]:
    for tag in document["tags"]:
        yield f"## {tag['name']}"
        yield ""
        yield tag["description"]
        yield ""
        yield "| call | what | role | body | answer |"
        yield "|---|---|---|---|---|"
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                if tag["name"] in operation["tags"]:
                    yield _row(method, path, operation)
        yield ""


def _row(method: str, path: str, operation: Mapping[str, Any]) -> str:
    role = next(
        (part for part in ("predict", "operate", "admin") if f"`{part}`" in operation.get("description", "")), ""
    )
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    status, answer = next(
        (status, answer) for status, answer in operation["responses"].items() if status.startswith("2")
    )
    media: str = next(iter(answer.get("content", {})), "")
    schema = answer["content"][media]["schema"] if media else {}
    given = _name(schema) if media == "application/json" else media
    query = [one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"]
    call = f"`{method.upper()} {path}`" + (f"<br>`?{'`, `?'.join(query)}`" if query else "")
    return f"| {call} | {operation['summary']} | {role or 'none'} | {_name(body)} | {status} {given} |".replace(
        "  ", " "
    )


def _name(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return f"`{schema['$ref'].rpartition('/')[2]}`"
    if "anyOf" in schema:
        return " or ".join(map(_name, schema["anyOf"]))
    if "items" in schema:
        return f"list of {_name(schema['items'])}"
    if "items" in schema.get("properties", {}):
        return f"page of {_name(schema['properties']['items']['items'])}"
    return ""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, control_plane(Path(folder)) as plane:
        REFERENCE.write_text(page(plane.app.openapi()), "utf-8")


if __name__ == "__main__":
    main()
