"""The registry of files: the contract, and what only it can promise."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.control.registry.contract import RegistryContract
from tidegate import settings
from tidegate.clock import ManualClock
from tidegate.control.registry.base import Registry, open_registry
from tidegate.control.registry.files import FilesRegistry
from tidegate.errors import ConfigError, DigestMismatch, InvalidInput, ModelError, NotFound, UserError
from tidegate.registry_files import alias_file, check_alias, check_name, fingerprint, parse_uri
from tidegate.settings import Trust
from tidegate.testing.models import write_affine_onnx


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run" / "registry"


@pytest.fixture
def registry(folder: Path) -> Registry:
    return FilesRegistry(folder)


class TestFilesRegistry(RegistryContract):
    pass


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_affine_onnx(tmp_path / "affine.onnx")


def test_a_version_is_a_copy(registry: Registry, model: Path) -> None:
    made = registry.register("iris", model, metadata={})
    assert made.digest == fingerprint(model)[0] == fingerprint(Path(made.uri))[0]
    assert Path(made.uri).name == "affine.onnx"
    model.write_bytes(b"other bytes")
    assert registry.ref("models:/iris/1").digest == made.digest


def test_a_folder_is_copied_as_far_as_its_digest_reaches(registry: Registry, tmp_path: Path) -> None:
    source = tmp_path / "model"
    for name in ("model.py", "data/weights.bin", "__pycache__/model.pyc", ".git/config"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    (tmp_path / "outside").write_text("x")
    (source / "link").symlink_to(tmp_path / "outside")
    made = registry.register("iris", source, metadata={})
    copied = sorted(path.relative_to(made.uri).as_posix() for path in Path(made.uri).rglob("*") if path.is_file())
    assert copied == ["data/weights.bin", "model.py"]
    assert made.digest == fingerprint(source)[0]


def test_changed_bytes_are_noticed(registry: Registry, model: Path) -> None:
    made = registry.register("iris", model, metadata={}, aliases=("champion",))
    Path(made.uri).write_bytes(b"somebody else's")
    with pytest.raises(DigestMismatch, match=r"models:/iris@champion: the bytes are sha256:"):
        registry.ref("models:/iris@champion")
    Path(made.uri).unlink()
    with pytest.raises(ModelError, match="gone from the registry"):
        registry.ref("models:/iris/1")


def test_a_damaged_record_hides_no_other_version(
    registry: Registry, folder: Path, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    registry.register("iris", model, metadata={})
    registry.register("iris", model, metadata={})
    (folder / "iris" / "2" / "version.json").write_text('{"name": "iris"')
    assert [version.version for version in registry.versions("iris")] == ["1"]
    assert "models:/iris/2" in caplog.text
    with pytest.raises(ModelError, match=r"version\.json cannot be read"):
        registry.get("iris", "2")
    assert registry.register("iris", model, metadata={}).version == "3"


def test_what_a_killed_process_left_is_never_listed_and_goes_after_a_day(folder: Path, model: Path) -> None:
    clock = ManualClock(model.stat().st_mtime)
    registry = FilesRegistry(folder, clock=clock)
    left = folder / "iris" / ".new-123-abc" / "model"
    left.mkdir(parents=True)
    (folder / "iris" / "4").mkdir()  # a folder without a record is no version either
    with pytest.raises(NotFound):
        registry.get("iris", "latest")
    registry.register("iris", model, metadata={})
    assert [version.version for version in registry.versions("iris")] == ["5"]
    assert left.exists()
    clock.advance(2 * 86_400)
    registry.register("iris", model, metadata={})
    assert not left.parent.exists()


KILLED = """
import os, sys
from pathlib import Path
from tidegate.control.registry.files import FilesRegistry

left = 0

def count(event, arguments):
    global left
    if event in ("open", "os.rename", "os.mkdir", "os.remove") and "registry" in str(arguments[0]):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), 9)

for line in sys.stdin:
    child = os.fork()
    if not child:
        registry = FilesRegistry(Path(sys.argv[1]))
        left = int(line)
        sys.addaudithook(count)
        registry.register("iris", Path(sys.argv[2]), metadata={}, aliases=("champion",))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_killed_at_any_step_it_leaves_whole_versions_only(folder: Path, model: Path) -> None:
    """Every file operation in turn is the last one of a process; the alias stays, or moves to a whole version."""
    registry = FilesRegistry(folder)
    registry.register("iris", model, metadata={}, aliases=("champion",))
    command = [sys.executable, "-c", KILLED, str(folder), str(model)]
    killed = 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for steps in range(200):
            before = len(registry.versions("iris"))
            process.stdin.write(f"{steps}\n")
            code = int(process.stdout.readline())
            found = registry.versions("iris")
            assert len(found) in (before, before + 1)
            assert [int(version.version) for version in found] == list(range(len(found), 0, -1))
            for version in found:
                assert registry.ref(f"models:/iris/{version.version}").digest == fingerprint(model)[0]
            assert registry.get("iris", "champion").version in (found[0].version, "1")
            if code == 0:
                break
            assert code == -9
            killed += 1
        process.stdin.close()
    assert killed > 10
    assert registry.get("iris", "champion") == registry.versions("iris")[0]
    assert len(list((folder / "iris").glob(".new-*"))) > 1


