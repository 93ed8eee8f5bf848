"""``tidegate model``: figures for people and programs, and graphs that carry their signature."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.unit.cli.command import run
from tidegate.serving.runtimes.load import load_model
from tidegate.settings import Trust
from tidegate.testing import models
from tidegate.types import ModelRef


def test_inspect_prints_the_signature(tmp_path: Path) -> None:
    path = models.write_classifier_onnx(tmp_path / "c.onnx", labels=["a", "b", "c"])
    shown = run("model", "inspect", str(path))
    assert shown.exit_code == 0
    for text in ("sha256:", "onnx on onnxruntime_onnx", "features", "[-1, 4]", "a, b, c", "example: "):
        assert text in shown.stdout


@pytest.mark.slow
def test_inspect_json_can_be_read_back(tmp_path: Path) -> None:
    path = models.write_joblib(models.iris_forest(5), tmp_path / "m.joblib")
    found = json.loads(run("model", "inspect", str(path), "--json").stdout)
    assert found["compiled"] is True
    assert "labels equal" in found["compile_note"]
    assert found["inputs"][0]["shape"] == [-1, 4]
    assert len(found["example"]["inputs"]["x"][0]) == 4
    plain = json.loads(run("model", "inspect", str(path), "--json", "--no-compile").stdout)
    assert plain["compiled"] is False


def test_compiled_file_keeps_signature_labels_and_answers(tmp_path: Path) -> None:
    pipeline = models.churn_pipeline()
    source = models.write_joblib(pipeline, tmp_path / "m.joblib")
    output = tmp_path / "churn.onnx"
    done = run("model", "compile", str(source), "-o", str(output), "--options", '{"labels": ["stays", "leaves"]}')
    assert "labels equal" in done.stdout
    original = load_model(ModelRef(uri=str(source)), Trust(pickles=(str(tmp_path),)))
    compiled = load_model(ModelRef(uri=str(output)), Trust())
    assert compiled.signature.inputs == original.signature.inputs
    assert compiled.signature.outputs == original.signature.outputs
    assert compiled.signature.example == original.signature.example
    assert compiled.signature.labels == ("stays", "leaves")
    table, _ = models.churn_table(10)
    inputs = {n: table[n].to_numpy(object if n in ("plan", "country") else float) for n in table.columns}
    answers = compiled.runtime.predict(inputs)
    np.testing.assert_allclose(answers["scores"], pipeline.predict_proba(table), atol=1e-6)  # type: ignore[index]


def test_reasons_are_one_line(tmp_path: Path) -> None:
    graph = models.write_affine_onnx(tmp_path / "a.onnx")
    forest = models.write_joblib(models.iris_forest(5), tmp_path / "m.joblib")
    cases = [
        (["compile", str(graph)], "an ONNX graph already"),
        (["compile", str(forest), "--tolerance", "0"], "0e+00 is allowed"),
        (["compile", str(forest), "-o", str(tmp_path / "no" / "x.onnx")], "cannot be written"),
        (["inspect", str(graph), "--options", "{"], "not JSON"),
        (["inspect", str(graph), "--options", "[]"], "expected a JSON object"),
        (["inspect", str(tmp_path / "nothing")], "no such file"),
    ]
    for arguments, says in cases:
        failed = run("model", *arguments)
        assert failed.exit_code == 2, arguments
        assert says in failed.stderr
        assert failed.stderr.count("\n") == 1
