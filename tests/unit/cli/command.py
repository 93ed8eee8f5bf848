"""Runs the command line in this process."""

from __future__ import annotations

from collections.abc import Mapping

from click.testing import CliRunner, Result

from tidegate.cli import app


def run(*arguments: str, stdin: str | bytes | None = None, environment: Mapping[str, str] | None = None) -> Result:
    given = {"TIDEGATE_CONFIG": None, "TIDEGATE_URL": None, "TIDEGATE_KEY": None} | dict(environment or {})
    return CliRunner().invoke(app, list(arguments), input=stdin, env=given, catch_exceptions=False)
