"""Writes docs/reference/{settings,cli,metrics,errors}.md from the code they describe (`make docs`).

With --check it writes nothing, and exits with 1 when a page is stale.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from tidegate import errors, telemetry
from tidegate.cli import COMMANDS, app
from tidegate.config.environment import NOT_SETTINGS
from tidegate.config.fields import Field, fields_of
from tidegate.config.load import PROFILES
from tidegate.protocols import errors as tables
from tidegate.section import Section
from tidegate.settings import ALIASES, ENDPOINT_ALIASES, SECRETS, Settings

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"
NOTE = "<!-- Written by scripts/reference.py from the code; `make docs` writes it again. -->"


def settings_page() -> str:
    lines = [
        "# Settings",
        "",
        NOTE,
        "",
        "Sources, lowest first: the profile's defaults, `tidegate.yaml`, `.env` of the current folder, the environment, the command line. "
        "`tidegate config show` prints the merged values with their origins; `tidegate config check` finds mistakes. "
        "Unknown keys are errors. Paths start from the folder of `tidegate.yaml`.",
        "",
        "An environment name is `TIDEGATE_` and the key in capitals, `__` for each dot: "
        "`TIDEGATE_SERVER__PORT=9000`, `TIDEGATE_ENDPOINTS__IRIS__BATCHING__MAX_ROWS=64`. "
        "A list is written with commas; a table as JSON.",
        "",
    ]
    for title, prefix, section in _sections(Settings, "", "Top level"):
        lines += [f"## {title}", "", "| key | allowed | default | meaning |", "|---|---|---|---|"]
        for field in fields_of(section).values():
            if field.section is None:
                lines.append(f"| `{prefix}{field.name}` | {field.allowed} | {_default(field)} | {_cell(field.help)} |")
        lines.append("")
    lines += ["## Defaults of the profiles", "", "| key | " + " | ".join(PROFILES) + " |"]
    lines.append("|---|" + "---|" * len(PROFILES))
    for key in sorted({key for table in PROFILES.values() for key, _ in _flat(table)}):
        cells = [dict(_flat(table)).get(key) for table in PROFILES.values()]
        lines.append(f"| `{key}` | " + " | ".join("" if cell is None else f"`{_json(cell)}`" for cell in cells) + " |")
    lines += ["", "## Names from older systems", "", "| environment name | setting |", "|---|---|"]
    lines += [f"| `{name}` | `{key}` |" for name, key in sorted(ALIASES.items())]
    lines += ["", "These mean the default endpoint; where none is configured, they make one:", ""]
    lines += ["| environment name | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {meaning} |" for name, meaning in ENDPOINT_ALIASES.items()]
    lines += ["", "A `TIDEGATE_` name wins over its older name.", ""]
    lines += ["## Environment names that are no settings", "", "| name | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {meaning} |" for name, meaning in NOT_SETTINGS.items()]
    lines += ["", "Secrets, masked wherever settings are shown: " + ", ".join(f"`{key}`" for key in SECRETS) + "."]
    return "\n".join(lines) + "\n"


def _sections(section: type[Section], prefix: str, title: str) -> Iterator[tuple[str, str, type[Section]]]:
    yield title, prefix, section
    for field in fields_of(section).values():
        if field.section is not None:
            name = field.name.upper() if field.kind == "sections" else ""
            below = f"{prefix}{field.name}." + (f"{name.removesuffix('S')}." if name else "")
            yield from _sections(field.section, below, f"`{below.rstrip('.')}`")


def _default(field: Field) -> str:
    return "must be given" if field.required else f"`{_json(field.default)}`" if field.default is not None else "empty"


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def cli_page() -> str:
    lines = [
        "# Command line",
        "",
        NOTE,
        "",
        "A mistake is told in one line on stderr, with exit code 2; a trace is never shown. Ctrl-C ends with 130. "
        '`eval "$(tidegate completion bash)"` completes commands in your shell.',
        "",
        f"```\n{_help(app, 'tidegate')}\n```",
    ]
    context = click.Context(app)
    for name in COMMANDS:
        command = app.get_command(context, name)
        assert command is not None
        lines += ["", f"## tidegate {name}", "", f"```\n{_help(command, f'tidegate {name}')}\n```"]
        for below, inner in command.commands.items() if isinstance(command, click.Group) else ():
            text = _help(inner, f"tidegate {name} {below}")
            lines += ["", f"### tidegate {name} {below}", "", f"```\n{text}\n```"]
    return "\n".join(lines) + "\n"


def _help(command: click.Command, name: str) -> str:
    context = click.Context(command, info_name=name, max_content_width=100, terminal_width=100, show_default=True)
    return "\n".join(line.rstrip() for line in command.get_help(context).splitlines())


def metrics_page() -> str:
    lines = ["# Metrics, spans and log fields", "", NOTE, ""]
    lines += [
        "`GET /metrics` gives the sum over all serving processes. Labels are bounded: a name that is not configured becomes `other`. "
        "The control port has [metrics of its own](control-api.md#metrics).",
        "",
    ]
    lines += ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for metric in telemetry.METRICS:
        kind = "histogram" if metric.kind == "latency" else metric.kind
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{metric.name}` | {kind} | {labels} | {_cell(metric.help)} |")
    for title, table in (
        ("Spans", telemetry.SPANS),
        ("Attributes of spans", telemetry.SPAN_ATTRIBUTES),
        ("Fields of log lines", telemetry.LOG_FIELDS),
    ):
        lines += ["", f"## {title}", "", "| name | meaning |", "|---|---|"]
        lines += [f"| `{name}` | {_cell(meaning)} |" for name, meaning in table.items()]
    return "\n".join(lines) + "\n"


def errors_page() -> str:
    lines = [
        "# Errors",
        "",
        NOTE,
        "",
        "One error has one status on each protocol. On the native API it is `application/problem+json` with `type`, `title`, `status`, "
        "`detail`, `request_id` and `errors`, whose `loc` is the place in the body; rows are counted from 0.",
        "429 and 503 have `Retry-After`. A 500 tells the request id only; the cause is in the log under that id.",
        "",
        "| error | native | `type` ends with | v2 | MLflow | means |",
        "|---|---|---|---|---|---|",
    ]
    for kind, native in tables.NATIVE.items():
        v2, mlflow = tables.V2[kind].status, tables.MLFLOW[kind].status
        name = kind.__name__ if kind.__module__ == errors.__name__ else "anything else"
        lines.append(f"| {name} | {native.status} | `{native.code}` | {v2} | {mlflow} | {native.title} |")
    lines += ["", "The exceptions behind them:", "", "```", (errors.__doc__ or "").split("\n\n", 1)[1].strip(), "```"]
    return "\n".join(lines) + "\n"


PAGES = {"settings.md": settings_page, "cli.md": cli_page, "metrics.md": metrics_page, "errors.md": errors_page}


def stale() -> list[str]:
    """Names of pages that differ from what the code says."""
    return [
        name
        for name, page in PAGES.items()
        if not (FOLDER / name).is_file() or (FOLDER / name).read_text("utf-8") != page()
    ]


def main() -> None:
    names = stale()
    if "--check" in sys.argv:
        print("\n".join(f"docs/reference/{name} is stale: run make docs" for name in names))
        raise SystemExit(bool(names))
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in names:
        (FOLDER / name).write_text(PAGES[name](), "utf-8")
        print(f"docs/reference/{name}")


if __name__ == "__main__":
    main()
