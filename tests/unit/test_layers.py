"""The import rules of the package, read from its source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import tidegate

PACKAGE = Path(tidegate.__file__).parent
SHARED = {"types", "errors", "clock", "settings", "telemetry", "metrics", "logs"}
MAY_IMPORT: dict[str, set[str]] = {
    "types": set(),
    "errors": set(),
    "clock": set(),
    "settings": set(),
    "telemetry": SHARED,
    "metrics": SHARED,
    "logs": SHARED,
    "tracing": {"serving", *SHARED},
    "config": {"config", "settings", "errors"},
    "serving": {"serving", *SHARED},
    "protocols": {"protocols", "serving", *SHARED},
    "apps": {"apps", "config", "protocols", "serving", "tracing", *SHARED},
    "testing": {"testing", "config", "protocols", "serving", *SHARED},
}
"""What each part of the package may import from the others; ``cli`` sees everything."""

HEAVY = {
    "fastapi", "grpc", "httpx", "joblib", "lightgbm", "mlflow", "opentelemetry", "pandas", "PIL", "prometheus_client",
    "pyarrow", "pydantic", "rich", "scipy", "skl2onnx", "sklearn", "skops", "structlog", "xgboost", "yaml",
}  # fmt: skip
"""Libraries that are imported where they are used, never at the top of a module that serving needs."""

MAY_BE_HEAVY = {"cli/caller.py": {"httpx"}, "protocols/grpc.py": {"grpc"}}


def modules() -> list[str]:
    return sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def imported(nodes: Iterator[ast.AST] | list[ast.stmt]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def runs_on_import(statements: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements outside of functions, without what only type checkers see."""
    for node in statements:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from runs_on_import(node.orelse)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        else:
            yield node
            for name in ("body", "orelse", "finalbody"):
                yield from runs_on_import(getattr(node, name, []))


@pytest.mark.parametrize("module", modules())
def test_layers(module: str) -> None:
    layer = module.split("/")[0].removesuffix(".py")
    if layer not in MAY_IMPORT:
        assert layer in ("__init__", "__main__", "cli")
        return
    tree = ast.parse((PACKAGE / module).read_text("utf-8"))
    parts = {name.split(".")[1] for name in imported(ast.walk(tree)) if name.startswith("tidegate.")}
    assert parts - {"__version__"} <= MAY_IMPORT[layer]


@pytest.mark.parametrize("module", modules())
def test_heavy_libraries_are_imported_where_they_are_used(module: str) -> None:
    tree = ast.parse((PACKAGE / module).read_text("utf-8"))
    roots = {name.split(".")[0] for name in imported(list(runs_on_import(tree.body)))}
    assert roots & HEAVY <= MAY_BE_HEAVY.get(module, set())


@pytest.mark.parametrize("module", modules())
def test_the_data_plane_has_no_second_framework(module: str) -> None:
    tree = ast.parse((PACKAGE / module).read_text("utf-8"))
    roots = {name.split(".")[0] for name in imported(ast.walk(tree))}
    assert not roots & {"fastapi", "starlette", "pydantic", "structlog", "mock"}