REMOVED = """
import sys
from pathlib import Path
from tidegate.control.registry.files import FilesRegistry

registry, done = FilesRegistry(Path(sys.argv[1])), []
sys.addaudithook(lambda event, given: done.append((event, Path(str(given[0])).name)) if event in ("os.remove", "open") else None)
registry.set_alias("iris", "champion", None)
print(done == [("os.remove", "champion"), ("open", "aliases")], done)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="folders are not synced")
def test_a_removed_alias_is_gone_for_good(folder: Path, model: Path) -> None:
    """Its folder is opened after it, to be synced: else the alias could be back after a loss of power."""
    FilesRegistry(folder).register("iris", model, metadata={}, aliases=("champion",))
    command = [sys.executable, "-c", REMOVED, str(folder)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.startswith("True"), said


def test_many_at_once_get_a_number_each(folder: Path, model: Path) -> None:
    made: list[str] = []

    def register() -> None:
        registry = FilesRegistry(folder)
        made.extend(registry.register("iris", model, metadata={}).version for _ in range(4))

    threads = [threading.Thread(target=register) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made, key=int) == [str(number) for number in range(1, 25)]
    assert len(FilesRegistry(folder).versions("iris")) == 24


def test_names_that_differ_in_case_only_are_refused(registry: Registry, model: Path) -> None:
    registry.register("iris", model, metadata={})
    with pytest.raises(InvalidInput, match="differs only in upper and lower case"):
        registry.register("Iris", model, metadata={})


def test_older_stages_mean_aliases_here(registry: Registry, model: Path) -> None:
    registry.register("iris", model, metadata={}, aliases=("champion",))
    assert registry.ref("models:/iris/Production").version == "1"
    with pytest.raises(ModelError, match="alias challenger here, where there are no stages"):
        registry.ref("models:/iris/Staging")


def test_the_registry_does_not_swallow_itself(registry: Registry, folder: Path, model: Path) -> None:
    registry.register("iris", model, metadata={})
    with pytest.raises(ModelError, match="the registry itself lies in this folder"):
        registry.register("iris", folder.parent, metadata={})


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, model: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot be written"):
        FilesRegistry(tmp_path / "file").register("iris", model, metadata={})
    assert FilesRegistry(tmp_path / "file").versions("") == []


def test_metadata_is_bounded(registry: Registry, model: Path) -> None:
    for wrong in ({str(number): "x" for number in range(65)}, {"": "x"}, {"k": "x" * 5001}):
        with pytest.raises(InvalidInput, match="metadata"):
            registry.register("iris", model, metadata=wrong)


@given(st.text(max_size=120))
def test_a_name_that_is_taken_stays_in_the_folder(name: str) -> None:
    try:
        check_name(name)
    except InvalidInput:
        return
    home = Path("/registry")
    assert (home / name).parent == home
    assert Path(name).name == name
    assert name.isascii()


@given(st.text(max_size=80), st.text(max_size=80))
def test_an_alias_that_is_taken_stays_in_its_folder(name: str, alias: str) -> None:
    try:
        file = alias_file(Path("/registry"), check_name(name), check_alias(alias))
    except InvalidInput:
        return
    assert file.parent == Path("/registry") / name / "aliases"


@given(st.text(max_size=60).map(lambda text: f"models:/{text}"))
def test_a_uri_is_parsed_or_refused(uri: str) -> None:
    try:
        name, which, _ = parse_uri(uri)
    except ModelError:
        return
    assert name
    assert which
    assert not {"/", "@"} & set(name + which)


@pytest.mark.parametrize("uri", ["", "http://127.0.0.1:5000", "sqlite:///mlflow.db"])
def test_the_settings_choose(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.setenv(name, "")  # so that it is put back
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    opened = open_registry(settings.Registry(uri=uri), Trust(), base=tmp_path)
    assert isinstance(opened, FilesRegistry) == (not uri)
    if isinstance(opened, FilesRegistry):
        assert opened.folder == (tmp_path / "run" / "registry").resolve()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ConfigError, match=r"registry\.uri in tidegate\.yaml or MLFLOW_TRACKING_URI"):
        open_registry(settings.Registry(kind="mlflow"), Trust(), base=tmp_path)
    assert list(tmp_path.iterdir()) == []
