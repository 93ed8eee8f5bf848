"""MLflow's registry, through its own client: versions, aliases, the older stages, tags, files.

A version's ``metadata`` are its tags. What MLflow has no place for is kept in tags that begin with ``tidegate.``: the
digest of the files, the signature of models that have no MLmodel file, and where the reference profile is.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tidegate import settings
from tidegate.control.registry.base import ModelDenied, ModelVersion, RegistryAway
from tidegate.control.registry.files import check_metadata, copy_model
from tidegate.control.registry.refs import SHOWN_DIGITS, local_path, profile_of, read_bounded, unregistered
from tidegate.errors import (
    ConfigError,
    InvalidInput,
    MissingExtra,
    ModelError,
    NotFound,
    RequestError,
    TidegateError,
    TooLarge,
)
from tidegate.mlmodel import stored_signature
from tidegate.registry_files import LATEST, fingerprint, parse_uri, scheme_of, tell_mlflow
from tidegate.settings import Trust
from tidegate.types import ModelRef, Signature

EXPERIMENT = "tidegate"
"""Where the runs go that hold what was registered from a path."""
STAGES = ("Production", "Staging", "Archived")
_DIGEST, _SIGNATURE, _PROFILE = "tidegate.digest", "tidegate.signature", "tidegate.profile"
_LONGEST_TAG = 5000
_ARTIFACTS = ("runs", "models", "mlflow-artifacts")
_Key = tuple[str, str, float]
"""Name, number and time of creation: a model that is deleted and made again begins at version 1 again."""

ERRORS: Mapping[str, type[TidegateError]] = {
    "RESOURCE_DOES_NOT_EXIST": NotFound,
    "NOT_FOUND": NotFound,
    "ENDPOINT_NOT_FOUND": ConfigError,
    "INVALID_PARAMETER_VALUE": InvalidInput,
    "BAD_REQUEST": InvalidInput,
    "RESOURCE_ALREADY_EXISTS": InvalidInput,
    "INVALID_STATE": InvalidInput,
    "PERMISSION_DENIED": ModelDenied,
    "UNAUTHENTICATED": ConfigError,
    "FEATURE_DISABLED": ConfigError,
}
"""What MLflow's error codes become; every other one means that the server cannot answer now."""


