"""What every registry promises: the same test for the one in memory, the one of files, and a real MLflow server."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from tidegate.control.registry.base import Registry
from tidegate.errors import InvalidInput, ModelError, NotFound, TooLarge
from tidegate.testing.models import write_affine_onnx
from tidegate.types import Signature, TensorSpec

SIGNATURE = Signature(inputs=(TensorSpec("x", "FP32", (-1, 3)),), outputs=(TensorSpec("y", "FP32", (-1, 3)),))


class RegistryContract:
    """``registry`` is the fixture that a subclass's module gives. Names are new in each test: servers are shared."""

    @pytest.fixture
    def name(self) -> str:
        return f"iris-{uuid.uuid4().hex[:8]}"

    @pytest.fixture
    def model(self, tmp_path: Path) -> Path:
        return write_affine_onnx(tmp_path / "affine.onnx")

    def test_versions_are_numbered_and_listed_newest_first(self, registry: Registry, name: str, model: Path) -> None:
        first = registry.register(name, model, metadata={"accuracy": "0.93"}, signature=SIGNATURE)
        second = registry.register(name, write_affine_onnx(model, scale=3.0), metadata={"run_id": ""})
        assert (first.name, first.version, second.version) == (name, "1", "2")
        there = registry.versions(name)
        assert [version.version for version in there] == ["2", "1"]
        assert there[1] == registry.get(name, "1")
        assert there[1].metadata["accuracy"] == "0.93"
        assert there[1].signature == SIGNATURE
        assert there[0].created >= there[1].created > 0
        assert there[0].digest != there[1].digest
        assert there[1].digest.startswith("sha256:")
        newest = {version.name: version.version for version in registry.versions("")}
        assert newest[name] == "2"

    def test_an_alias_moves_and_goes(self, registry: Registry, name: str, model: Path) -> None:
        registry.register(name, model, metadata={}, aliases=("champion",))
        registry.register(name, model, metadata={}, aliases=("challenger",))
        assert registry.get(name, "champion").version == "1"
        assert registry.get(name, "challenger").aliases == ("challenger",)
        for _ in range(2):  # twice is the same as once
            registry.set_alias(name, "champion", "2")
            assert registry.get(name, "champion").version == "2"
            assert registry.get(name, "2").aliases == ("challenger", "champion")
            assert registry.get(name, "1").aliases == ()
        for _ in range(2):
            registry.set_alias(name, "challenger", None)
            with pytest.raises(NotFound, match="challenger"):
                registry.get(name, "challenger")
        assert registry.get(name, "latest").version == "2"

    def test_an_alias_points_only_to_what_is_there(self, registry: Registry, name: str, model: Path) -> None:
        registry.register(name, model, metadata={}, aliases=("champion",))
        with pytest.raises(NotFound):
            registry.set_alias(name, "champion", "7")
        for wrong in ("champion", "-1", "1.0", "0x1", ""):
            with pytest.raises((InvalidInput, NotFound)):
                registry.set_alias(name, "champion", wrong)
        assert registry.get(name, "champion").version == "1"

    def test_what_is_not_there_is_not_found(self, registry: Registry, name: str, model: Path) -> None:
        with pytest.raises(NotFound, match=name):
            registry.versions(name)
        with pytest.raises(NotFound, match=name):
            registry.get(name, "1")
        registry.register(name, model, metadata={})
        for wanted in ("2", "champion", "Production", "0"):
            with pytest.raises(NotFound):
                registry.get(name, wanted)
        for uri in (
            f"models:/{name}@champion",
            f"models:/{name}/9",
            f"models:/{name}/Production",
            "models:/nobody-has/1",
        ):
            with pytest.raises(ModelError, match="models:/"):
                registry.ref(uri)

    def test_a_reference_is_pinned(self, registry: Registry, name: str, model: Path) -> None:
        made = registry.register(name, model, metadata={}, aliases=("champion",))
        by_alias, by_number = registry.ref(f"models:/{name}@champion"), registry.ref(f"models:/{name}/1")
        assert by_alias == by_number
        assert (by_alias.name, by_alias.version, by_alias.digest) == (name, "1", made.digest)
        assert by_alias.uri == made.uri
        registry.set_alias(name, "champion", registry.register(name, model, metadata={}).version)
        assert registry.ref(f"models:/{name}@champion").version == "2"
        path = registry.ref(str(model))
        assert (path.uri, path.name) == (str(model), "")
        assert path.digest.startswith("sha256:")

    @pytest.mark.parametrize("uri", ["models:/", "models:/a/b/c", "models:/../x/1", "models:/a@", "models:/a/.."])
    def test_a_wrong_uri_is_told_how_to_be_written(self, registry: Registry, uri: str) -> None:
        with pytest.raises(ModelError, match="models:/"):
            registry.ref(uri)

    @pytest.mark.parametrize("bad", ["", "../iris", "a/b", "/etc", "a:b", ".", "..", "a\0b", "a\nb", "x" * 300])
    def test_names_that_could_mean_a_place_are_refused(self, registry: Registry, bad: str, model: Path) -> None:
        with pytest.raises(InvalidInput):
            registry.register(bad, model, metadata={})
        with pytest.raises(InvalidInput):
            registry.get(bad, "1")
        with pytest.raises(InvalidInput):
            registry.set_alias(bad, "champion", "1")

    @pytest.mark.parametrize("bad", ["", "3", "v3", "latest", "a/b", "../x", "a b", "x" * 300])
    def test_aliases_with_another_meaning_are_refused(
        self, registry: Registry, name: str, bad: str, model: Path
    ) -> None:
        with pytest.raises(InvalidInput):
            registry.register(name, model, metadata={}, aliases=(bad,))
        with pytest.raises(NotFound):
            registry.versions(name)
        with pytest.raises(InvalidInput):
            registry.set_alias(name, bad, None)

    def test_a_model_that_is_not_there_leaves_no_version(self, registry: Registry, name: str, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="no such file"):
            registry.register(name, tmp_path / "missing.onnx", metadata={})
        with pytest.raises(NotFound):
            registry.versions(name)

    def test_the_reference_profile_is_kept(self, registry: Registry, name: str, model: Path, tmp_path: Path) -> None:
        profile = tmp_path / "reference.json"
        profile.write_text("{}")
        assert registry.register(name, model, metadata={}, profile=profile).profile
        elsewhere = registry.register(name, model, metadata={}, profile="s3://bucket/profile.json")
        assert elsewhere.profile == registry.get(name, "2").profile == "s3://bucket/profile.json"

    def test_the_reference_profile_is_read(self, registry: Registry, name: str, model: Path, tmp_path: Path) -> None:
        profile = tmp_path / "reference.json"
        profile.write_text('{"rows": 7}')
        made = registry.register(name, model, metadata={}, profile=profile)
        assert registry.profile(registry.get(name, made.version), 100) == b'{"rows": 7}'
        with pytest.raises(TooLarge):
            registry.profile(made, 10)
        with pytest.raises(NotFound, match="baseline create"):
            registry.profile(registry.register(name, model, metadata={}), 100)
        elsewhere = registry.register(name, model, metadata={}, profile="s3://bucket/profile.json")
        with pytest.raises(ModelError):
            registry.profile(elsewhere, 100)
