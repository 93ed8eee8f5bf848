"""Reads settings from the environment, from a ``.env`` file and from command-line overrides."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tidegate.config.fields import fields_of
from tidegate.config.older import place_older
from tidegate.config.tree import Leaf, Problem, Table, from_plain, put
from tidegate.errors import ConfigError
from tidegate.section import Section
from tidegate.settings import ALIASES, Settings

PREFIX = "TIDEGATE_"

NOT_SETTINGS: Mapping[str, str] = {
    "TIDEGATE_CONFIG": "Path of the configuration file, for commands that are given none.",
    "TIDEGATE_URL": "Address of the server that `tidegate predict` calls.",
    "TIDEGATE_CONTROL": "Address of the control plane that `tidegate release` and its like call.",
    "TIDEGATE_KEY": "Key that `tidegate predict` and the commands of the control plane send.",
    "TIDEGATE_API_KEY": "Key that the operators for Airflow send, where no connection has one.",
    "MLFLOW_EXPERIMENT_NAME": "MLflow's experiment of trainings whose configuration names none.",
    "TIDEGATE_START_METHOD": "How `server.workers` processes start: `fork` (the default on Linux) or `spawn` (elsewhere).",
    "TIDEGATE_HANG_SECONDS": "A serving process without a sign of life for so long is replaced; 30 by default.",
}
"""Names that are read elsewhere."""

_KUBERNETES = re.compile(r"TIDEGATE_(\w+_)?(SERVICE_(HOST|PORT)(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
_KUBERNETES_PORT = re.compile(r"(tcp|udp|sctp)://.*")
"""Kubernetes writes these into every pod when a Service is called tidegate-…; they are not ours to judge."""

_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")


def read_environment(environment: Mapping[str, str], names: Table, problems: list[Problem]) -> Table:
    """``names`` is what other sources gave: endpoints are found in it whatever their case and dashes."""
    entries = {key: (value, f"environment {key}") for key, value in environment.items()}
    return _place_all(entries, names, problems)


def read_dotenv(path: Path, names: Table, problems: list[Problem]) -> Table:
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    entries: dict[str, tuple[str, str]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ConfigError(f"{path}:{number}: expected NAME=value")
        entries[match[1]] = (_unquote(match[2], f"{path}:{number}"), f"{path}:{number} {match[1]}")
    return _place_all(entries, names, problems)


def read_overrides(overrides: Mapping[str, Any]) -> Table:
    """Dotted keys; a text is converted as in the environment, other values must have the field's type."""
    table = Table("command line", {})
    for key, value in overrides.items():
        path = tuple(key.split("."))
        if isinstance(value, dict):
            put(table, path, from_plain(value, "command line"))
        elif isinstance(value, str):
            put(table, path, Leaf(None, "command line", value, lax=True))
        else:
            put(table, path, Leaf(list(value) if isinstance(value, tuple) else value, "command line"))
    return table


def environment_name(key: str) -> str:
    """The variable of a dotted key."""
    return PREFIX + key.upper().replace("-", "_").replace(".", "__")


def _place_all(entries: Mapping[str, tuple[str, str]], names: Table, problems: list[Problem]) -> Table:
    table = Table("environment", {})
    for alias, key in ALIASES.items():
        if alias in entries:
            value, origin = entries[alias]
            put(table, tuple(key.split(".")), Leaf(None, origin, value, lax=True))
    place_older(entries, names, table, problems)
    for name in sorted(entries):
        value, origin = entries[name]
        if not name.startswith(PREFIX) or name in NOT_SETTINGS:
            continue
        if "__" not in name and (_KUBERNETES.fullmatch(name) or _KUBERNETES_PORT.fullmatch(value)):
            continue
        path = _path(name, names)
        if path is None:
            problems.append(Problem(origin, "", _unknown(name)))
        else:
            put(table, path, Leaf(None, origin, value, lax=True))
    return table


def _path(name: str, names: Table) -> tuple[str, ...] | None:
    section: type[Section] | None = Settings
    below: Table | Leaf | None = names
    path: list[str] = []
    segments = name.removeprefix(PREFIX).split("__")
    position = 0
    while position < len(segments):
        if section is None:
            return (*path, *(segment.lower() for segment in segments[position:]))
        field = fields_of(section).get(segments[position].lower())
        if field is None:
            return None
        path.append(field.name)
        position += 1
        below = below.items.get(field.name) if isinstance(below, Table) else None
        section = field.section
        if field.kind == "value":
            return tuple(path) if position == len(segments) else None
        if field.kind == "sections" and position < len(segments):
            entry = _existing(segments[position], below)
            below = below.items.get(entry) if isinstance(below, Table) else None
            path.append(entry)
            position += 1
    return tuple(path)


def _existing(segment: str, table: Table | Leaf | None) -> str:
    for name in table.items if isinstance(table, Table) else ():
        if name.upper().replace("-", "_") == segment.upper():
            return name
    return segment.lower()


def _unknown(name: str) -> str:
    known = [environment_name(key) for key in _keys(Settings)]
    near = difflib.get_close_matches(name.replace("__", "_"), [key.replace("__", "_") for key in known], n=1)
    if near:
        meant = next(key for key in known if key.replace("__", "_") == near[0])
        return f"no such setting; did you mean {meant}?"
    return "no such setting; `tidegate config show` lists all"


def _keys(section: type[Section], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for field in fields_of(section).values():
        key = prefix + field.name
        if field.section is None or field.kind == "sections":
            keys.append(key)
        else:
            keys.extend(_keys(field.section, key + "."))
    return keys


def _unquote(text: str, origin: str) -> str:
    if text[:1] in ("'", '"'):
        end = text.find(text[0], 1)
        rest = text[end + 1 :].strip()
        if end < 0 or (rest and not rest.startswith("#")):
            raise ConfigError(f"{origin}: the quote is not closed")
        return text[1:end]
    return re.split(r"\s+#", text, maxsplit=1)[0].strip()
