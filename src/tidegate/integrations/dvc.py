"""DVC: fetch the rows that a repository names before work on them starts, keep new ones, and name the version of a file.

DVC runs in this process, where its analytics and its look for newer releases do not: those belong to its command line.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from tidegate.errors import MissingExtra, Refused, UserError

logger = logging.getLogger("tidegate.integrations")

GIT_SECONDS = 20.0
BLOCK = 1 << 20
LONGEST_YAML = 16 << 20


class RemoteAway(Refused):
    """The remote cannot be reached, or does not have the rows; a job is tried again."""

    reason = "remote_away"


class Task(Protocol):
    """What a handler needs of a job."""

    @property
    def payload(self) -> Mapping[str, Any]: ...
    @property
    def base(self) -> Path: ...
    def progress(self, done: int = 0, total: int = 0, text: str = "") -> None: ...


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of both jobs. ``targets`` are files or folders of the repository, all that DVC tracks if empty.
    ``commit``: message under which a push commits the new versions to Git; nothing is committed if empty."""

    folder: str = "."
    targets: tuple[str, ...] = ()
    remote: str = ""
    commit: str = ""


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """``files`` went over the line; ``versions`` are those that the targets have now."""

    files: int
    versions: Mapping[str, str] = {}
    revision: str = ""
    """Commit of Git, where there is one."""


def run_pull(task: Task) -> Mapping[str, Any]:
    """The job of kind ``dvc-pull``."""
    wanted, folder = _wanted(task)
    task.progress(text=f"pulling into {folder.name}")
    return msgspec.to_builtins(pull(folder, wanted.targets, wanted.remote))  # type: ignore[no-any-return]


def run_push(task: Task) -> Mapping[str, Any]:
    """The job of kind ``dvc-push``."""
    wanted, folder = _wanted(task)
    task.progress(text=f"pushing from {folder.name}")
    moved = push(folder, wanted.targets, wanted.remote, wanted.commit)
    return msgspec.to_builtins(moved)  # type: ignore[no-any-return]


def status(folder: Path) -> Mapping[str, Any]:
    """What differs between the files, what is recorded, and the remote: DVC's own words, by stage. Empty: nothing."""
    with _repository(folder) as repo:
        _remote(repo, "")
        return {"files": repo.status() or {}, "remote": repo.status(cloud=True) or {}}


def pull(folder: Path, targets: Sequence[str] = (), remote: str = "") -> Moved:
    """Raises UserError for what another try cannot mend, RemoteAway for what it may, MissingExtra."""
    with _repository(folder) as repo:
        _remote(repo, remote)
        counted = repo.pull(targets=_below(folder, targets) or None, remote=remote or None)
        return _moved(folder, repo, int(counted["stats"].get("fetched", 0)), targets)


def push(folder: Path, targets: Sequence[str] = (), remote: str = "", commit: str = "") -> Moved:
    """Records the files as they are now, and sends what is new; safe to repeat. Raises as ``pull``."""
    with _repository(folder) as repo:
        _remote(repo, remote)
        outs = {str(Path(out.fs_path)): out for out in repo.index.outs}
        names = _below(folder, targets) or sorted(outs)
        if not names:
            raise UserError(f"{folder.name}: DVC tracks no file yet; name targets")
        for name in names:
            if name not in outs:
                _check_new(Path(name), folder)
        # What a pipeline makes is recorded by "dvc repro", in its lock.
        stages = repo.add([name for name in names if name not in outs or outs[name].stage.is_data_source])
        files = int(repo.push(remote=remote or None))
        if commit:
            locks = [Path(outs[name].stage.path).with_name("dvc.lock") for name in names if name in outs]
            _commit(repo, [*(Path(stage.path) for stage in stages), *locks], commit)
        return _moved(folder, repo, files, names)


def data_version(path: Path | str) -> str:
    """``md5:…`` of a file or a folder that DVC tracks, and ``@`` the commit that its repository is at. A file that is not
    as DVC recorded it has the digest of what it holds, and ``+changed``. Raises UserError. Needs no DVC."""
    found = Path(path).resolve()
    root = next((parent for parent in found.parents if (parent / ".dvc").is_dir()), None)
    if root is None:
        raise UserError(f"{found.name} is in no DVC repository")
    out = _recorded(root, found)
    if out is None:
        raise UserError(f"{found.relative_to(root)} is not tracked by DVC; tidegate cannot name its version")
    version = f"md5:{out['md5']}"
    if found.is_file():
        digest = _md5(found)
        if digest != out["md5"]:
            version = f"md5:{digest}+changed"
    revision = _revision(root)
    return f"{version}@{revision}" if revision else version


def _check_new(path: Path, folder: Path) -> None:
    """What is asked for from afar must not send keys to the remote. Raises UserError."""
    name = path.relative_to(folder.resolve())
    hidden = any(part.startswith(".") for part in name.parts)
    if hidden or any(_is_secret(one) for one in (path, *path.rglob("*"))):
        raise UserError(f"{name} may be a secret: only its owner may read it; if it is none, once: dvc add {name}")


def _is_secret(path: Path) -> bool:
    try:
        return path.is_symlink() or not path.stat().st_mode & 0o077
    except FileNotFoundError:
        return False  # DVC says so in its own words


def _below(folder: Path, targets: Sequence[str]) -> list[str]:
    """DVC takes paths from where the process is, not from where the repository is."""
    return [str(folder.resolve() / name) for name in targets]


