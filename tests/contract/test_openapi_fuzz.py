"""schemathesis reads the document of a real server and sends what fits it and what does not."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from tests.contract.conftest import Served

pytestmark = pytest.mark.slow


def wrong_data_is_refused(context: Any, response: Any, case: Any) -> bool | None:
    return None if response.status_code == 413 else negative_data_rejection(context, response, case)


def largest(value: Any) -> float:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return max(map(largest, value), default=0.0)
    return abs(value) if isinstance(value, int | float) else 0.0


CHECKS = [
    not_a_server_error,
    wrong_data_is_refused,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
PATHS = r"^/(predict.*|info|models.*|invocations|openapi\.json|docs.*|ping|version)$"


@pytest.mark.parametrize("mode", GenerationMode)
def test_the_server_keeps_its_own_document(served: Served, mode: GenerationMode) -> None:
    address = f"http://{served.http}"
    schema: Any = schemathesis.openapi.from_url(f"{address}/openapi.json").include(path_regex=PATHS)
    tested = []
    for result in schema.get_all_operations():
        operation = result.ok()
        try_operation(operation, mode, address)
        tested.append(operation.path)
    assert {"/predict", "/predict/iris", "/predict/{endpoint}", "/invocations", "/models/{endpoint}"} <= set(tested)


def try_operation(operation: Any, mode: GenerationMode, address: str) -> None:
    try:
        cases = operation.as_strategy(generation_mode=mode, headers={"X-Timeout-Ms": "5000"})  # else a 504 is right
    except Unsatisfiable:
        return

    @settings(max_examples=10, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(cases.filter(lambda case: largest(case.body) < 1e12))  # a model may overflow beyond
    def send(case: Any) -> None:
        case.call_and_validate(base_url=address, checks=CHECKS, timeout=10)

    with contextlib.suppress(Unsatisfiable):  # an operation without parameters has no wrong ones
        send()
