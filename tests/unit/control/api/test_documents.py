"""The document says what is true, and the reference page says what the document says."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.unit.control.api.plane import Plane
from tests.unit.control.api.write_reference import REFERENCE, page
from tidegate.control.api import errors
from tidegate.protocols.errors import NATIVE


@pytest.fixture
def document(plane: Plane) -> dict[str, Any]:
    found: dict[str, Any] = plane.app.openapi()
    return found


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(method, path, one) for path, methods in document["paths"].items() for method, one in methods.items()]


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    assert len(operations(document)) > 40
    seen = set()
    for method, path, one in operations(document):
        assert one["summary"], path
        assert one["tags"], path
        seen.add(one["operationId"])
        good = next(answer for status, answer in one["responses"].items() if status.startswith("2"))
        if method == "post" and "requestBody" in one and "webhooks" not in path:
            assert "example" in one["requestBody"]["content"]["application/json"], path
        assert good["description"]
        assert "503" in one["responses"]
    assert len(seen) == len(operations(document))


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def references(value: Any) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
            return own.union(*map(references, value.values()))
        return set().union(*map(references, value)) if isinstance(value, list) else set()

    schemas = document["components"]["schemas"]
    names = {reference.removeprefix("#/components/schemas/") for reference in references(document)}
    assert names <= set(schemas)
    assert not {"HTTPValidationError", "ValidationError"} & set(schemas)


def test_the_reference_page_is_the_documents(document: dict[str, Any]) -> None:
    """Written anew by: python -m tests.unit.control.api.write_reference"""
    assert REFERENCE.read_text("utf-8") == page(document)


def test_problems_are_those_of_the_data_plane() -> None:
    for kind, ours in errors.KINDS.items():
        if kind in NATIVE:
            assert (ours.status, ours.slug) == (NATIVE[kind].status, NATIVE[kind].code)


def test_links_on_the_reference_page_are_relative() -> None:
    for target in re.findall(r"\]\(([^)#]+)", REFERENCE.read_text("utf-8")):
        assert (REFERENCE.parent / target).exists(), target
