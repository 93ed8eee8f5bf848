"""MLflow's own scoring client against a real server."""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.contract.conftest import Served
from tidegate import __version__

pytestmark = pytest.mark.slow

ROWS = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [-3, 0, 1, 0]], np.float64)


@pytest.fixture
def client(served: Served) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # importing MLflow warns about MLflow
        from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    host, port = served.http.split(":")
    client: Any = ScoringServerClient
    return client(host, int(port))


def test_ready_and_version(client: Any) -> None:
    client.wait_server_ready(timeout=10)
    assert client.get_version() == __version__


@pytest.mark.parametrize(
    "data",
    [
        ROWS,
        ROWS.tolist(),
        pd.DataFrame(ROWS),
        pd.DataFrame(ROWS, columns=["a", "b", "c", "d"], index=[7, 8, 9]),
        json.dumps({"instances": ROWS.tolist()}),
        json.dumps({"dataframe_split": pd.DataFrame(ROWS).to_dict(orient="split")}),
    ],
    ids=["array", "list", "frame", "named frame", "instances", "split"],
)
def test_invoke_with_everything_that_the_client_sends(client: Any, data: Any) -> None:
    expected = client.invoke(json.dumps({"inputs": ROWS.tolist()})).get_predictions()
    got = client.invoke(data).get_predictions()
    assert got.shape == (3, 1)
    pd.testing.assert_frame_equal(got, expected)


def test_params_are_left_aside(client: Any) -> None:
    assert len(client.invoke(ROWS, params={"temperature": 0.5}).get_predictions()) == 3


def test_mistakes_come_as_the_client_expects(client: Any) -> None:
    """mlflow/mlflow#3354, #4897: bad input is a 400 that names row and column; no stack trace comes with it."""
    with pytest.raises(Exception, match=r"error code 400, response: .*BAD_REQUEST") as caught:
        client.invoke(pd.DataFrame([[1, 2, 3, "old"]]))
    assert "row 0, column 3: expected number, got" in str(caught.value)
    assert "Traceback" not in str(caught.value)
    with pytest.raises(Exception, match="error code 400"):
        client.invoke(pd.DataFrame([[1, 2, 3, np.nan]]))
