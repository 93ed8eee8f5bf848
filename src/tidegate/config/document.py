"""Reads ``tidegate.yaml`` into a tree whose leaves know their line.

Plain scalars follow YAML 1.2: ``no``, ``on`` and ``1:30`` are text, ``010`` is ten.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.config.tree import Leaf, Table
from tidegate.errors import ConfigError

if TYPE_CHECKING:
    import yaml

MAX_BYTES = 4 * 1024 * 1024
MAX_NODES = 200_000
"""Counted after aliases are expanded, so that a few lines cannot grow into gigabytes."""
MAX_DEPTH = 32

_STANDARD = "tag:yaml.org,2002:"
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = {".inf": math.inf, "+.inf": math.inf, "-.inf": -math.inf, ".nan": math.nan}


def read_document(path: Path) -> Table:
    """Raises ConfigError with file and line."""
    return parse_document(_read(path), str(path))


def parse_document(text: str, name: str) -> Table:
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    _check_brackets(text, name)
    try:
        root = yaml.compose(text, Loader=loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}" if mark else name
        raise ConfigError(f"{place}: not valid YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{name}: not valid YAML: {str(error).splitlines()[0]}") from None
    if root is None:
        return Table(name, {})
    node = _Reader(name).read(root, 0)
    if isinstance(node, Leaf):
        if node.value is None:
            return Table(name, {})
        raise ConfigError(f"{node.origin}: expected keys and values, such as `endpoints:`")
    return node


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder; name the file in it") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES // 1024 // 1024} MB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 text") from None


def _check_brackets(text: str, name: str) -> None:
    """Refuses absurd nesting before a recursive parser sees it."""
    if text.count("[") + text.count("{") < 500 and text.count("- -") < 500:
        return
    depth = 0
    for line, content in enumerate(text.splitlines(), 1):
        depth += content.count("[") + content.count("{") - content.count("]") - content.count("}")
        if depth > 200 or content.count("- -") > 200 or content.count("[") > 20_000:
            raise ConfigError(f"{name}:{line}: nested too deeply")


class _Reader:
    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes = 0

    def read(self, node: yaml.Node, depth: int) -> Table | Leaf:
        import yaml

        origin = self._origin(node)
        self._count(node, depth)
        _check_tag(node, origin)
        if isinstance(node, yaml.MappingNode):
            return self._table(node, origin, depth)
        if isinstance(node, yaml.SequenceNode):
            return Leaf(self._plain(node, depth), origin)
        return _scalar(node, origin)

    def _table(self, node: yaml.MappingNode, origin: str, depth: int) -> Table:
        items: dict[str, Table | Leaf] = {}
        inherited: dict[str, Table | Leaf] = {}
        for key, value in node.value:
            if key.tag == _STANDARD + "merge":
                for source in self._sources(value, depth):
                    for name, below in source.items.items():
                        inherited.setdefault(name, below)
                continue
            name = key.value
            if not isinstance(name, str):
                raise ConfigError(f"{self._origin(key)}: a key must be text")
            if name in items:
                raise ConfigError(f'{self._origin(key)}: the key "{name}" is here for the second time')
            below = self.read(value, depth + 1)
            below_origin = self._origin(key)
            items[name] = (
                Table(below_origin, below.items)
                if isinstance(below, Table)
                else Leaf(below.value, below_origin, below.text)
            )
        return Table(origin, inherited | items)

    def _sources(self, node: yaml.Node, depth: int) -> list[Table]:
        import yaml

        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        tables = [self.read(part, depth + 1) for part in parts]
        if not all(isinstance(table, Table) for table in tables):
            raise ConfigError(f"{self._origin(node)}: `<<` needs a table or a list of tables")
        return [table for table in tables if isinstance(table, Table)]

    def _plain(self, node: yaml.Node, depth: int) -> Any:
        import yaml

        self._count(node, depth)
        _check_tag(node, self._origin(node))
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(part, depth + 1) for part in node.value]
        if isinstance(node, yaml.MappingNode):
            table = self._table(node, self._origin(node), depth)
            return _plain_table(table)
        return _scalar(node, self._origin(node)).value

    def _count(self, node: yaml.Node, depth: int) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise ConfigError(f"{self._origin(node)}: more than {MAX_NODES} values once aliases are expanded")
        if depth > MAX_DEPTH:
            raise ConfigError(f"{self._origin(node)}: nested deeper than {MAX_DEPTH} levels")

    def _origin(self, node: yaml.Node) -> str:
        return f"{self.name}:{node.start_mark.line + 1}"


def _plain_table(table: Table) -> dict[str, Any]:
    return {
        name: _plain_table(below) if isinstance(below, Table) else below.value for name, below in table.items.items()
    }


def _check_tag(node: yaml.Node, origin: str) -> None:
    if not node.tag.startswith(_STANDARD) or "/" in node.tag.removeprefix(_STANDARD):
        raise ConfigError(f"{origin}: the tag {node.tag.removeprefix(_STANDARD)} is not allowed")


def _scalar(node: yaml.Node, origin: str) -> Leaf:
    text = str(node.value)
    if getattr(node, "style", None) in ("'", '"', "|", ">"):
        return Leaf(text, origin, text)
    if text in ("", "~", "null", "Null", "NULL"):
        return Leaf(None, origin)
    if text.lower() in ("true", "false"):
        return Leaf(text.lower() == "true", origin, text)
    if _INT.fullmatch(text) and len(text) <= 40:
        return Leaf(int(text), origin, text)
    if _FLOAT.fullmatch(text):
        return Leaf(float(text), origin, text)
    return Leaf(_SPECIAL.get(text.lower(), text), origin, text)
