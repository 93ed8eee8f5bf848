"""References, trust, digests, and formats told by their content."""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from tidegate.errors import ContractError, DigestMismatch, ModelError, UntrustedModel
from tidegate.serving.runtimes.base import LoadedModel
from tidegate.serving.runtimes.detect import detect
from tidegate.serving.runtimes.load import load_model
from tidegate.serving.runtimes.sources import fingerprint
from tidegate.settings import Trust
from tidegate.testing import models
from tidegate.types import ModelRef


def load(uri: Path | str, trust: Trust | None = None, **fields: Any) -> LoadedModel:
    return load_model(ModelRef(uri=str(uri), **fields), trust or Trust())


def marker_pickle(path: Path, marker: Path) -> Path:
    """A pickle that writes a file when it is opened."""

    class Evil:
        def __reduce__(self) -> Any:
            return Path.write_text, (marker, "ran")

    path.write_bytes(pickle.dumps(Evil()))
    return path


def test_pickle_from_an_untrusted_place_never_runs(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    path = marker_pickle(tmp_path / "model.joblib", marker)
    with pytest.raises(UntrustedModel) as caught:
        load(path)
    assert not marker.exists()
    assert "trust.pickles" in str(caught.value)
    assert str(path.resolve()) in str(caught.value)


@pytest.mark.parametrize("name", ["model.onnx", "model.json", "model"])
def test_pickle_under_another_name_is_still_a_pickle(tmp_path: Path, name: str) -> None:
    marker = tmp_path / "marker"
    with pytest.raises(UntrustedModel):
        load(marker_pickle(tmp_path / name, marker))
    assert not marker.exists()


def test_python_folder_needs_trust(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    folder = models.write_python_model(tmp_path / "m", f"open({str(marker)!r}, 'w')")
    with pytest.raises(UntrustedModel, match=r"model\.py can run any code"):
        load(folder)
    assert not marker.exists()


def test_link_out_of_a_trusted_folder_is_not_trusted(tmp_path: Path) -> None:
    trusted, outside = tmp_path / "trusted", tmp_path / "outside"
    trusted.mkdir()
    outside.mkdir()
    marker = tmp_path / "marker"
    target = marker_pickle(outside / "model.joblib", marker)
    (trusted / "model.joblib").symlink_to(target)
    trust = Trust(pickles=(str(trusted),))
    for path in (trusted / "model.joblib", trusted / ".." / "outside" / "model.joblib"):
        with pytest.raises(UntrustedModel):
            load(path, trust)
    assert not marker.exists()


def test_sibling_with_the_same_beginning_is_not_trusted(tmp_path: Path) -> None:
    folder = models.write_python_model(tmp_path / "models-evil")
    with pytest.raises(UntrustedModel):
        load(folder, Trust(pickles=(str(tmp_path / "models"),)))


def test_trusted_folder_covers_what_is_below(tmp_path: Path) -> None:
    folder = models.write_python_model(tmp_path / "a" / "b")
    assert load(folder, Trust(pickles=(str(tmp_path),))).facts.runtime == "python"
    assert load(folder, Trust(pickles=(f"file://{tmp_path}",))).facts.runtime == "python"


def test_schemes(tmp_path: Path) -> None:
    path = models.write_affine_onnx(tmp_path / "a b.onnx")
    assert load(f"file://{str(path).replace(' ', '%20')}").facts.runtime == "onnx"
    with pytest.raises(ModelError, match="names no host"):
        load(f"file://elsewhere{path}")
    with pytest.raises(ModelError, match=r"http: is not listed in trust\.schemes"):
        load("http://169.254.169.254/latest/meta-data")
    with pytest.raises(ModelError, match="file: is not listed"):
        load(f"file://{path}", Trust(schemes=("models",)))
    with pytest.raises(ModelError, match="nothing reads s3:"):
        load("s3://bucket/model", Trust(schemes=("s3",)))
    for uri in ("", "a\0b"):
        with pytest.raises(ModelError, match="needs a path"):
            load(uri)
    with pytest.raises(ModelError, match="no such file"):
        load(tmp_path / "nothing.onnx")
    for uri in ("models:/", "models:/a/b/c", "models:iris@champion", "runs:/x/../y"):
        with pytest.raises(ModelError):
            load(uri)


def test_digest_of_a_file_is_what_sha256sum_prints(tmp_path: Path) -> None:
    path = models.write_affine_onnx(tmp_path / "a.onnx")
    plain = hashlib.sha256(path.read_bytes()).hexdigest()
    assert load(path, digest=f"sha256:{plain}").facts.digest == f"sha256:{plain}"
    assert load(path, digest=plain.upper()).facts.digest == f"sha256:{plain}"
    path.write_bytes(path.read_bytes() + b"\x00")
    with pytest.raises(DigestMismatch, match="pinned is"):
        load(path, digest=f"sha256:{plain}")


def test_digest_is_checked_before_a_pickle_runs(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    path = marker_pickle(tmp_path / "m.joblib", marker)
    with pytest.raises(DigestMismatch):
        load(path, Trust(pickles=(str(tmp_path),)), digest="sha256:00")
    assert not marker.exists()


def test_digest_of_a_folder_sees_names_bytes_and_borders(tmp_path: Path) -> None:
    def digest(files: dict[str, str]) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        return fingerprint(folder)[0]

    base = digest({"a": "1", "b/c": "2"})
    assert base == digest({"b/c": "2", "a": "1"})
    assert base == digest({"a": "1", "b/c": "2", "__pycache__/x.pyc": "z", ".git/config": "y"})
    others = [digest({"a": "1", "b/d": "2"}), digest({"a": "1", "b/c": "3"}), digest({"a": "12", "b/c": ""})]
    assert len({base, *others}) == 4


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"hello, world", "not a model that Tidegate knows"),
        (b"\x89HDF\r\n\x1a\n" + bytes(20), "Keras"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"PK\x03\x04" + bytes(40), "damaged zip"),
        (gzip.compress(b"hello", mtime=0), "not a model"),
        (b"x" + bytes(30), "not a model"),
    ],
)
def test_other_content_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=says):
        load(path, Trust(pickles=(str(tmp_path),)))