class MlflowRegistry:
    """Connects with the first call. Raises ConfigError when nobody says where MLflow is."""

    def __init__(self, registry: settings.Registry, trust: Trust | None = None, *, base: Path | None = None) -> None:
        tell_mlflow(registry)
        self.address = registry.uri or os.environ.get("MLFLOW_TRACKING_URI", "")
        if not self.address:
            raise ConfigError(
                "registry.kind is mlflow: say where it is, with registry.uri in tidegate.yaml or MLFLOW_TRACKING_URI; "
                "without that MLflow would make an empty registry in the current folder"
            )
        self._registry_address = os.environ.get("MLFLOW_REGISTRY_URI") or self.address
        self.where = f"MLflow at {_shown(self.address)}"
        self._trust = trust or Trust()
        self._base = base or Path.cwd()
        self._made: Any = None
        self._digests: dict[_Key, str] = {}
        self._signatures: dict[_Key, Signature | None] = {}

    def versions(self, name: str) -> list[ModelVersion]:
        with translated(f"models:/{name}", self.where):
            if not name:
                return [self._described(newest, model.aliases) for model, newest in self._newest()]
            _check_name(name)
            aliases = self._client.get_registered_model(name).aliases
            return [self._described(found, aliases) for found in self._search(name)]

    def get(self, name: str, version: str) -> ModelVersion:
        return self._find(name, version, by_alias=False)

    def register(
        self,
        name: str,
        source: Path | str,
        *,
        metadata: Mapping[str, str],
        aliases: Sequence[str] = (),
        profile: Path | str | None = None,
        signature: Signature | None = None,
    ) -> ModelVersion:
        _check_name(name)
        for alias in aliases:
            _check_alias(alias)
        check_metadata(metadata)
        path = local_path(str(source), self._base)
        with (
            translated(f"models:/{name}", self.where),
            tempfile.TemporaryDirectory(prefix="tidegate-register-") as folder,
        ):
            tags = {key: value for key, value in metadata.items() if not key.startswith("tidegate.")}
            run_id = _run_of(str(source)) or metadata.get("run_id", "")
            if path is not None:
                staged = Path(folder) / "model"
                copy_model(path, staged)
                tags[_DIGEST] = fingerprint(staged)[0]
                run_id = self._upload(name, staged)
                source = f"runs:/{run_id}/model"
            else:  # MLflow would take a source that is not there
                tags[_DIGEST] = self._fetched_digest(unregistered(str(source), self._trust, self._base).uri)
            if profile is not None and str(profile):
                tags[_PROFILE] = self._keep_profile(str(profile), name, run_id)
            if signature is not None and len(text := msgspec.json.encode(signature).decode()) <= _LONGEST_TAG:
                tags[_SIGNATURE] = text
            self._create_model(name)
            made = self._client.create_model_version(
                name, str(source), run_id=run_id or None, tags=tags, await_creation_for=0
            )
            for alias in aliases:
                self._client.set_registered_model_alias(name, alias, str(made.version))
        return self.get(name, str(made.version))

    def set_alias(self, name: str, alias: str, version: str | None) -> None:
        _check_name(name)
        _check_alias(alias)
        with translated(f"models:/{name}", self.where):
            if version is None:
                with contextlib.suppress(NotFound), translated(name, self.where):
                    self._client.delete_registered_model_alias(name, alias)
                return
            if not _is_number(version):
                raise InvalidInput(f"an alias points to a version's number, not to {version[:80]!r}")
            self._client.get_model_version(name, version)  # MLflow itself would take a number that is not there
            self._client.set_registered_model_alias(name, alias, version)

    def ref(self, uri: str) -> ModelRef:
        scheme = scheme_of(uri)
        if scheme == "runs":
            digest = self._fetched_digest(uri)
            return ModelRef(uri, version=digest.removeprefix("sha256:")[:SHOWN_DIGITS], digest=digest)
        if scheme != "models":
            return unregistered(uri, self._trust, self._base)
        name, which, by_alias = parse_uri(uri)
        try:
            found = self._find(name, which, by_alias=by_alias, described=False)
        except RequestError as error:
            raise ModelError(f"{uri}: {error}") from error
        digest = found.digest or self._fetched_digest(found.uri)
        self._digests[name, found.version, found.created] = digest
        return ModelRef(found.uri, name, found.version, digest)

    def profile(self, version: ModelVersion, most_bytes: int) -> bytes:
        where, what = profile_of(version), f"the reference profile of {version.name} version {version.version}"
        if scheme_of(where) in ("", "file") or scheme_of(where) not in (*_ARTIFACTS, *self._trust.schemes):
            raise ModelError(f"{what} is at {where[:200]}: not a place that trust.schemes lists")
        self._must_be_small(where, what, most_bytes)
        with self._fetched(where) as path:
            return read_bounded(path, what, most_bytes)

    def _must_be_small(self, uri: str, what: str, most_bytes: int) -> None:
        """MLflow fetches whole files, so a large one is refused before. Raises TooLarge."""
        from mlflow.artifacts import list_artifacts

        with translated(what, self.where):
            found = list_artifacts(artifact_uri=uri.rpartition("/")[0], tracking_uri=self.address)
        name = uri.rpartition("/")[2]
        if any(one.path.rpartition("/")[2] == name and (one.file_size or 0) > most_bytes for one in found):
            raise TooLarge(f"{what}: larger than {most_bytes >> 20} MiB")

    @property
    def _client(self) -> Any:
        if self._made is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # importing MLflow warns about MLflow
                try:
                    from mlflow import MlflowClient
                except ImportError as error:
                    raise MissingExtra("mlflow", "MLflow's registry") from error
            self._made = MlflowClient(tracking_uri=self.address, registry_uri=self._registry_address)
        return self._made

    def _find(self, name: str, which: str, *, by_alias: bool, described: bool = True) -> ModelVersion:
        _check_name(name)
        with translated(f"models:/{name}", self.where):
            model = self._client.get_registered_model(name)
            number = model.aliases.get(which)
            if number is None and not by_alias:
                number = which if _is_number(which) else self._number_in_stage(name, which, model.aliases)
            if number is None:
                raise NotFound(f"{name} has no alias {which[:80]}{_pointing(model.aliases)}")
            found = self._client.get_model_version(name, str(number))
            version = self._described(found, model.aliases)
            if described and version.signature is None:
                version = msgspec.structs.replace(version, signature=self._stored_signature(version))
            return version

    def _number_in_stage(self, name: str, which: str, aliases: Mapping[str, Any]) -> str:
        """The newest version of an older stage, or of all (``latest``). Raises NotFound."""
        there = self._search(name)
        wanted = which.casefold()
        if wanted == LATEST:
            found = there
        else:
            found = [version for version in there if str(version.current_stage or "").casefold() == wanted]
        if found:
            return str(found[0].version)
        if not there:
            raise NotFound(f"{name} has no versions yet")
        if wanted in (stage.casefold() for stage in STAGES):
            raise NotFound(
                f"no version of {name} is in stage {which}; MLflow 3 has aliases in place of stages: "
                f"models:/{name}@champion{_pointing(aliases)}"
            )
        raise NotFound(f"{name} has no version, alias or stage {which[:80]}{_pointing(aliases)}")

    def _search(self, name: str) -> list[Any]:
        """All versions, newest first."""
        quote = '"' if "'" in name else "'"
        found, token = [], None
        while True:
            page = self._client.search_model_versions(f"name={quote}{name}{quote}", page_token=token)
            found += page
            token = page.token
            if not token:
                return sorted(found, key=lambda version: int(version.version), reverse=True)

    def _newest(self) -> Iterator[tuple[Any, Any]]:
        """Every registered model that has a version, with the newest: of each stage MLflow names one."""
        token = None
        while True:
            page = self._client.search_registered_models(page_token=token)
            for model in page:
                if model.latest_versions:
                    yield model, max(model.latest_versions, key=lambda version: int(version.version))
            token = page.token
            if not token:
                return

    def _described(self, found: Any, aliases: Mapping[str, Any]) -> ModelVersion:
        name, number, created = str(found.name), str(found.version), found.creation_timestamp / 1000
        tags = {str(key): str(value) for key, value in dict(found.tags or {}).items()}
        signature = None
        if text := tags.get(_SIGNATURE):
            with contextlib.suppress(msgspec.MsgspecError):  # somebody edited the tag; the files tell it too
                signature = msgspec.json.decode(text, type=Signature)
        stage = str(getattr(found, "current_stage", "") or "")
        return ModelVersion(
            name=name,
            version=number,
            uri=f"models:/{name}/{number}",
            digest=tags.get(_DIGEST) or self._digests.get((name, number, created), ""),
            created=created,
            aliases=tuple(sorted(alias for alias, pointed in aliases.items() if str(pointed) == number)),
            stage="" if stage == "None" else stage,
            signature=signature or self._signatures.get((name, number, created)),
            metadata={key: value for key, value in tags.items() if not key.startswith("tidegate.")},
            profile=tags.get(_PROFILE, ""),
            run_id=str(found.run_id or ""),
        )

    def _stored_signature(self, version: ModelVersion) -> Signature | None:
        """From the MLmodel file; None for a model without one. Fetched once, since a version never changes."""
        key = (version.name, version.version, version.created)
        if key not in self._signatures:
            self._signatures[key] = self._fetched_signature(version.uri)
        return self._signatures[key]

    def _fetched_signature(self, uri: str) -> Signature | None:
        import yaml

        try:
            with self._fetched(f"{uri}/MLmodel") as path:
                description = yaml.safe_load(path.read_text("utf-8"))
            return stored_signature(description, uri) if isinstance(description, dict) else None
        except (ModelError, OSError, UnicodeDecodeError, yaml.YAMLError):
            return None  # not every model has such a file, and what loads it says more

    def _fetched_digest(self, uri: str) -> str:
        with self._fetched(uri) as path:
            return fingerprint(path)[0]

    @contextlib.contextmanager
    def _fetched(self, uri: str) -> Iterator[Path]:
        """A copy of the files, for as long as it is looked at. Raises ModelError, RegistryAway."""
        _ = self._client  # imports MLflow, or says what is missing
        from mlflow.artifacts import download_artifacts

        with tempfile.TemporaryDirectory(prefix="tidegate-fetch-") as folder:
            try:
                with translated(uri, self.where):
                    local = download_artifacts(
                        artifact_uri=uri,
                        dst_path=folder,
                        tracking_uri=self.address,
                        registry_uri=self._registry_address,
                    )
            except RequestError as error:
                raise ModelError(f"{uri}: MLflow cannot fetch it: {error}") from error
            if not any(Path(folder).iterdir()):
                raise ModelError(f"{uri}: MLflow has no files for it")
            yield Path(local).resolve()

    def _create_model(self, name: str) -> None:
        with contextlib.suppress(InvalidInput), translated(name, self.where):
            self._client.create_registered_model(name)

    def _run(self, name: str) -> str:
        experiment = self._client.get_experiment_by_name(EXPERIMENT)
        if experiment is not None:
            number = experiment.experiment_id
        else:
            try:
                number = self._client.create_experiment(EXPERIMENT)
            except Exception as error:
                experiment = self._client.get_experiment_by_name(EXPERIMENT)
                if experiment is None:
                    raise error from None
                number = experiment.experiment_id
        run_id: str = self._client.create_run(number, run_name=f"register {name}").info.run_id
        return run_id

    def _upload(self, name: str, staged: Path) -> str:
        run_id = self._run(name)
        self._client.log_artifacts(run_id, str(staged), "model")
        self._client.set_terminated(run_id)
        return run_id

    def _keep_profile(self, profile: str, name: str, run_id: str) -> str:
        path = local_path(profile, self._base)
        if path is None:
            return profile
        if not path.is_file():
            raise ModelError(f"{profile}: a reference profile is one file")
        made = "" if run_id else self._run(name)
        self._client.log_artifact(run_id or made, str(path), "profile")
        if made:
            self._client.set_terminated(made)
        return f"runs:/{run_id or made}/profile/{path.name}"


