from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tidegate.config import Loaded, load_settings
from tidegate.errors import ConfigError

ONE_ENDPOINT = """\
endpoints:
  iris-flowers:
    model: iris.onnx
    batching:
      max_rows: 32
"""


class Folder:
    """Loads settings from texts, as if they were in files of one folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(
        self,
        text: str | None = None,
        environment: Mapping[str, str] | None = None,
        overrides: Mapping[str, Any] | None = None,
        dotenv: str | None = None,
    ) -> Loaded:
        file = self.path / "tidegate.yaml"
        if text is not None:
            file.write_text(text, "utf-8")
        if dotenv is not None:
            (self.path / ".env").write_text(dotenv, "utf-8")
        return load_settings(
            file if text is not None else None,
            environment=environment or {},
            overrides=overrides or {},
            dotenv=self.path / ".env" if dotenv is not None else None,
        )

    def mistakes(self, *args: Any, **kwargs: Any) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            self.load(*args, **kwargs)
        return str(caught.value).replace(f"{self.path}/", "").splitlines()


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_defaults_need_no_file(folder: Folder) -> None:
    loaded = folder.load()
    assert loaded.settings.server.port == 8000
    assert loaded.origins["server.port"] == "default"
    assert loaded.base == Path.cwd()


def test_each_source_wins_over_the_one_before(folder: Folder) -> None:
    sources: list[tuple[str, dict[str, Any]]] = [
        ("text", {}),
        ("json", {"text": "logs: {format: json}"}),
        ("text", {"dotenv": "TIDEGATE_LOGS__FORMAT=text"}),
        ("json", {"environment": {"TIDEGATE_LOGS__FORMAT": "json"}}),
        ("text", {"overrides": {"logs.format": "text"}}),
    ]
    given: dict[str, Any] = {}
    for expected, source in sources:
        given |= source
        assert folder.load(**given).settings.logs.format == expected


def test_origins_name_the_place_of_every_value(folder: Folder) -> None:
    loaded = folder.load(
        "profile: production\nserver:\n  port: 9000\n",
        {"TIDEGATE_SERVER__WORKERS": "2", "LOG_LEVEL": "debug"},
        {"server.host": "0.0.0.0"},
        "# a comment\nexport TIDEGATE_LIMITS__DEPTH=8\n",
    )
    found = {key: origin.replace(f"{folder.path}/", "") for key, origin in loaded.origins.items()}
    assert found["server.port"] == "tidegate.yaml:3"
    assert found["server.workers"] == "environment TIDEGATE_SERVER__WORKERS"
    assert found["logs.level"] == "environment LOG_LEVEL"
    assert found["server.host"] == "command line"
    assert found["limits.depth"] == ".env:2 TIDEGATE_LIMITS__DEPTH"
    assert found["server.drain_seconds"] == "profile production"
    assert found["server.shutdown_seconds"] == "default"
    assert loaded.base == folder.path


@pytest.mark.parametrize(
    ("profile", "watch", "drain", "logs"),
    [
        ("local", True, 0, "text"),
        ("development", True, 0, "text"),
        ("staging", False, 5, "json"),
        ("production", False, 5, "json"),
    ],
)
def test_a_profile_sets_defaults_only(folder: Folder, profile: str, watch: bool, drain: float, logs: str) -> None:
    settings = folder.load("server: {port: 1}", {"TIDEGATE_PROFILE": profile}).settings
    assert (settings.server.watch, settings.server.drain_seconds, settings.logs.format) == (watch, drain, logs)
    assert folder.load("server: {watch: false}", {"PROFILE": profile}).settings.server.watch is False


def test_nested_environment_names_find_the_endpoint_of_the_file(folder: Folder) -> None:
    environment = {
        "TIDEGATE_ENDPOINTS__IRIS_FLOWERS__BATCHING__MAX_ROWS": "64",
        "TIDEGATE_ENDPOINTS__IRIS_FLOWERS__VARIANTS__CANDIDATE__MODEL": "next.onnx",
        "TIDEGATE_ENDPOINTS__IRIS_FLOWERS__VARIANTS__CANDIDATE__SHARE": "12.5",
    }
    endpoints = folder.load(ONE_ENDPOINT, environment).settings.endpoints
    assert list(endpoints) == ["iris-flowers"]
    endpoint = endpoints["iris-flowers"]
    assert endpoint.batching.max_rows == 64
    assert endpoint.variants["candidate"].share == 12.5


def test_an_endpoint_can_come_from_the_environment_alone(folder: Folder) -> None:
    endpoints = folder.load(None, {"TIDEGATE_ENDPOINTS__IRIS__MODEL": "m.onnx"}).settings.endpoints
    assert endpoints["iris"].model == "m.onnx"


def test_overrides_may_be_typed_tables(folder: Folder) -> None:
    overrides = {"endpoints": {"iris": {"model": "m.onnx", "variants": {"b": {"model": "n.onnx", "share": 5}}}}}
    assert folder.load(None, {}, overrides).settings.endpoints["iris"].variants["b"].share == 5
    assert folder.load(None, {}, {"trust.schemes": ("a", "b")}).settings.trust.schemes == ("a", "b")


@pytest.mark.parametrize(
    ("name", "text", "key", "value"),
    [
        ("TIDEGATE_SERVER__GRPC_PORT", "8081", "grpc_port", 8081),
        ("TIDEGATE_SERVER__GRPC_PORT", "", "grpc_port", None),
        ("TIDEGATE_SERVER__WATCH", "false", "watch", False),
        ("TIDEGATE_SERVER__WATCH", "1", "watch", True),
        ("TIDEGATE_SERVER__PORT", "", "port", 8000),
        ("TIDEGATE_SERVER__DRAIN_SECONDS", " 2.5 ", "drain_seconds", 2.5),
        ("CORRELATION_ID_HEADER", "X-Correlation-Id", "correlation_header", "X-Correlation-Id"),
    ],
)
def test_environment_texts_become_the_fields_type(
    folder: Folder, name: str, text: str, key: str, value: object
) -> None:
    server = folder.load(None, {name: text}).settings.server
    assert getattr(server, key) == value


def test_lists_and_tables_in_the_environment(folder: Folder) -> None:
    environment = {
        "TIDEGATE_TRUST__PICKLES": "models:/iris, /srv/models",
        "TIDEGATE_TRUST__SCHEMES": '["file"]',
        "TIDEGATE_ENDPOINTS__A__MODEL": "a.onnx",
        "TIDEGATE_ENDPOINTS__A__OPTIONS": '{"threads": 2}',
        "TIDEGATE_ENDPOINTS__A__CACHE": '{"ttl_seconds": 5}',
    }
    settings = folder.load(None, environment).settings
    assert settings.trust.pickles == ("models:/iris", "/srv/models")
    assert settings.trust.schemes == ("file",)
    assert settings.endpoints["a"].options == {"threads": 2}
    assert settings.endpoints["a"].cache is not None
    assert settings.endpoints["a"].cache.ttl_seconds == 5


def test_a_new_name_wins_over_its_alias(folder: Folder) -> None:
    environment = {"LOG_LEVEL": "ERROR", "TIDEGATE_LOGS__LEVEL": "debug"}
    assert folder.load(None, environment).settings.logs.level == "debug"
    assert folder.load(None, {"LOG_LEVEL": "ERROR"}).settings.logs.level == "error"


def test_what_kubernetes_writes_for_a_service_is_no_mistake(folder: Folder) -> None:
    environment = {
        "TIDEGATE_PORT": "tcp://10.0.0.1:8000",
        "TIDEGATE_SERVICE_HOST": "10.0.0.1",
        "TIDEGATE_SERVICE_PORT_HTTP": "8000",
        "TIDEGATE_CONTROL_PORT_8001_TCP_ADDR": "10.0.0.1",
    }
    assert folder.load(None, environment).settings.server.port == 8000


def test_empty_sections_mean_their_defaults(folder: Folder) -> None:
    settings = folder.load("server:\nendpoints:\n  a:\n    model: m.onnx\n    cache:\n    slo: {}\n").settings
    assert settings.server.port == 8000
    assert settings.endpoints["a"].cache is None
    assert settings.endpoints["a"].slo is not None


def test_unknown_keys_name_the_nearest(folder: Folder) -> None:
    assert folder.mistakes("server:\n  prot: 1\n") == [
        'tidegate.yaml:2: server.prot: unknown key; did you mean "port"?'
    ]
    assert folder.mistakes(None, {"TIDEGATE_SERVER_PORT": "1"}) == [
        "environment TIDEGATE_SERVER_PORT: no such setting; did you mean TIDEGATE_SERVER__PORT?"
    ]
    assert folder.mistakes(None, {"TIDEGATE_SERVER__PORT__X": "1"})[0].startswith(
        "environment TIDEGATE_SERVER__PORT__X"
    )
    assert folder.mistakes(dotenv="\nTIDEGATE_LOGZ__LEVEL=info") == [
        ".env:2 TIDEGATE_LOGZ__LEVEL: no such setting; did you mean TIDEGATE_LOGS__LEVEL?"
    ]


def test_every_mistake_is_told_with_its_place_and_what_is_allowed(folder: Folder) -> None:
    text = ONE_ENDPOINT.replace("32", "none") + "server: {port: 70000}\nlogs: {format: xml}\nlimits: 3\n"
    assert folder.mistakes(text, {"TIDEGATE_SERVER__WORKERS": "0"}) == [
        'tidegate.yaml:5: endpoints.iris-flowers.batching.max_rows: got "none"; allowed: a whole number of at least 1',
        "tidegate.yaml:6: server.port: got 70000; allowed: a whole number from 0 to 65535",
        'tidegate.yaml:7: logs.format: got "xml"; allowed: one of: json, text',
        "tidegate.yaml:8: limits: got 3; allowed: "
        "a section with the keys body_bytes, depth, body_seconds, image_pixels",
        'environment TIDEGATE_SERVER__WORKERS: server.workers: got "0"; allowed: a whole number from 1 to 1024',
    ]


def test_a_missing_model_is_told_with_the_endpoints_line(folder: Folder) -> None:
    assert folder.mistakes("endpoints:\n  iris:\n    max_rows: 3\n") == [
        "tidegate.yaml:2: endpoints.iris.model: must be given; path or URI of the baseline model."
    ]


def test_the_values_of_secrets_are_never_shown(folder: Folder) -> None:
    [line] = folder.mistakes("access:\n  predict_key: [hunter2]\n")
    assert "hunter2" not in line
    assert line.startswith("tidegate.yaml:2: access.predict_key: got a secret")


@pytest.mark.parametrize(
    "text",
    [
        "store: postgresql://ann:hunter2@database.example/tidegate\n",
        "store: {url:postgresql://ann:hunter2@database.example/tidegate}\n",
        "registry: {uri: [https://ann:hunter2@registry.example]}\n",
        f"store: postgresql://ann:hunter2{'x' * 80}@database.example/tidegate\n",
    ],
)
def test_credentials_in_an_address_at_a_wrong_place_are_not_shown(folder: Folder, text: str) -> None:
    [line] = folder.mistakes(text)
    assert "://…@" in line
    assert "hunter2" not in line
    assert "ann" not in line


def test_broken_rules_are_told_with_the_nearest_line(folder: Folder) -> None:
    text = ONE_ENDPOINT + "    variants:\n      b: {model: b.onnx, share: 60}\n      c: {model: c.onnx, share: 41}\n"
    assert folder.mistakes(text) == [
        "tidegate.yaml:6: endpoints.iris-flowers.variants: the shares add up to 101; at most 100"
    ]


def test_no_more_than_twenty_mistakes_are_listed(folder: Folder) -> None:
    lines = folder.mistakes("\n".join(f"key{number}: 1" for number in range(50)))
    assert len(lines) == 21
    assert lines[-1] == "and 30 more"


def test_dotenv_values_may_be_quoted(folder: Folder) -> None:
    dotenv = "TIDEGATE_TRACING__SERVICE_NAME='a # b'\nTIDEGATE_ACCESS__PREDICT_KEY=\"k=1\" # note\nLOG_LEVEL=error # note\nOTHER=1\n"
    settings = folder.load(dotenv=dotenv).settings
    assert settings.tracing.service_name == "a # b"
    assert settings.access.predict_key == "k=1"
    assert settings.logs.level == "error"


@pytest.mark.parametrize("line", ["no equals sign", "A='open", "1A=2"])
def test_a_broken_dotenv_line_is_named(folder: Folder, line: str) -> None:
    assert folder.mistakes(dotenv=f"A=1\n{line}\n")[0].startswith(".env:2: ")


def test_trusted_folders_start_where_models_do(folder: Folder) -> None:
    trust = folder.load("trust: {pickles: [models, /srv, 'models:/iris']}").settings.trust
    assert trust.pickles == (str(folder.path / "models"), "/srv", "models:/iris")


@pytest.mark.parametrize(
    ("url", "name"),
    [("sqlite:///run/a.db", "run/a.db"), ("sqlite+pysqlite:///a.db?timeout=5", "a.db?timeout=5")],
)
def test_a_store_beside_the_configuration_is_the_same_from_every_folder(folder: Folder, url: str, name: str) -> None:
    """Planes that are started in different folders would each have a store of their own, and never meet."""
    scheme = url.partition(":")[0]
    expected = f"{scheme}:///{(folder.path / name).as_posix()}"
    assert folder.load(f"store: {{url: '{url}'}}").settings.store.url == expected
    assert folder.load("{}", environment={"TIDEGATE_STORE__URL": url}).settings.store.url == expected
    assert folder.load("{}", overrides={"store.url": expected}).settings.store.url == expected


def test_a_store_that_was_typed_starts_from_the_current_folder(folder: Folder) -> None:
    found = folder.load("{}", overrides={"store.url": "sqlite:///a.db"}).settings.store.url
    assert found == f"sqlite:///{(Path.cwd() / 'a.db').as_posix()}"


@pytest.mark.parametrize("url", ["", "sqlite:////srv/a.db", "sqlite:///:memory:", "sqlite://", "postgresql://host/db"])
def test_other_stores_stay_as_they_are(folder: Folder, url: str) -> None:
    assert folder.load(f"store: {{url: '{url}'}}").settings.store.url == url


def test_an_infinite_bound_of_a_guardrail_is_refused_with_its_place(folder: Folder) -> None:
    """JSON has no such number, so that what a release stores of it could not be read again."""
    text = f"{ONE_ENDPOINT}    release:\n      guardrails:\n        - prometheus: {{query: up, url: http://p, max: .inf}}\n"
    assert folder.mistakes(text) == [
        "tidegate.yaml:7: endpoints.iris-flowers.release.guardrails.0.prometheus.max: must be a finite number"
    ]
