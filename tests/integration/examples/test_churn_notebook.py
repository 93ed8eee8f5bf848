"""The notebook of examples/churn runs from top to bottom, and shows what its text says."""

from __future__ import annotations

import nbformat
import pytest
from nbclient import NotebookClient

from churn.project import HERE

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def test_the_notebook_runs() -> None:
    notebook = nbformat.read(HERE / "notebook.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(HERE)}}).execute()
    printed = "".join(
        out["text"]
        for cell in notebook.cells
        if cell.cell_type == "code"
        for out in cell.outputs
        if out.output_type == "stream" and out.name == "stdout"
    )
    lines = {line.split("  ")[0].strip(): line.strip() for line in printed.splitlines()}
    assert "monthly_charge" in lines["covariate"]
    assert lines["none"].endswith("none")
    assert lines["concept"].endswith("none"), "only outcomes show a change of reasons"
    accuracies = {
        name: float(line[len(name) :].split()[1]) for name, line in lines.items() if name in ("none", "concept")
    }
    assert accuracies["concept"] < accuracies["none"] - 0.1