@contextlib.contextmanager
def translated(what: str, where: str = "MLflow") -> Iterator[None]:
    """The one place where what MLflow and its transports raise becomes ours. ``what`` was asked for, ``where``."""
    try:
        yield
    except (TidegateError, GeneratorExit):
        raise
    except OSError as error:  # requests' errors are OSErrors
        raise RegistryAway(f"{where} cannot be reached: {type(error).__name__}") from error
    except Exception as error:
        code = getattr(error, "error_code", None)
        if code is None and type(error).__module__ == "builtins":
            raise  # a fault of our own, not of the store where MLflow keeps its files
        kind = ERRORS.get(str(code))
        if kind is None:
            # The text of a failed call quotes its whole address and every layer that failed; the log has the rest.
            told = "" if " failed with " in str(error) else f": {_line(error)}"
            raise RegistryAway(f"{where} does not answer{told}") from error
        if issubclass(kind, ConfigError):
            raise kind(f"{where} refuses: {_line(error)}") from error
        raise kind(f"{what}: {_line(error)}") from error


def _line(error: BaseException) -> str:
    text = " ".join(str(getattr(error, "message", "") or error).split()) or type(error).__name__
    text = text.removeprefix(f"{getattr(error, 'error_code', '')}: ")
    return text if len(text) <= 300 else text[:297] + "..."


