"""The ``tidegate`` command. Each command's module is imported when it runs, not when help is shown."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import click
from click.exceptions import NoArgsIsHelpError
from click.shell_completion import CompletionItem, get_completion_class

from tidegate import __version__
from tidegate.errors import UserError

USER_ERROR = 2
INTERRUPTED = 130


class Command(NamedTuple):
    """``target`` is a click command or group in ``tidegate.cli.<module>``."""

    module: str
    target: str
    help: str


COMMANDS = {
    "serve": Command("serve", "serve", "Serve models: a file, a folder, or all endpoints of tidegate.yaml."),
    "up": Command("up", "up", "Run both planes on this machine: predictions, releases, console."),
    "control": Command("plane", "control", "Run the control plane alone: releases, control API, console."),
    "worker": Command("worker", "worker", "Run jobs: batch predictions, trainings, reports, notifications."),
    "predict": Command("predict", "predict", "Send rows of a file or of stdin to a server, print the answers."),
    "reload": Command("serve", "reload", "Make a running server read its configuration again."),
    "model": Command("model", "app", "Inspect and compile models."),
    "release": Command("release", "app", "Release a new version as far as the evidence allows."),
    "train": Command("train", "train", "Train, compare with the champion, register what is good enough."),
    "retrain": Command("retrain", "app", "Train an endpoint's model anew, and release it if it is as good."),
    "experiment": Command("experiment", "app", "Run A/B experiments and read their reports."),
    "monitor": Command("monitor", "app", "Watch drift and quality, of endpoints or of files."),
    "baseline": Command("baseline", "app", "Make and look at what production is compared with."),
    "alert": Command("alert", "app", "Look at alerts, and silence them."),
    "report": Command("report", "app", "Make pages to read: drift, quality, or both with alerts."),
    "batch": Command("batch", "app", "Predict every row of a file, as a job."),
    "job": Command("job", "app", "Look at jobs, cancel them, try them again."),
    "keys": Command("keys", "app", "Make, list, rotate and revoke API keys."),
    "audit": Command("audit", "app", "Read and verify the log of all changes."),
    "store": Command("store", "app", "Migrate, look at and clean up the store."),
    "config": Command("config", "app", "Show and check the configuration."),
    "doctor": Command("doctor", "doctor", "Find out what is missing on this machine."),
    "demo": Command("demo", "demo", "Release a better model and a faulty one under live traffic."),
    "completion": Command("__init__", "completion", "Print the script that completes commands in your shell."),
}


class LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        command = COMMANDS.get(cmd_name)
        if command is None:
            return None
        module = __name__ if command.module == "__init__" else f"{__name__}.{command.module}"
        found: click.Command = getattr(importlib.import_module(module), command.target)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            ctx.fail(f"no command {args[0]}" + (f"; did you mean {near[0]}?" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [
            CompletionItem(name, help=command.help) for name, command in COMMANDS.items() if name.startswith(incomplete)
        ]
        return names or click.Command.shell_complete(self, ctx, incomplete)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        made: click.Context = quietly(lambda: super(LazyGroup, self).make_context(info_name, args, parent, **extra))
        return made

    def invoke(self, ctx: click.Context) -> Any:
        return quietly(lambda: super(LazyGroup, self).invoke(ctx))


def quietly(act: Callable[[], Any]) -> Any:
    """A user's mistake becomes one line and exit code 2; Ctrl-C ends without a word."""
    try:
        return act()
    except UserError as error:
        click.echo(f"error: {error}", err=True)
        raise SystemExit(USER_ERROR) from None
    except NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx is not None else "tidegate"
        text = error.format_message().replace("\n", " ").rstrip(".")
        click.echo(f"error: {text}; see '{where} --help'", err=True)
        raise SystemExit(USER_ERROR) from None
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 100},
)
@click.version_option(__version__, prog_name="tidegate", message="%(prog)s %(version)s")
def app() -> None:
    """Serve machine-learning models, and let a new version through only as far as the evidence allows."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes commands in your shell; for bash: eval "$(tidegate completion bash)"."""
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(app, {}, "tidegate", "_TIDEGATE_COMPLETE").source())


def main() -> NoReturn:
    quietly(lambda: app(prog_name="tidegate"))
    raise SystemExit(0)
