"""From a configuration's data to a table, with what makes it possible to find the same rows again."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tidegate.control.training.config import Data, DvcData
from tidegate.control.training.database import read_query
from tidegate.errors import ConfigError, MissingExtra, UserError

if TYPE_CHECKING:
    import pandas

MOST_ROWS = 20_000_000
MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where rows came from. ``place`` has no secret and, for files, no folder."""

    kind: str
    place: str
    revision: str = ""
    """Git commit of the DVC repository, where there is one."""
    md5: str = ""
    """DVC's own digest of the file."""


def read(data: Data, base: Path) -> tuple[pandas.DataFrame, Origin]:
    """The table, whose index is the number of the row from 1, and where it came from. Raises UserError."""
    frame, origin = _read(data, base)
    if frame.empty:
        raise UserError(f"data: {origin.place} has no rows")
    if len(frame) > MOST_ROWS:
        raise UserError(f"data: {len(frame):,} rows; at most {MOST_ROWS:,} are trained on")
    twice = [str(name) for name in frame.columns[frame.columns.duplicated()]]
    if twice:
        raise UserError(f"data: column {twice[0]} is there twice")
    frame.columns = [str(name) for name in frame.columns]
    frame.index = range(1, len(frame) + 1)  # type: ignore[assignment]
    return frame, origin


def _read(data: Data, base: Path) -> tuple[pandas.DataFrame, Origin]:
    if importlib.util.find_spec("pandas") is None:
        raise MissingExtra("train", "training")
    if data.sql is not None:
        return read_query(data.sql), Origin(kind="sql", place="the query")
    if data.dvc is not None:
        return _read_dvc(data.dvc, base)
    path = (base / Path(data.csv or data.parquet).expanduser()).resolve()
    if not path.is_file():
        raise ConfigError(f"data.{data.kind}: {data.csv or data.parquet}: no such file in {base}")
    return read_table(path, data.kind), Origin(kind=data.kind, place=path.name)


def read_table(file: Any, kind: str) -> pandas.DataFrame:
    """A path or an open file. Every cell of a CSV stays text, so that nothing is guessed from the first rows."""
    import pandas

    where = getattr(file, "name", file)
    try:
        if kind == "parquet":
            frame = pandas.read_parquet(file)
            named = [name for name in frame.index.names if name is not None]  # a column of the file like the others
            return frame.reset_index(named) if named else frame
        return pandas.read_csv(file, dtype=str, keep_default_na=False, na_values=list(MISSING), encoding="utf-8-sig")
    except ImportError as error:
        raise MissingExtra("arrow", "Parquet files") from error
    except (ValueError, OSError, TypeError, KeyError, NotImplementedError) as error:
        text = " ".join(str(error).split())[:300]
        raise UserError(f"data: {Path(str(where)).name} cannot be read as {kind}: {text}") from error


def _read_dvc(data: DvcData, base: Path) -> tuple[pandas.DataFrame, Origin]:
    try:
        from dvc.api import DVCFileSystem
        from dvc.exceptions import DvcException
        from scmrepo.exceptions import SCMError
    except ImportError as error:
        raise MissingExtra("dvc", "data that DVC tracks") from error
    remote = "://" in data.repo or data.repo.startswith("git@")
    repo = data.repo if remote else str((base / Path(data.repo).expanduser()).resolve())
    kind = "parquet" if data.path.endswith((".parquet", ".pq")) else "csv"
    try:
        files = DVCFileSystem(repo, rev=data.rev or None)
        with files.open(data.path, mode="rb") as file:
            frame = read_table(file, kind)
        info = files.info(data.path).get("dvc_info") or {}
        scm = files.repo.scm
        revision = str(getattr(files.repo, "get_rev", lambda: "")() or "") if data.rev else str(scm.get_rev())
    except (DvcException, SCMError, OSError) as error:
        where = f"{data.path}@{data.rev}" if data.rev else data.path
        raise UserError(f"data.dvc: {where}: {' '.join(str(error).split())[:300]}") from error
    return frame, Origin(kind="dvc", place=data.path, revision=revision, md5=str(info.get("md5") or ""))


def lines_of(frame: pandas.DataFrame) -> list[str]:
    """Each row as one line of text, the same for the same values in the same columns, whatever their order and whatever
    other rows there are."""
    table = frame[sorted(frame.columns)]
    lines = _written(table)
    if len(lines) == len(table):
        return lines
    texts = table.select_dtypes(object).columns  # some cell has a line break
    return _written(table.assign(**{name: table[name].map(_on_one_line) for name in texts}))


def _written(table: pandas.DataFrame) -> list[str]:
    text: str = table.to_csv(index=False, header=False, lineterminator="\n", na_rep="\\N")
    return text.split("\n")[:-1]


def _on_one_line(value: Any) -> Any:
    return value.replace("\n", "\x1e") if isinstance(value, str) else value


def digest(frame: pandas.DataFrame) -> str:
    """sha256 over the columns' names and all rows, whatever their order."""
    whole = hashlib.sha256("\x1f".join(sorted(frame.columns)).encode())
    for line in sorted(lines_of(frame)):
        whole.update(b"\n" + line.encode())
    return f"sha256:{whole.hexdigest()}"
