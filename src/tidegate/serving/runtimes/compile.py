"""From an estimator to an ONNX graph that was shown to give the same answers.

Conversions are tried in float64 first: scikit-learn compares trees' thresholds in float64 (after rounding inputs to
float32), scales and sums in float64, and a float32 graph takes the other branch for values right beside a threshold.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tidegate.errors import ModelError
from tidegate.serving.runtimes.base import Runtime
from tidegate.serving.runtimes.onnx import embed, open_onnx
from tidegate.serving.runtimes.reference import reference_rows, stored_rows, take
from tidegate.serving.runtimes.sklearn import EstimatorRuntime, classes_of
from tidegate.serving.runtimes.sources import first_line
from tidegate.serving.runtimes.structure import Layout, flatten
from tidegate.types import NUMPY_DTYPES, Array, Signature, Tensors, TensorSpec

log = logging.getLogger("tidegate.runtimes")

TOLERANCE = 1e-5
"""Largest difference: of scores absolutely, of other numbers in parts of the largest one; usual ones are near 1e-7."""
_OPSET = {"": 17, "ai.onnx.ml": 3}
_TIE = 1e-6
_SINGLES = 16
_INT64 = 7
"""TensorProto.INT64."""
_ROUNDING = ("sklearn.tree", "sklearn.ensemble._forest", "sklearn.ensemble._gb", "xgboost")
_WORDS = r"(?u)\b\w\w+\b"
"""Reference rows that are also asked one by one."""


class Compiled(msgspec.Struct, frozen=True):
    """``runtime`` is None when the model must run as it is; ``note`` says how closely it agrees, or why not."""

    runtime: Runtime | None
    note: str
    graph: bytes = b""
    largest_difference: float = 0.0
    seconds: float = 0.0


def compile_verified(
    original: EstimatorRuntime, layout: Layout, where: str, options: Mapping[str, Any], threads: int, beside: Path
) -> Compiled:
    """Converts, compares on reference rows, and decides. Only a broken reference file raises."""
    started = time.perf_counter()
    stored = stored_rows(beside, original.signature, options)
    batches = [reference_rows(layout, original.signature)] + ([stored] if stored is not None else [])
    tolerance = float(options.get("tolerance", TOLERANCE))
    try:
        wanted = [_answers(original, batch) for batch in batches]
    except Exception as error:  # noqa: BLE001 - foreign model code
        return Compiled(runtime=None, note=f"not compiled: the model refuses its reference rows: {_short(error)}")
    signature = _complete(original.signature, wanted[0])
    unused = frozenset(column.name for column in layout.columns if not column.used)
    reasons: list[str] = []
    for kind in _kinds(original.model):
        try:
            graph = _convert(original.model, signature, kind, unused)
            opened = open_onnx(graph, "the graph", {**_session_options(options), "signature": signature}, threads)
        except Exception as error:  # noqa: BLE001 - converters raise anything; the model then runs as it is
            reasons.append(f"{kind}: {_short(error)}")
            continue
        try:
            difference, ties = _compare(opened.runtime, batches, wanted, tolerance)
        except _Differs as differs:
            reasons.append(f"{kind}: {differs}")
            opened.runtime.close()
            continue
        except Exception as error:  # noqa: BLE001 - as above
            reasons.append(f"{kind}: {_short(error)}")
            opened.runtime.close()
            continue
        rows = sum(len(next(iter(batch.values()))) for batch in batches)
        what = "labels equal, largest score difference" if _has_scores(original.model) else "largest difference"
        note = f"compiled ({kind}): {rows} reference rows, {what} {difference:.1e}"
        if ties:
            note += f", {ties} exact tie{'s' if ties > 1 else ''} of two classes broken differently"
        original.signature = signature
        return Compiled(
            runtime=opened.runtime,
            note=note,
            graph=graph,
            largest_difference=difference,
            seconds=time.perf_counter() - started,
        )
    return Compiled(runtime=None, note="not compiled: " + _joined(reasons))


def _joined(reasons: Sequence[str]) -> str:
    """Each once, with the precisions that it is about; none where it is the same for all."""
    about: dict[str, list[str]] = {}
    for one in reasons:
        kind, _, reason = one.partition(": ")
        about.setdefault(reason, []).append(kind)
    if len(about) == 1:
        return next(iter(about))
    return "; ".join(f"{', '.join(dict.fromkeys(kinds))}: {reason}" for reason, kinds in about.items())


def _session_options(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: options[key] for key in ("threads", "arena") if key in options}


class _Differs(Exception):
    pass


def _short(error: BaseException) -> str:
    text = first_line(error)
    return f"{type(error).__name__}: {text if len(text) < 160 else text[:157] + '...'}"


def _answers(runtime: Runtime, inputs: Tensors) -> Tensors:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outputs = runtime.predict(inputs)
    if not isinstance(outputs, Mapping):
        raise ModelError("an estimator does not answer asynchronously")
    return outputs


def _complete(signature: Signature, answers: Tensors) -> Signature:
    if signature.outputs:
        return signature
    from tidegate.serving.runtimes.signatures import specs_of

    return msgspec.structs.replace(signature, outputs=specs_of(answers))


def _compare(runtime: Runtime, batches: list[Tensors], wanted: list[Tensors], tolerance: float) -> tuple[float, int]:
    """Largest difference of scores over all rows, and the number of ties that were broken differently.

    Raises _Differs when labels or scores do not agree.
    """
    largest, ties = 0.0, 0
    for inputs, answers in zip(batches, wanted, strict=True):
        rows = len(next(iter(answers.values())))
        # Single rows too: the graph may take another road for small batches.
        scales = {name: _scale(name, values) for name, values in answers.items()}
        pieces = [slice(0, rows)] + [slice(row, row + 1) for row in range(0, rows, max(rows // _SINGLES, 1))]
        for piece in pieces:
            got = _answers(runtime, take(inputs, piece))
            expected = take(answers, piece)
            tied = _ties(expected)
            for name, values in expected.items():
                if values.shape != got[name].shape:
                    raise _Differs(f"{name}: shape {got[name].shape} for {values.shape}")
                if values.dtype.kind == "f":
                    largest = max(largest, _gap(name, values, got[name], tolerance, scales[name]))
                    continue
                differs = values != got[name]
                if name == "predictions" and values.ndim == 1:
                    ties = max(ties, int((differs & tied).sum()))
                    differs = differs & ~tied
                if differs.any():
                    raise _Differs(f"{name}: {int(differs.sum())} of {len(values)} labels differ")
    return largest, ties


def _ties(answers: Tensors) -> Array:
    """Rows whose two best scores are the same but for rounding: there the label is a matter of the last bit."""
    scores = answers.get("scores")
    rows = len(next(iter(answers.values())))
    if scores is None or scores.ndim != 2 or scores.shape[1] < 2:
        return np.zeros(rows, bool)
    best = np.sort(scores, axis=1)
    tied: Array = best[:, -1] - best[:, -2] < _TIE
    return tied


def _scale(name: str, expected: Array) -> float:
    """What differences are measured in: 1 for scores, the largest magnitude for other numbers."""
    if name == "scores" or expected.dtype.kind != "f":
        return 1.0
    return float(np.abs(np.nan_to_num(expected)).max(initial=0.0)) or 1.0


def _gap(name: str, expected: Array, got: Array, tolerance: float, scale: float) -> float:
    if not np.array_equal(np.isnan(expected), np.isnan(got)):
        raise _Differs(f"{name}: not a number in different places")
    expected, got = np.nan_to_num(expected), np.nan_to_num(got)
    worst = float(np.abs(expected - got).max(initial=0.0)) / scale
    if worst > tolerance:
        raise _Differs(f"{name}: differs by {worst:.1e}, {tolerance:.0e} is allowed")
    return worst


def _convert(model: Any, signature: Signature, kind: str, unused: frozenset[str] = frozenset()) -> bytes:
    """The graph with our output names, shapes and datatypes, and the signature in its metadata."""
    from tidegate.serving.runtimes.boosters import convert_booster, register_converters

    with warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        types = _initial_types(signature, kind, unused)
        if getattr(model, "family", ""):
            if kind == "float32":
                raise ModelError("LightGBM compares in float64")
            graph = convert_booster(model, types[0][0])
        else:
            register_converters(model)
            from skl2onnx import to_onnx

            if kind == "mixed":
                model = _with_cast(model)
            options = {id(model): {"zipmap": False}} if _has_scores(model) else None
            options = _text_options(model, options)
            graph = to_onnx(model, initial_types=types, options=options, target_opset=_OPSET)
    return embed(_finished(graph, signature), signature)


def _kinds(model: Any) -> tuple[str, ...]:
    """The order in which precisions are tried. Trees of scikit-learn and XGBoost round their inputs to float32, so
    that a float32 graph is exact for bare trees, and for trees behind transformers one that rounds between them."""
    steps = flatten(model)
    last = type(steps[-1]).__module__
    if not last.startswith(_ROUNDING):
        return ("float64", "float32")
    return ("float32", "float64") if len(steps) == 1 else ("mixed", "float32", "float64")


def _with_cast(model: Any) -> Any:
    """The same fitted pipeline with a rounding to float32 before its last step."""
    from skl2onnx.sklapi import CastTransformer
    from sklearn.pipeline import Pipeline

    steps = [(str(position), step) for position, step in enumerate(flatten(model))]
    return Pipeline([*steps[:-1], ("cast", CastTransformer(dtype=np.float32)), steps[-1]])


def _has_scores(model: Any) -> bool:
    return classes_of(model) is not None and callable(getattr(model, "predict_proba", None))


def _quiet() -> Any:
    import contextlib

    @contextlib.contextmanager
    def silenced() -> Iterator[None]:
        loggers = [logging.getLogger(name) for name in ("skl2onnx", "onnxmltools")]
        levels = [logger.level for logger in loggers]
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)

    return silenced()


def _initial_types(signature: Signature, kind: str, unused: frozenset[str]) -> list[tuple[str, Any]]:
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType

    number = FloatTensorType if kind == "float32" else DoubleTensorType

    absent = [s.name for s in signature.inputs if s.datatype == "BYTES" and not s.required and s.name not in unused]
    if absent:
        raise ModelError(f"text column {absent[0]!r} may be missing, which text in ONNX cannot be")

    def shape(spec: TensorSpec) -> list[Any]:
        return [None, spec.shape[1] if len(spec.shape) > 1 else 1]

    return [
        (spec.name, (StringTensorType if spec.datatype == "BYTES" else number)(shape(spec)))
        for spec in signature.inputs
        if spec.name not in unused
    ]


def _text_options(model: Any, options: dict[int, Any] | None) -> dict[int, Any] | None:
    """Tokens as scikit-learn's default pattern finds them: two or more word characters, of any script."""
    from sklearn.feature_extraction.text import CountVectorizer

    for step in _all_parts(model):
        if isinstance(step, CountVectorizer) and step.token_pattern == _WORDS and step.analyzer == "word":
            options = {**(options or {}), id(step): {"tokenexp": r"[\p{L}\p{N}_]{2,}", "locale": "C.UTF-8"}}
    return options