@pytest.mark.parametrize("compress", [0, ("zlib", 3), ("gzip", 3), ("bz2", 3), ("xz", 3)])
def test_compressed_joblib_is_a_pickle(tmp_path: Path, compress: Any) -> None:
    import joblib

    path = tmp_path / "model"
    joblib.dump({"a": list(range(100))}, path, compress=compress)
    assert detect(path, "model") == ("pickle", path)


def test_pickle_of_something_else_has_no_predict(tmp_path: Path) -> None:
    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps([1, 2, 3]))
    with pytest.raises(ContractError, match="holds a list, which has no predict"):
        load(path, Trust(pickles=(str(path),)))


def test_folder_without_a_model_and_with_two(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no MLmodel, no model\.py"):
        load(tmp_path)
    models.write_affine_onnx(tmp_path / "a.onnx")
    models.write_affine_onnx(tmp_path / "b.onnx")
    with pytest.raises(ModelError, match=r"several ONNX files \(a\.onnx, b\.onnx\)"):
        load(tmp_path)


def test_named_runtime_must_read_the_content(tmp_path: Path) -> None:
    path = models.write_affine_onnx(tmp_path / "a.onnx")
    assert load(path, runtime="onnx").facts.runtime == "onnx"
    with pytest.raises(ModelError, match="by its content it is onnx"):
        load(path, runtime="sklearn")
    with pytest.raises(ModelError, match="no runtime 'tensorrt'"):
        load(path, runtime="tensorrt")


def test_example_that_fails_is_a_clear_refusal(tmp_path: Path) -> None:
    """kserve/kserve#2882: a model that cannot answer its example is not ready, and says so when it loads."""
    path = models.write_affine_onnx(tmp_path / "a.onnx")
    with pytest.raises(ContractError, match="example"):
        load(path, options={"example": {"x": [1.0, 2.0]}})
    with pytest.raises(ContractError, match="no value for input 'x'"):
        load(path, options={"example": {"y": [1.0, 2.0, 3.0]}})


def test_unreadable_file_is_a_model_error(tmp_path: Path) -> None:
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    with pytest.raises(ModelError, match="neither a file nor a folder"):
        load(fifo)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    # Root may read everything; a name that is too long fails for everybody.
    with pytest.raises(ModelError, match=r"xxx: cannot be read: File name too long"):
        fingerprint(tmp_path / ("x" * 300))


def test_a_folder_with_one_file_is_that_file(tmp_path: Path) -> None:
    """A registry keeps a file in a folder of its own; MLflow adds a note beside what it fetched."""
    folder = tmp_path / "fetched"
    folder.mkdir()
    file = models.write_joblib(models.iris_forest(2), folder / "forest.joblib")
    (folder / "registered_model_meta").write_text("model_name: iris")
    assert detect(folder, "here") == ("pickle", file)
    (folder / "notes.txt").write_text("x")
    with pytest.raises(ModelError, match="not just one model file"):
        detect(folder, "here")
