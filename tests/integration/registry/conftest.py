"""A real MLflow server, shared by all tests and all pytest-xdist workers of a run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.services import shared, shared_folder


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with shared("mlflow", shared_folder(tmp_path_factory)) as url:
        yield url


@pytest.fixture(scope="session")
def mlflow_on_postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = shared_folder(tmp_path_factory)
    own = folder / "mlflow-on-postgresql"
    with shared("postgresql", folder) as database:
        own.mkdir(exist_ok=True)
        (own / "database").write_text(database.replace("postgresql://", "postgresql+psycopg://"))
        with shared("mlflow", own) as url:
            yield url