def _shown(address: str) -> str:
    """The address without a user's name and password."""
    return re.sub(r"(?<=://)[^/@\s]+@", "", address)


def _check_name(name: str) -> None:
    """MLflow takes more names than most; what it refuses, and what could mean something else in a request, is refused."""
    bad = any(character in "/:" or ord(character) < 32 for character in name) or ("'" in name and '"' in name)
    if not name.strip() or name in (".", "..") or len(name) > 256 or bad:
        raise InvalidInput(f"{name[:120]!r} cannot be a model's name in MLflow: no '/', ':' or control characters")


def _check_alias(alias: str) -> None:
    reserved = alias.casefold() == LATEST or (alias[:1] in "vV" and alias[1:].isdigit()) or alias.isdigit()
    if not alias or len(alias) > 255 or reserved or not all(c.isalnum() or c in "_-" for c in alias):
        raise InvalidInput(
            f"{alias[:120]!r} cannot be an alias: use letters, digits, '-' and '_', such as champion; latest, numbers "
            "and v1, v2, … have their own meaning"
        )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) > 0


def _run_of(source: str) -> str:
    """The run that a runs:/ URI names."""
    return source.removeprefix("runs:").lstrip("/").partition("/")[0] if scheme_of(source) == "runs" else ""


def _pointing(aliases: Mapping[str, Any]) -> str:
    shown = [f"{alias} → {number}" for alias, number in sorted(aliases.items())[:10]]
    return f"; its aliases: {', '.join(shown)}" if shown else ""
