"""From settings to a numbered snapshot, every model pinned to its bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.errors import ModelError, NotFound
from tidegate.serving.snapshots.file import known_endpoint, snapshot_of, watched_files, with_trust
from tidegate.settings import EndpointSettings, Routing, Settings, Trust, VariantSettings
from tidegate.types import RoutingSnapshot


def settings_of(folder: Path, **variants: VariantSettings) -> Settings:
    (folder / "model.onnx").write_bytes(b"one")
    (folder / "other.onnx").write_bytes(b"two")
    return Settings(
        endpoints={
            "iris": EndpointSettings(model="model.onnx", variants=variants, routing=Routing(salt="s")),
            "churn": EndpointSettings(model="fake:", options={"bias": 1}),
        }
    )


def taken(settings: Settings, folder: Path, **options: object) -> RoutingSnapshot:
    return snapshot_of(settings, folder, 3, settings.trust, **options)  # type: ignore[arg-type]


def test_what_is_configured_is_what_is_planned(tmp_path: Path) -> None:
    """kserve/kserve#5335, #2130, SeldonIO/seldon-core#5181: what is configured is what is served."""
    settings = settings_of(
        tmp_path,
        canary=VariantSettings(model="other.onnx", share=12.34),
        shadow=VariantSettings(model="other.onnx", share=50, shadow=True, version="9"),
    )
    snapshot = taken(settings, tmp_path)
    assert (snapshot.number, snapshot.default_endpoint) == (3, "iris")
    plan = snapshot.endpoints["iris"]
    assert [(v.name, v.share, v.shadow) for v in plan.variants] == [
        ("baseline", 0, False), ("canary", 1234, False), ("shadow", 0, True),
    ]  # fmt: skip
    assert plan.salt == "s"
    assert plan.variants[2].model.version == "9"


def test_models_are_pinned_to_their_bytes(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    before = taken(settings, tmp_path).endpoints["iris"].baseline.model
    assert before.uri == str(tmp_path / "model.onnx")
    assert before.digest.startswith("sha256:")
    assert before.version == before.digest.removeprefix("sha256:")[:8]
    assert taken(settings, tmp_path).endpoints["iris"].baseline.model == before
    (tmp_path / "model.onnx").write_bytes(b"other bytes")
    after = taken(settings, tmp_path).endpoints["iris"].baseline.model
    assert after.digest != before.digest
    assert after.version != before.version


def test_a_fake_is_pinned_to_its_options(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    assert taken(settings, tmp_path).endpoints["churn"].baseline.model.digest
    other = Settings(endpoints={"churn": EndpointSettings(model="fake:", options={"bias": 2})})
    assert taken(other, tmp_path).endpoints["churn"] != taken(settings, tmp_path).endpoints["churn"]


def test_a_digest_that_was_declared_is_kept_for_the_loader_to_check(tmp_path: Path) -> None:
    settings_of(tmp_path)
    pinned = Settings(endpoints={"iris": EndpointSettings(model="model.onnx", digest="sha256:abc", version="7")})
    model = taken(pinned, tmp_path).endpoints["iris"].baseline.model
    assert (model.digest, model.version) == ("sha256:abc", "7")


def test_what_is_unloaded_is_left_out(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    assert list(taken(settings, tmp_path, unloaded={"iris"}).endpoints) == ["churn"]


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    settings = Settings(endpoints={"iris": EndpointSettings(model="missing.onnx")})
    with pytest.raises(ModelError, match=r"missing\.onnx"):
        taken(settings, tmp_path)


def test_an_unknown_endpoint_is_refused_with_the_known(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    known_endpoint(settings, "iris")
    with pytest.raises(NotFound, match="it has: churn, iris"):
        known_endpoint(settings, "x" * 500)


def test_every_local_model_file_is_watched(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, canary=VariantSettings(model="folder"))
    folder = tmp_path / "folder"
    (folder / "__pycache__").mkdir(parents=True)
    (folder / "code.py").write_text("x")
    (folder / "__pycache__" / "code.pyc").write_text("x")
    seen = watched_files(settings, tmp_path)
    assert set(seen) == {tmp_path / "model.onnx", folder / "code.py"}
    (folder / "code.py").write_text("longer")
    assert watched_files(settings, tmp_path) != seen


def test_paths_typed_on_the_command_line_are_trusted_too(tmp_path: Path) -> None:
    settings = Settings(trust=Trust(pickles=("a",)))
    assert with_trust(settings, [tmp_path]).trust.pickles == ("a", str(tmp_path))
    assert settings.trust.pickles == ("a",)
