"""The import rules of the package, read from its source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import tidegate

PACKAGE = Path(tidegate.__file__).parent
SHARED = {
    "types", "errors", "clock", "section", "monitor_plan", "settings", "telemetry", "metrics", "logs", "observations", "feedback", "keys", "mlmodel",
    "registry_files", "images", "problems",
}  # fmt: skip
MAY_IMPORT: dict[str, set[str]] = {
    "types": set(),
    "errors": set(),
    "clock": set(),
    "section": set(),
    "monitor_plan": {"section"},
    "settings": {"section", "monitor_plan"},
    "telemetry": SHARED,
    "metrics": SHARED,
    "logs": SHARED,
    "observations": SHARED,
    "feedback": SHARED,
    "keys": SHARED,
    "mlmodel": SHARED,
    "registry_files": SHARED,
    "images": set(),
    "problems": {"errors"},
    "storage": {"storage", *SHARED},
    "control": {"control", "storage", *SHARED},
    "console": {"console", "control", "storage", *SHARED},
    "tracing": {"serving", *SHARED},
    "config": {"config", "section", "monitor_plan", "settings", "errors"},
    "serving": {"serving", *SHARED},
    "protocols": {"protocols", "serving", *SHARED},
    "apps": {"apps", "config", "console", "control", "protocols", "serving", "storage", "tracing", *SHARED},
    "integrations": {"integrations", *SHARED},
    "testing": {"testing", "config", "control", "protocols", "serving", "storage", *SHARED},
}
"""What each part of the package may import from the others; ``cli`` sees everything."""

MAY_ALSO_IMPORT: dict[str, set[str]] = {
    "serving/snapshots/store.py": {"storage"},
    "serving/events/store.py": {"storage"},
    "control/api/app.py": {"console"},
}
"""The two seams through which the data plane reaches the store, and the place where the console is mounted."""

PURE_OF_MONITORING = (
    "alerts", "bins", "blocks", "bounds", "checking", "columns", "comparison", "drift", "estimate", "facts", "folding",
    "heat", "histogram", "horizon", "labelled", "measures", "metrics", "monitor", "observing", "performance", "profiler",
    "profiles", "quality", "repeats", "rows", "texts",
)  # fmt: skip
PURE = (
    "control/analysis/",
    *(f"control/releases/{name}.py" for name in ("machine", "evidence", "counted", "guardrails", "gates", "wording")),
    "control/experiments/experiment.py",
    *(f"control/training/{name}.py" for name in ("policy", "gate", "scores")),
    *(f"control/monitoring/{name}.py" for name in PURE_OF_MONITORING),
    "control/jobs/job.py",
    "control/jobs/moves.py",
    "serving/routing.py",
)
INPUT_OUTPUT = {
    "asyncio", "fastapi", "httpx", "multiprocessing", "os", "pathlib", "requests", "socket", "sqlalchemy", "subprocess",
    "threading", "time", "urllib",
}  # fmt: skip
"""What decisions may not touch: they are recomputed from their evidence."""

HEAVY = {
    "fastapi", "grpc", "httpx", "joblib", "lightgbm", "mlflow", "opentelemetry", "pandas", "PIL", "prometheus_client",
    "alembic", "jinja2", "limits", "psycopg", "pyarrow", "pydantic", "rich", "scipy", "skl2onnx", "sklearn", "skops",
    "sqlalchemy", "starlette", "structlog", "xgboost", "yaml",
}  # fmt: skip
"""Libraries that are imported where they are used, never at the top of a module that serving needs."""

MAY_BE_HEAVY = {
    "cli/caller.py": {"httpx"},
    "integrations/control.py": {"httpx"},
    "cli/release_view.py": {"rich"},
    "protocols/grpc.py": {"grpc"},
}


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
    assert parts - {"__version__"} <= MAY_IMPORT[layer] | MAY_ALSO_IMPORT.get(module, set())


@pytest.mark.parametrize("pure", PURE)
def test_what_is_pure_is_there(pure: str) -> None:
    assert any(module.startswith(pure) for module in modules())


@pytest.mark.parametrize("module", [module for module in modules() if module.startswith(PURE)])
def test_decisions_touch_nothing(module: str) -> None:
    tree = ast.parse((PACKAGE / module).read_text("utf-8"))
    assert not {name.split(".")[0] for name in imported(ast.walk(tree))} & INPUT_OUTPUT


CONTROL_ONLY = ("control/", "console/", "storage/", "apps/control.py", "apps/up.py")
"""Loaded by the control plane alone, which may load its libraries at once."""


@pytest.mark.parametrize("module", modules())
def test_heavy_libraries_are_imported_where_they_are_used(module: str) -> None:
    tree = ast.parse((PACKAGE / module).read_text("utf-8"))
    roots = {name.split(".")[0] for name in imported(list(runs_on_import(tree.body)))}
    if not module.startswith(CONTROL_ONLY):
        assert roots & HEAVY <= MAY_BE_HEAVY.get(module, set())


@pytest.mark.parametrize("module", modules())
def test_the_data_plane_has_no_second_framework(module: str) -> None:
    tree = ast.parse((PACKAGE / module).read_text("utf-8"))
    roots = {name.split(".")[0] for name in imported(ast.walk(tree))}
    assert not roots & {"structlog", "mock"}
    if not module.startswith(CONTROL_ONLY):
        assert not roots & {"fastapi", "starlette", "pydantic"}
