"""``load_settings``: all sources, in order, into one checked ``Settings``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

import msgspec

from tidegate.config.document import read_document
from tidegate.config.environment import read_dotenv, read_environment, read_overrides
from tidegate.config.fields import fields_of
from tidegate.config.rules import broken_rules
from tidegate.config.tree import Leaf, Problem, Table, dotted, from_plain, merge, plain, shape
from tidegate.errors import ConfigError
from tidegate.section import Section
from tidegate.settings import Settings

S = TypeVar("S", bound=Section)

CONFIG_NAME = "tidegate.yaml"
SHOWN_PROBLEMS = 20
_SQLITE_FILE = re.compile(r"(sqlite(?:\+\w+)?:///)(?!/|:memory:|file:)([^?]+)(.*)")
"""A relative one; SQLAlchemy counts its folder from wherever a process was started."""
_QUOTED = str.maketrans({"%": "%25", "?": "%3F", "#": "%23"})

PROFILES: Mapping[str, Mapping[str, Any]] = {
    "local": {"logs": {"format": "text"}, "server": {"watch": True}},
    "development": {"logs": {"format": "text", "requests": "all"}, "server": {"watch": True}},
    "staging": {"logs": {"format": "json"}, "server": {"drain_seconds": 5.0}, "access": {"keys_required": True}},
    "production": {"logs": {"format": "json"}, "server": {"drain_seconds": 5.0}, "access": {"keys_required": True}},
}
"""Defaults that differ between profiles."""


class Loaded(msgspec.Struct, frozen=True):
    """``origins`` says for every dotted key where its value was written. ``base`` is what model paths start from."""

    settings: Settings
    origins: Mapping[str, str]
    base: Path
    file: Path | None = None


def discover(config: Path | None, environment: Mapping[str, str]) -> tuple[Path | None, Path | None]:
    """The configuration file and the ``.env`` file to read: named, or found in the current folder."""
    if config is None and environment.get("TIDEGATE_CONFIG"):
        config = Path(environment["TIDEGATE_CONFIG"])
    if config is None and Path(CONFIG_NAME).is_file():
        config = Path(CONFIG_NAME)
    dotenv = Path(".env")
    return config, dotenv if dotenv.is_file() else None


def load_settings(
    path: Path | None,
    *,
    environment: Mapping[str, str],
    overrides: Mapping[str, Any] = {},
    dotenv: Path | None = None,
) -> Loaded:
    """Raises ConfigError, one line for each mistake: place, key, what was given, what is allowed."""
    problems: list[Problem] = []

    merged = Table("default", {})
    if path is not None:
        merged = merge(merged, shape(read_document(path), Settings, problems))
    typed = read_overrides(overrides)
    if dotenv is not None:
        found = read_dotenv(dotenv, merge(merged, typed), problems)
        merged = merge(merged, shape(found, Settings, problems))
    found = read_environment(environment, merge(merged, typed), problems)
    merged = merge(merged, shape(found, Settings, problems))
    merged = merge(merged, shape(typed, Settings, problems))

    profile = merged.items.get("profile")
    name = profile.value if isinstance(profile, Leaf) else fields_of(Settings)["profile"].default
    defaults = shape(from_plain(dict(PROFILES[name]), f"profile {name}"), Settings, problems)
    merged = merge(defaults, merged)
    _stop_if(problems)

    places: dict[str, str] = {}
    origins: dict[str, str] = {}
    settings = _build(merged, Settings, (), problems, places, origins)
    _stop_if(problems)
    for key, text in broken_rules(settings):
        problems.append(Problem(_place(key, places), key, text))
    _stop_if(problems)

    base = path.absolute().parent if path is not None else Path.cwd()
    settings = _with_absolute_store(settings, Path.cwd() if origins["store.url"] == "command line" else base)
    return Loaded(_with_absolute_trust(settings, base), origins, base, path)


def load_section(
    path: Path, section: type[S], rules: Callable[[S], Iterable[tuple[str, str]]] = lambda section: ()
) -> S:
    """One section that has a file of its own, such as a training configuration. ``rules`` tell key and mistake of what
    types cannot say. Raises ConfigError as ``load_settings`` does."""
    problems: list[Problem] = []
    places: dict[str, str] = {}
    table = shape(read_document(path), section, problems)
    _stop_if(problems)
    built = _build(table, section, (), problems, places, {})
    _stop_if(problems)
    problems += [Problem(_place(key, places) or str(path), key, text) for key, text in rules(built)]
    _stop_if(problems)
    found: S = built
    return found


def _with_absolute_trust(settings: Settings, base: Path) -> Settings:
    """Trusted folders start from the same folder as models; ``models:/name`` stays as it is."""
    pickles = tuple(
        entry if ":/" in entry else str(base / Path(entry).expanduser()) for entry in settings.trust.pickles
    )
    return msgspec.structs.replace(settings, trust=msgspec.structs.replace(settings.trust, pickles=pickles))


def _with_absolute_store(settings: Settings, base: Path) -> Settings:
    """Every command finds the same SQLite file, wherever it is started; one typed there starts from the current folder."""
    found = _SQLITE_FILE.fullmatch(settings.store.url)
    if found is None:
        return settings
    scheme, name, query = found.groups()
    url = sqlite_url(base / Path(unquote(name)).expanduser()).replace("sqlite:///", scheme, 1) + query
    return msgspec.structs.replace(settings, store=msgspec.structs.replace(settings.store, url=url))


def sqlite_url(path: Path) -> str:
    """``sqlite:///…`` of a file, whatever is in the names of its folders."""
    return f"sqlite:///{path.as_posix().translate(_QUOTED)}"


def _stop_if(problems: list[Problem]) -> None:
    if not problems:
        return
    lines = [str(problem) for problem in problems[:SHOWN_PROBLEMS]]
    if len(problems) > SHOWN_PROBLEMS:
        lines.append(f"and {len(problems) - SHOWN_PROBLEMS} more")
    raise ConfigError("\n".join(lines))


def _build(
    table: Table,
    section: type[Section],
    path: tuple[str, ...],
    problems: list[Problem],
    places: dict[str, str],
    origins: dict[str, str],
) -> Any:
    """The section, or None when a field that must be given is missing."""
    values: dict[str, Any] = {}
    complete = True
    for field in fields_of(section).values():
        here = (*path, field.name)
        key = dotted(here)
        node = table.items.get(field.name)
        places[key] = node.origin if node is not None else "default"
        if node is None and field.required:
            problems.append(Problem(table.origin, key, f"must be given; {field.help[:1].lower()}{field.help[1:]}"))
            complete = False
        elif isinstance(node, Leaf):
            values[field.name] = node.value
            origins[key] = node.origin
        elif field.section is None or (node is None and field.kind != "section"):
            origins[key] = places[key]
            if node is not None:
                values[field.name] = plain(node)
        elif field.kind == "sections":
            assert node is not None
            built = {}
            for name, entry in node.items.items():
                assert isinstance(entry, Table)
                places[dotted((*here, name))] = entry.origin
                built[name] = _build(entry, field.section, (*here, name), problems, places, origins)
            values[field.name] = built
        else:
            inner = node if node is not None else Table("default", {})
            values[field.name] = _build(inner, field.section, here, problems, places, origins)
    return section(**values) if complete else None


def _place(key: str, places: Mapping[str, str]) -> str:
    """Where the key, or else the nearest section around it, was written."""
    while key:
        origin = places.get(key, "default")
        if origin != "default":
            return origin
        key = key.rpartition(".")[0]
    return ""
