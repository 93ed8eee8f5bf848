"""Data from a real PostgreSQL server, and from Parquet: one table gives one model, and no error quotes the address."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.databases import server
from tests.integration.training.customers import GIVEN, PASSWORD, QUERY, Database, everything, none_of, table
from tests.integration.training.place import Place
from tidegate.apps.training import read_config
from tidegate.cli import app
from tidegate.clock import SystemClock
from tidegate.control.jobs.queue import Queue
from tidegate.control.registry.files import FilesRegistry
from tidegate.control.training import rows, sources
from tidegate.control.training.retrain import RetrainService
from tidegate.errors import UserError
from tidegate.registry_files import registry_folder
from tidegate.storage.store import Store

__all__ = ["server"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def database(server: str) -> Database:
    return Database(server)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    made.describe(**GIVEN)
    return made


def test_one_table_gives_one_model_from_postgresql_and_parquet(
    place: Place, database: Database, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    place.describe(**GIVEN, data=database.source())
    app(["train", str(place.folder / "train.yaml"), "--config", str(place.configuration)], standalone_mode=False)
    said = capsys.readouterr()
    assert "registered as models:/churn/1" in said.out
    version = FilesRegistry(registry_folder(place.loaded.settings.registry, place.folder)).get("churn", "1")
    assert '"kind":"sql"' in version.metadata["origins"]

    table().assign(photo=b"\x00\xff").sample(frac=1, random_state=1).to_parquet(place.folder / "churn.parquet")
    place.describe(**GIVEN, data={"parquet": "churn.parquet"})
    found = place.train("t-2", register=False)
    assert (found.rows.read, found.rows.rejected) == (400, 0)
    assert found.features == ("age", "charges", "joined", "plan", "vip")
    assert found.data_digest == version.metadata["data_digest"]
    assert found.model_digest == version.metadata["model_digest"]

    place.write(table())
    place.describe(**GIVEN)
    plan = read_config(place.folder / "train.yaml")
    frame, _ = sources.read(plan.data, place.folder)
    whole = sources.digest(rows.check(frame, plan).frame)
    frame, _ = sources.read(read_config_of(place, database.source()).data, place.folder)
    assert sources.digest(rows.check(frame, plan).frame) == whole, "and from a text file, with times to the second"

    kept = [file.read_bytes() for file in place.folder.rglob("*") if file.is_file() and file.name != "train.yaml"]
    none_of(database.url, said.out, said.err, caplog.text, *(text.decode("utf-8", "replace") for text in kept))


def read_config_of(place: Place, data: dict[str, Any]) -> Any:
    place.describe(**GIVEN, data=data)
    return read_config(place.folder / "train.yaml")


@pytest.mark.parametrize(
    ("column", "what"),
    [("photo", "is bytes"), ("extra", "is an object"), ("tags", "is a list"), ("waited", "is a duration")],
)
def test_a_column_that_cannot_be_trained_on_is_named(place: Place, database: Database, column: str, what: str) -> None:
    data = database.source(f"SELECT charges, {column}, churned FROM customers")
    plan = read_config_of(place, data)
    frame, _ = sources.read(plan.data, place.folder)
    for schema in ({}, {column: {"type": "category"}, "churned": {"type": "boolean"}}):
        place.describe(data=data, schema=schema or None)
        with pytest.raises(
            UserError, match=rf"400 of 400 rows break the schema.* column '{column}': .* {what}; a column"
        ):
            rows.check(frame, read_config(place.folder / "train.yaml"))


FAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "password": ({"password": "wr@ng %41"}, QUERY, 'password authentication failed for user "…"'),
    "user": ({"username": "no body"}, QUERY, 'password authentication failed for user "…"'),
    "database": ({"database": "no such"}, QUERY, 'database "…" does not exist'),
    "host": ({"host": "database.invalid"}, QUERY, "failed to resolve host '…'"),
    "port": ({"host": "localhost", "port": 1}, QUERY, 'connection to server at "…", port 1 failed: Connection refused'),
    "option": ({"query": {"sslpassword": "hush", "sslmode": "require"}}, QUERY, "SSL was required"),
    "table": ({}, "SELECT * FROM nowhere", 'the query failed: relation "nowhere" does not exist'),
    "syntax": ({}, "SELEC 1", 'the query failed: syntax error at or near "SELEC"'),
    "rights": ({}, "SELECT * FROM pg_authid", "the query failed: permission denied for table pg_authid"),
    "row": ({}, "SELECT 1 / (age - age) FROM customers", "the query failed: division by zero"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_error_says_what_is_wrong_and_not_the_address(
    place: Place, database: Database, fault: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    changes, query, expected = FAULTS[fault]
    changed = database.url.set(**changes)
    place.describe(data=database.source(query, changed))
    with pytest.raises(SystemExit) as ended:
        app(["train", str(place.folder / "train.yaml"), "--config", str(place.configuration)], standalone_mode=False)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: data.sql: ")
    assert expected in said
    assert said.count("\n") == 1
    none_of(changed, said, caplog.text)
    assert str(changed.host) not in said
    assert "127.0.0.1" not in said
    assert "hush" not in said
    with pytest.raises(UserError) as raised:
        place.train()
    assert raised.value.__cause__ is None, "which would be in a trace"
    assert raised.value.__suppress_context__


@pytest.mark.parametrize("quoted", [PASSWORD, quote(PASSWORD, safe="")])
def test_a_server_that_quotes_the_password_is_not_repeated(place: Place, database: Database, quoted: str) -> None:
    place.describe(data=database.source(f'SELECT 1 FROM "{quoted}"'))
    with pytest.raises(UserError, match='relation "…" does not exist LINE 1: SELECT 1 FROM "…"') as raised:
        place.train()
    none_of(database.url, str(raised.value))


@pytest.mark.parametrize("password", ["pa%ss", "pa/ss", "pa@ss", "pa:ss", "pa ss"])
def test_a_password_that_is_not_written_as_it_should_be_is_not_shown(place: Place, password: str) -> None:
    place.describe(data={"sql": {"url": f"postgresql://ann:{password}@127.0.0.1:x/db", "query": QUERY}})
    with pytest.raises(UserError, match=r"data\.sql(\.url: expected an address such as|: no connection)") as raised:
        place.train()
    assert "ann:" not in str(raised.value)
    assert not [part for part in ("ss@", "%ss", "/ss", "127") if part in str(raised.value)]


@pytest.fixture
def store(place: Place) -> Iterator[Store]:
    made = place.store()
    yield made
    made.close()


@pytest.mark.parametrize("fault", ["password", "table"])
def test_no_record_of_a_retraining_that_failed_has_the_password(
    place: Place, store: Store, database: Database, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    changes, query, expected = FAULTS[fault]
    changed = database.url.set(**changes)
    place.describe(data=database.source(query, changed))
    settings, clock = place.loaded.settings, SystemClock()
    registry = FilesRegistry(registry_folder(settings.registry, place.folder))
    queue = Queue(store, settings.jobs, clock)
    unused: Any = None
    service = RetrainService(store, registry, settings, queue, unused, clock, "one")
    service.start("churn", mode="features", who="ada")
    assert place.run_job(store).state == "failed"
    service.tick()
    [found] = service.list()
    assert found.state == "failed"
    assert expected in found.events[-1].text
    none_of(changed, caplog.text, everything(store))
