"""ONNX graphs: signatures, casts, odd shapes, damaged files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.serving.runtimes.agreement import assert_batched_equals_single
from tidegate.errors import ContractError, InvalidInput, ModelError
from tidegate.serving.runtimes.base import LoadedModel
from tidegate.serving.runtimes.load import load_model
from tidegate.settings import Trust
from tidegate.testing import models
from tidegate.types import ModelRef

SUM_TOLERANCE = 1e-6
"""float32 sums of three products may be ordered differently in a batch."""


def load(path: Path, **options: Any) -> LoadedModel:
    return load_model(ModelRef(uri=str(path), options=options), Trust())


def test_affine_graph_keeps_its_own_names(tmp_path: Path) -> None:
    loaded = load(models.write_affine_onnx(tmp_path / "affine.onnx"))
    assert loaded.signature.is_matrix
    assert loaded.signature.inputs[0].shape == (-1, 3)
    inputs = {"x": np.arange(21, dtype=np.float32).reshape(7, 3)}
    outputs = assert_batched_equals_single(loaded, inputs, 0.0)
    np.testing.assert_array_equal(outputs["y"], inputs["x"] * 2 + 1)


def test_facts_are_filled_in(tmp_path: Path) -> None:
    path = models.write_affine_onnx(tmp_path / "affine.onnx")
    facts = load(path).facts
    assert facts.runtime == "onnx"
    assert facts.platform == "onnxruntime_onnx"
    assert facts.size_bytes == path.stat().st_size
    assert facts.digest.startswith("sha256:")
    assert facts.load_seconds > 0
    assert facts.warmup_seconds > 0
    assert 0 < facts.single_row_ms < 50


def test_float64_is_cast_to_what_the_graph_wants(tmp_path: Path) -> None:
    loaded = load(models.write_affine_onnx(tmp_path / "affine.onnx"))
    outputs = loaded.runtime.predict({"x": np.ones((2, 3), np.float64)})
    assert outputs["y"].dtype == np.float32  # type: ignore[index]


def test_a_number_beyond_the_graphs_type_is_refused_and_named(tmp_path: Path) -> None:
    """The forest that was compiled would refuse it; a graph that makes infinity of it would answer."""
    loaded = load(models.write_affine_onnx(tmp_path / "affine.onnx"))
    name = loaded.signature.inputs[0].name
    with pytest.raises(InvalidInput, match=r"row 1, input \"x\": 1e\+300 is too large .* float32"):
        loaded.runtime.predict({name: np.array([[1.0, 2.0, 3.0], [1.0, 1e300, 3.0]])})


@pytest.mark.parametrize("datatype", ["FLOAT16", "DOUBLE", "INT64", "INT32"])
def test_element_types(tmp_path: Path, datatype: str) -> None:
    loaded = load(models.write_affine_onnx(tmp_path / "affine.onnx", datatype=datatype))
    dtype = {"FLOAT16": np.float16, "DOUBLE": np.float64, "INT64": np.int64, "INT32": np.int32}[datatype]
    outputs = assert_batched_equals_single(loaded, {"x": np.arange(6).reshape(2, 3).astype(dtype)}, 0.0)
    assert outputs["y"].dtype == dtype
    assert outputs["y"].tolist() == [[1, 3, 5], [7, 9, 11]]


def test_classifier_gives_predictions_scores_and_labels_of_its_metadata(tmp_path: Path) -> None:
    loaded = load(models.write_classifier_onnx(tmp_path / "c.onnx", labels=["a", "b", "c"]))
    assert loaded.signature.labels == ("a", "b", "c")
    assert [spec.name for spec in loaded.signature.outputs] == ["predictions", "scores"]
    inputs = {"features": np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)}
    outputs = assert_batched_equals_single(loaded, inputs, SUM_TOLERANCE)
    np.testing.assert_array_equal(outputs["predictions"], outputs["scores"].argmax(axis=1))


def test_labels_and_columns_of_the_configuration_win(tmp_path: Path) -> None:
    path = models.write_classifier_onnx(tmp_path / "c.onnx", labels=["a", "b", "c"])
    loaded = load(path, labels=["x", "y", "z"], columns=["p", "q", "r", "s"])
    assert loaded.signature.labels == ("x", "y", "z")
    assert loaded.signature.columns == ("p", "q", "r", "s")


def test_text_and_number_columns(tmp_path: Path) -> None:
    loaded = load(models.write_table_onnx(tmp_path / "t.onnx"))
    assert loaded.signature.is_table
    flat = {"amount": np.array([1.0, 2.0, 3.0]), "code": np.array(["a", "ü", ""], object)}
    outputs = assert_batched_equals_single(loaded, flat, 0.0)
    assert outputs["total"].tolist() == [[2], [4], [6]]
    assert outputs["echo"].tolist() == [["a"], ["ü"], [""]]


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    loaded = load(models.write_two_inputs_onnx(tmp_path / "two.onnx"))
    one = np.ones((5, 2), np.float32)
    outputs = assert_batched_equals_single(loaded, {"a": one, "b": one * 2}, 0.0)
    assert outputs["count"].tolist() == [6] * 5


@pytest.mark.parametrize("rows", [1, 4])
def test_graph_with_a_fixed_number_of_rows_runs_in_pieces(tmp_path: Path, rows: int) -> None:
    loaded = load(models.write_affine_onnx(tmp_path / "fixed.onnx", rows=rows))
    assert loaded.signature.inputs[0].shape == (-1, 3)
    inputs = {"x": np.arange(30, dtype=np.float32).reshape(10, 3)}
    outputs = assert_batched_equals_single(loaded, inputs, 0.0)
    np.testing.assert_array_equal(outputs["y"], inputs["x"] * 2 + 1)


def test_converted_forest_with_and_without_maps_agree(tmp_path: Path) -> None:
    forest = models.iris_forest()
    plain = load(models.write_onnx(forest, tmp_path / "plain.onnx"))
    mapped = load(models.write_onnx(forest, tmp_path / "mapped.onnx", zipmap=True))
    features = models.iris()[0].astype(np.float32)
    outputs = assert_batched_equals_single(plain, {"X": features[::10]}, SUM_TOLERANCE)
    by_map = assert_batched_equals_single(mapped, {"X": features[::10]}, SUM_TOLERANCE)
    np.testing.assert_array_equal(outputs["predictions"], by_map["predictions"])
    np.testing.assert_allclose(outputs["scores"], by_map["scores"], atol=1e-7)
    assert outputs["predictions"].tolist() == forest.predict(features[::10]).tolist()


def test_converted_forest_with_named_classes_has_labels(tmp_path: Path) -> None:
    loaded = load(models.write_onnx(models.iris_forest(5, named_classes=True), tmp_path / "f.onnx", zipmap=True))
    assert loaded.signature.labels == ("setosa", "versicolor", "virginica")
    outputs = loaded.runtime.predict({"X": np.array([models.IRIS_ROW], np.float32)})
    assert outputs["predictions"].tolist() == ["setosa"]  # type: ignore[index]


def test_converted_regressor_gives_one_number_a_row(tmp_path: Path) -> None:
    loaded = load(models.write_onnx(models.linear_regressor(), tmp_path / "r.onnx", columns=3))
    assert loaded.signature.outputs[0].shape == (-1,)
    inputs = {"X": np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)}
    assert_batched_equals_single(loaded, inputs, SUM_TOLERANCE)


def test_damaged_file_is_one_line(tmp_path: Path) -> None:
    path = models.write_affine_onnx(tmp_path / "affine.onnx")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ModelError) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert "ONNX Runtime cannot load this graph" in str(caught.value)


def test_opset_of_the_future_is_one_line(tmp_path: Path) -> None:
    import onnx

    path = models.write_affine_onnx(tmp_path / "affine.onnx")
    graph = onnx.load(str(path))
    graph.opset_import[0].version = 999
    path.write_bytes(graph.SerializeToString())
    with pytest.raises(ModelError, match=r"opset 999|999"):
        load(path)


@pytest.mark.parametrize("location", ["../secret.bin", "absolute"])
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    import onnx

    secret = tmp_path / "secret.bin"
    np.ones(1, np.float32).tofile(secret)
    folder = tmp_path / "model"
    folder.mkdir()
    path = models.write_affine_onnx(folder / "affine.onnx")
    graph = onnx.load(str(path))
    tensor = graph.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", str(secret) if location == "absolute" else location
    path.write_bytes(graph.SerializeToString())
    with pytest.raises(ModelError):
        load(path)


def test_external_data_beside_the_file_is_read(tmp_path: Path) -> None:
    import onnx

    path = models.write_affine_onnx(tmp_path / "affine.onnx")
    graph = onnx.load(str(path))
    onnx.save(graph, str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (tmp_path / "weights.bin").exists()
    outputs = load(path).runtime.predict({"x": np.ones((1, 3), np.float32)})
    assert outputs["y"].tolist() == [[3, 3, 3]]  # type: ignore[index]


def test_folder_with_one_graph_is_that_graph(tmp_path: Path) -> None:
    models.write_affine_onnx(tmp_path / "anything.bin")
    (tmp_path / "notes.txt").write_text("hello")
    assert load(tmp_path).facts.runtime == "onnx"


def test_declared_input_that_the_graph_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="no input 'z'; it has x"):
        load(models.write_affine_onnx(tmp_path / "a.onnx"), signature={"inputs": {"z": "FP32"}})


def test_closed_model_says_so(tmp_path: Path) -> None:
    loaded = load(models.write_affine_onnx(tmp_path / "a.onnx"))
    loaded.runtime.close()
    loaded.runtime.close()
    with pytest.raises(ModelError, match="closed"):
        loaded.runtime.predict({"x": np.ones((1, 3), np.float32)})


def test_onnx_road_imports_nothing_heavy(tmp_path: Path) -> None:
    path = models.write_affine_onnx(tmp_path / "a.onnx")
    script = (
        "import sys\n"
        "from tidegate.serving.runtimes.load import load_model\n"
        "from tidegate.settings import Trust\n"
        "from tidegate.types import ModelRef\n"
        f"load_model(ModelRef(uri={str(path)!r}), Trust())\n"
        "heavy = {'sklearn', 'pandas', 'scipy', 'onnx', 'mlflow', 'joblib', 'skl2onnx', 'yaml', 'pydantic'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
