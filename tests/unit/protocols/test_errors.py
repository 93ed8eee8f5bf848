from __future__ import annotations

import logging

import msgspec
import pytest

from tidegate import errors
from tidegate.problems import nearest
from tidegate.protocols.base import Request
from tidegate.protocols.errors import MLFLOW, NATIVE, V2, Table, mlflow_error, native_error, v2_error

REQUEST = Request("POST", "/predict", b"", {}, b"", {}, "id-7", 0.0)


def raised_on_requests() -> list[type[BaseException]]:
    """Every class of errors.py that a request can end in."""
    found: list[type[BaseException]] = []
    for value in vars(errors).values():
        if isinstance(value, type) and issubclass(value, errors.TidegateError):
            user = issubclass(value, errors.UserError) or value is errors.TidegateError
            found += [] if user else [value]
    return found


@pytest.mark.parametrize("table", [NATIVE, V2, MLFLOW], ids=["native", "v2", "mlflow"])
def test_every_error_has_an_entry_of_its_own(table: Table) -> None:
    assert set(table) == {*raised_on_requests(), BaseException}


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.MalformedBody("x"), 400),
        (errors.NotAuthenticated("x"), 401),
        (errors.NotAllowed("x"), 403),
        (errors.NotFound("x"), 404),
        (errors.BodyTooSlow("x"), 408),
        (errors.TooLarge("x"), 413),
        (errors.UnsupportedMedia("x"), 415),
        (errors.InvalidInput("x"), 422),
        (errors.QueueFull("x"), 429),
        (errors.RateLimited("x"), 429),
        (errors.Overloaded("x"), 503),
        (errors.NotReady("x"), 503),
        (errors.DeadlineExceeded("x"), 504),
        (errors.ModelFailed("x"), 500),
        (ZeroDivisionError("x"), 500),
    ],
)
def test_native_statuses(error: BaseException, status: int) -> None:
    response = native_error(error, REQUEST)
    problem = msgspec.json.decode(response.body)
    assert response.status == problem["status"] == status
    assert problem["request_id"] == "id-7"
    assert (b"content-type", b"application/problem+json") in response.headers


def test_subclasses_take_the_entry_of_the_nearest_class() -> None:
    class Narrower(errors.TooLarge):
        pass

    assert nearest(Narrower("x"), NATIVE).status == 413


def test_refusals_say_when_to_come_back() -> None:
    """bentoml/BentoML#3200, #4265: a refusal names its reason, and has Retry-After."""
    for answer in (native_error, v2_error, mlflow_error):
        response = answer(errors.QueueFull("4096 rows are waiting", retry_after=2.3), REQUEST)
        assert response.status == 429
        assert (b"retry-after", b"3") in response.headers
        assert b"4096 rows are waiting" in response.body


def test_a_refusal_for_ever_has_a_finite_retry_after() -> None:
    response = native_error(errors.NotReady("x", retry_after=float("inf")), REQUEST)
    assert (b"retry-after", b"60") in response.headers


@pytest.mark.parametrize("answer", [native_error, v2_error, mlflow_error])
@pytest.mark.parametrize(
    "error", [errors.ModelFailed("secret /etc/model.pkl"), KeyError("secret sklearn"), OSError("secret")]
)
def test_failures_show_the_request_id_and_nothing_of_the_inside(
    answer: object, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """MLflow's scoring server echoes the stack trace and the input to the client; here they go to the log only."""
    assert callable(answer)
    with caplog.at_level(logging.ERROR):
        response = answer(error, REQUEST)
    assert response.status == 500
    assert b"secret" not in response.body
    assert b"Traceback" not in response.body
    assert b"id-7" in response.body
    logged = [record for record in caplog.records if record.exc_info and record.exc_info[1] is error]
    assert len(logged) == (0 if isinstance(error, errors.ModelFailed) else 1)  # the predictor logs a failed model


def test_places_are_listed() -> None:
    places = [{"loc": ("features", 3, 0), "msg": "expected number"}]
    body = native_error(errors.InvalidInput("row 3", ("features", 3, 0), places), REQUEST).body
    assert msgspec.json.decode(body)["errors"] == [{"loc": ["features", 3, 0], "msg": "expected number"}]


def test_one_place_is_listed_too() -> None:
    body = native_error(errors.InvalidInput("row 3 is wrong", ("features", 3)), REQUEST).body
    assert msgspec.json.decode(body)["errors"] == [{"loc": ["features", 3], "msg": "row 3 is wrong"}]


def test_a_missing_key_names_the_scheme() -> None:
    assert (b"www-authenticate", b"Bearer") in native_error(errors.NotAuthenticated("x"), REQUEST).headers


def test_v2_and_mlflow_shapes() -> None:
    assert msgspec.json.decode(v2_error(errors.InvalidInput("row 3"), REQUEST).body) == {"error": "row 3"}
    answer = mlflow_error(errors.InvalidInput("row 3"), REQUEST)
    assert answer.status == 400
    assert msgspec.json.decode(answer.body) == {"error_code": "BAD_REQUEST", "message": "row 3"}
    assert mlflow_error(errors.UnsupportedMedia("x"), REQUEST).status == 415


def test_a_long_detail_is_cut() -> None:
    detail = msgspec.json.decode(native_error(errors.InvalidInput("x" * 100_000), REQUEST).body)["detail"]
    assert len(detail) < 5000
