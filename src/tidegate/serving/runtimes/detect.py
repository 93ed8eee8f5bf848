"""Which format a path holds, by its content alone: a file's name decides nothing."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Literal

from tidegate.errors import ModelError

Format = Literal["onnx", "pickle", "skops", "xgboost", "lightgbm", "mlflow", "python"]

_PICKLE = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))
_COMPRESSED = ((b"\x1f\x8b", "gzip"), (b"BZh", "bz2"), (b"\xfd7zXZ", "lzma"))
"""First bytes, and the module that reads them; imported when met, since an ONNX file needs none."""
_ONNX_TAGS = {0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42}
"""Protobuf tags that may follow ``ir_version`` in an ONNX ModelProto."""
_HEAD = 4096
_FOREIGN: tuple[tuple[bytes, str], ...] = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras); export it to ONNX with tf2onnx"),
    (b"TFL3", "a TensorFlow Lite file; export the model to ONNX"),
    (b"CBM1", "a CatBoost file; save it with format='onnx'"),
    (b"binf", "an XGBoost file of the old binary form; save it as .json or .ubj"),
    (b"version https://git-lfs", "a Git LFS pointer; fetch the file with git lfs pull"),
)


def detect(path: Path, where: str) -> tuple[Format, Path]:
    """The format and the path to open, which for a folder with a single ONNX file, or a single file, is that file.

    Raises ModelError."""
    if path.is_dir():
        return _detect_folder(path, where)
    found = _detect_file(path, where)
    if found is None:
        raise ModelError(
            f"{where}: not a model that Tidegate knows; it reads ONNX, joblib and pickle, skops, XGBoost (.json, .ubj) "
            "and LightGBM (.txt) files, MLflow folders and folders with model.py"
        )
    return found, path


def _detect_folder(path: Path, where: str) -> tuple[Format, Path]:
    if (path / "MLmodel").is_file():
        return "mlflow", path
    if (path / "model.py").is_file():
        return "python", path
    graphs = [file for file in sorted(path.iterdir()) if file.is_file() and _looks_like_onnx(_head(file, 64))]
    if len(graphs) == 1:
        return "onnx", graphs[0]
    if graphs:
        names = ", ".join(file.name for file in graphs)
        raise ModelError(f"{where}: the folder holds several ONNX files ({names}); name one")
    files = [file for file in path.iterdir() if not file.name.startswith(".") and file.name != "registered_model_meta"]
    if len(files) == 1 and files[0].is_file() and (found := _detect_file(files[0], where)) is not None:
        return found, files[0]
    raise ModelError(f"{where}: the folder holds no MLmodel, no model.py and no ONNX file, and not just one model file")


def _detect_file(path: Path, where: str) -> Format | None:
    head = _head(path, _HEAD)
    if not head:
        raise ModelError(f"{where}: the file is empty")
    for magic, what in _FOREIGN:
        if head.startswith(magic) or head[4:8] == magic:
            raise ModelError(f"{where}: this is {what}")
    if head.startswith(b"PK\x03\x04"):
        return _detect_zip(path, where)
    if head.startswith(_PICKLE) or _is_compressed_pickle(path, head):
        return "pickle"
    if head.startswith(b"{") and b"learner" in head:
        return "xgboost"
    if head.startswith(b"tree\n") and b"version=" in head:
        return "lightgbm"
    if _looks_like_onnx(head):
        return "onnx"
    return None


def _detect_zip(path: Path, where: str) -> Format:
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise ModelError(f"{where}: a damaged zip file") from error
    if "schema.json" in names:
        return "skops"
    if "MAR-INF/MANIFEST.json" in names:
        raise ModelError(f"{where}: a TorchServe archive; point an endpoint at the TorchServe that serves it")
    if any(name.endswith("/data.pkl") for name in names):
        raise ModelError(f"{where}: a PyTorch file; export it with torch.onnx.export, or wrap it in a model.py")
    raise ModelError(f"{where}: a zip file without schema.json, so not a skops model")


def _is_compressed_pickle(path: Path, head: bytes) -> bool:
    """joblib compresses with gzip, bz2, xz or zlib: look at the first two bytes inside."""
    if head.startswith(b"x"):
        import zlib

        try:
            return zlib.decompressobj().decompress(head, 2) in _PICKLE
        except zlib.error:
            return False
    for magic, name in _COMPRESSED:
        if head.startswith(magic):
            module = importlib.import_module(name)
            try:
                with module.open(path, "rb") as file:
                    return file.read(2) in _PICKLE
            except (OSError, EOFError, ValueError, getattr(module, "LZMAError", OSError)):
                return False
    return False


def _looks_like_onnx(head: bytes) -> bool:
    """A ModelProto begins with field 1, ``ir_version``, a small number; ORT's own format carries ORTM at byte 4."""
    if head[4:8] == b"ORTM":
        return True
    return len(head) > 3 and head[0] == 0x08 and 1 <= head[1] < 0x40 and head[2] in _ONNX_TAGS


def _head(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        return file.read(size)