def _all_parts(model: Any) -> Iterator[Any]:
    for step in flatten(model):
        yield step
        for entry in getattr(step, "transformers_", getattr(step, "transformer_list", ())):
            if not isinstance(entry[1], str):
                yield from _all_parts(entry[1])


def _finished(model: Any, signature: Signature) -> Any:
    """Renames the converter's outputs, drops those that the original has not, and fixes ranks and datatypes."""
    from onnx import helper

    graph = model.graph
    produced = [output.name for output in graph.output]
    del graph.output[:]
    for spec, current in zip(signature.outputs, produced, strict=False):
        element = helper.np_dtype_to_tensor_dtype(NUMPY_DTYPES[spec.datatype])
        if spec.datatype != "BYTES":
            # Always: what a converter declares of its outputs is not always what comes out.
            graph.node.append(helper.make_node("Cast", [current], [f"{spec.name}_cast"], to=element))
            current = f"{spec.name}_cast"
        shape = f"{spec.name}_shape"
        graph.initializer.append(helper.make_tensor(shape, _INT64, [len(spec.shape)], spec.shape))
        graph.node.append(helper.make_node("Reshape", [current, shape], [spec.name]))
        graph.output.append(helper.make_tensor_value_info(spec.name, element, ["rows", *spec.shape[1:]]))
    return model
