"""``tidegate model``: what a model takes and gives, how well it compiles, and which versions are registered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import msgspec

from tidegate.cli.registered import alias, list_, register
from tidegate.errors import ModelError, UserError
from tidegate.serving.runtimes.base import LoadedModel
from tidegate.settings import Trust
from tidegate.types import ModelRef, Signature, TensorSpec


@click.group()
def app() -> None:
    """Inspect, compile and register models."""


app.add_command(register)
app.add_command(list_)
app.add_command(alias)

_options_option = click.option(
    "--options", default="{}", help="The endpoint's options as a JSON object, such as a declared signature."
)


@app.command()
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--no-compile", is_flag=True, help="Do not try to compile it to ONNX.")
@_options_option
def inspect(model: str, as_json: bool, no_compile: bool, options: str) -> None:
    """Load a model as a server does, and show its signature, digest, runtime, cost and compilation.

    MODEL is a file, folder or URI; naming it here trusts it.
    """
    from tidegate.serving.runtimes.load import load_model, release

    given = parse_options(options)
    if no_compile:
        given["compile"] = False
    loaded = load_model(reference_to(model, given), trust_typed(model))
    try:
        if as_json:
            click.echo(json.dumps(described(loaded), indent=2, ensure_ascii=False))
        else:
            _show(loaded)
    finally:
        release(loaded)


@app.command("compile")
@click.argument("model")
@click.option("--output", "-o", type=click.Path(path_type=Path), default=Path("model.onnx"), help="File to write.")
@click.option("--reference", type=click.Path(path_type=Path), help="Rows to compare on too: .csv, .json or .npy.")
@click.option("--tolerance", type=click.FloatRange(min=0), default=1e-5, help="Largest difference of scores.")
@_options_option
def compile_(model: str, output: Path, reference: Path | None, tolerance: float, options: str) -> None:
    """Write the ONNX graph of a model, if it gives the same answers; exit code 2, and the reason, if not."""
    from tidegate.serving.runtimes.load import open_model

    given = {**parse_options(options), "tolerance": tolerance}
    if reference is not None:
        given["reference"] = str(reference.resolve())
    opened, digest, _ = open_model(reference_to(model, given), trust_typed(model))
    if opened.runtime_name == "onnx":
        raise ModelError(f"{model}: an ONNX graph already")
    if not opened.graph:
        raise ModelError(f"{model}: {opened.note or 'only estimators can be compiled'}")
    try:
        output.write_bytes(opened.graph)
    except OSError as error:
        raise UserError(f"{output}: cannot be written: {error.strerror or error}") from error
    click.echo(f"{output}: {len(opened.graph):,} bytes from {digest[:19]}; {opened.note}")


def parse_options(text: str) -> dict[str, Any]:
    try:
        options = json.loads(text)
    except ValueError as error:
        raise UserError(f"--options: not JSON: {error}") from error
    if not isinstance(options, dict):
        raise UserError("--options: expected a JSON object")
    return options


def reference_to(model: str, options: dict[str, Any]) -> ModelRef:
    return ModelRef(uri=model, options=options)


def trust_typed(model: str) -> Trust:
    """What the operator types is trusted: it is the same act as running it."""
    return Trust(pickles=(model,), schemes=("file", "models", "runs"))


def described(loaded: LoadedModel) -> dict[str, Any]:
    """Facts and signature as plain JSON values."""
    signature = loaded.signature
    return {
        **msgspec.to_builtins(loaded.facts),
        "inputs": [_plain(spec) for spec in signature.inputs],
        "outputs": [_plain(spec) for spec in signature.outputs],
        "labels": list(signature.labels),
        "example": {"inputs": {name: [value] for name, value in dict(signature.example or {}).items()}},
    }


def _plain(spec: TensorSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "datatype": spec.datatype,
        "shape": list(spec.shape),
        "content": spec.content,
        "required": spec.required,
        "allow_nan": spec.allow_nan,
        "columns": list(spec.columns),
    }


def _show(loaded: LoadedModel) -> None:
    from rich.console import Console
    from rich.table import Table

    facts, signature = loaded.facts, loaded.signature
    console = Console(highlight=False)
    summary = Table.grid(padding=(0, 2))
    summary.add_column()
    summary.add_column(overflow="fold")
    for name, text in (
        ("model", facts.uri),
        ("digest", facts.digest),
        ("runtime", f"{facts.runtime} on {facts.platform}"),
        ("size", f"{facts.size_bytes:,} bytes"),
        ("memory", f"{facts.memory_bytes / 1e6:.1f} MB while loading"),
        ("load", f"{facts.load_seconds:.2f} s, warm-up {facts.warmup_seconds * 1000:.1f} ms"),
        ("one row", f"{facts.single_row_ms:.3f} ms, {'on the event loop' if facts.inline else 'in a thread'}"),
        ("compilation", facts.compile_note or "none needed"),
        ("labels", ", ".join(signature.labels) or "none"),
    ):
        summary.add_row(name, text)
    console.print(summary)
    console.print(_table(signature))
    console.print(f"example: {json.dumps(described(loaded)['example'], ensure_ascii=False)}", soft_wrap=True)


def _table(signature: Signature) -> Any:
    from rich.table import Table

    table = Table("", "name", "datatype", "shape", "notes", title_justify="left")
    for side, specs in (("in", signature.inputs), ("out", signature.outputs)):
        for spec in specs:
            notes: list[str] = [] if spec.content == "number" else [spec.content]
            notes += [] if spec.required else ["optional"]
            notes += ["may be missing"] if spec.allow_nan else []
            notes += [f"columns {', '.join(spec.columns)}"] if spec.columns else []
            table.add_row(side, spec.name, spec.datatype, str(list(spec.shape)), "; ".join(notes))
    return table