@contextlib.contextmanager
def _repository(folder: Path) -> Iterator[Any]:
    """Opened anew each time: it remembers what it saw of cache and remote. What it prints goes nowhere."""
    try:
        from dvc.exceptions import CheckoutError, DvcException, FileTransferError
        from dvc.lock import LockError
        from dvc.repo import Repo
    except ImportError as error:
        raise MissingExtra("dvc", "data that DVC tracks") from error
    from scmrepo.exceptions import SCMError

    with contextlib.redirect_stdout(io.StringIO()):
        try:
            with Repo(str(folder)) as repo:
                yield repo
        except LockError as error:
            raise RemoteAway(f"{folder.name}: another DVC works in it: {_line(error)}", 10.0) from error
        except (CheckoutError, FileTransferError, OSError) as error:
            why = f"{folder.name}: {_line(error)}; the remote is away, or does not have it"
            raise RemoteAway(why, 10.0) from error
        except (DvcException, SCMError) as error:
            raise UserError(f"{folder.name}: {_line(error)}") from error


def _remote(repo: Any, name: str) -> None:
    """Before anything is moved: DVC would make a folder that is away, such as one that is not mounted, anew and empty."""
    from dvc.config import NoRemoteError, RemoteNotFoundError

    try:
        remote = repo.cloud.get_remote(name or None)
    except (NoRemoteError, RemoteNotFoundError) as error:
        raise UserError(f"DVC: {_line(error)}; add one: dvc remote add --default NAME URL") from error
    if remote.fs.protocol == "local" and not Path(remote.path).is_dir():
        raise RemoteAway(f"the remote {remote.name} is a folder that is not there; is it mounted?", 10.0)


def _moved(folder: Path, repo: Any, files: int, targets: Sequence[str]) -> Moved:
    tracked = {str(Path(out.fs_path).relative_to(repo.root_dir)): out.hash_info for out in repo.index.outs}
    wanted = {str((folder / name).resolve().relative_to(Path(repo.root_dir).resolve())) for name in targets}
    versions = {
        name: f"md5:{found.value}"
        for name, found in tracked.items()
        if found is not None and found.value and (not wanted or name in wanted)
    }
    return Moved(files=files, versions=versions, revision=_revision(Path(repo.root_dir)))


def _commit(repo: Any, paths: Sequence[Path], message: str) -> None:
    """Only the files that name the versions."""
    root = Path(repo.root_dir)
    if not _git(root, "rev-parse", "--git-dir"):
        raise UserError(f"{root.name}: commit is for a repository of Git; leave it out")
    wanted = sorted({*paths, *(path.parent / ".gitignore" for path in paths)})
    there = [str(path.relative_to(root)) for path in wanted if path.exists()]
    _git(root, "add", "--", *there, must=True)
    if _git(root, "diff", "--cached", "--name-only", "--", *there):
        _git(root, "commit", "--quiet", "--message", message, "--", *there, must=True)


def _revision(root: Path) -> str:
    return _git(root, "rev-parse", "HEAD")[:12]


def _git(root: Path, *arguments: str, must: bool = False) -> str:
    """Its output; empty where there is no Git, or, unless it must, where it fails."""
    git = shutil.which("git")
    if git is None:
        return ""
    command = [git, "-C", str(root), *arguments]
    done = subprocess.run(  # noqa: S603 - no shell, and nobody's words before the "--"
        command, capture_output=True, text=True, timeout=GIT_SECONDS, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode and must:
        raise UserError(f"git {arguments[0]}: {' '.join(done.stderr.split())[:300]}")
    return done.stdout.strip() if not done.returncode else ""


def _recorded(root: Path, path: Path) -> Mapping[str, Any] | None:
    """What a ``.dvc`` file beside it, or the lock of a pipeline above it, says of it."""
    beside = path.with_name(path.name + ".dvc")
    for out in _outs(_yaml(beside)):
        if beside.parent / str(out.get("path")) == path and out.get("md5"):
            return out
    for folder in (path.parent, *path.parents):
        for stage in (_yaml(folder / "dvc.lock").get("stages") or {}).values():
            for out in _outs(stage):
                if (folder / str(out.get("path"))).resolve() == path and out.get("md5"):
                    return out
        if folder == root:
            return None
    return None


def _outs(document: Any) -> list[Mapping[str, Any]]:
    outs = document.get("outs") if isinstance(document, dict) else None
    return [one for one in outs if isinstance(one, dict)] if isinstance(outs, list) else []


def _yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        if path.stat().st_size > LONGEST_YAML:
            raise UserError(f"{path.name}: larger than {LONGEST_YAML >> 20} MiB")
        found = yaml.safe_load(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path.name}: cannot be read: {_line(error)}") from error
    return found if isinstance(found, dict) else {}


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _wanted(task: Task) -> tuple[Wanted, Path]:
    try:
        wanted = msgspec.convert(task.payload, Wanted)
    except msgspec.ValidationError as error:
        raise UserError(f"the payload of a DVC job: {error}") from error
    folder = (task.base / wanted.folder).resolve()
    if not folder.is_dir():
        raise UserError(f"{wanted.folder}: no such folder")
    outside = [name for name in wanted.targets if not (folder / name).resolve().is_relative_to(folder)]
    if outside or any(name.startswith("-") for name in (*wanted.targets, wanted.remote)):
        raise UserError(f"targets are files below the folder, not {(outside or list(wanted.targets))[0][:80]!r}")
    return wanted, folder


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text.replace("<https://error.dvc.org/missing-files>", "").strip()[:300]
