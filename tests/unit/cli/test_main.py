from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.cli.command import run
from tidegate import __version__
from tidegate.cli import COMMANDS, quietly
from tidegate.errors import UserError

HEAVY = ("rich", "httpx", "numpy", "onnxruntime", "yaml", "sklearn", "pandas", "uvicorn", "asyncio")


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def test_help_lists_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom tidegate.cli import main\nsys.argv = ['tidegate', '--help']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    code = end.code\n"
        f"print(code, [name for name in {HEAVY} if name in sys.modules])"
    )
    result = python(code)
    assert result.stdout.splitlines()[-1] == "0 []"
    for name, command in COMMANDS.items():
        assert f"  {name} " in result.stdout
        assert command.help.split(":")[0] in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    assert COMMANDS[name].help.split()[0] in result.stdout


def test_version() -> None:
    assert run("--version").stdout == f"tidegate {__version__}\n"


def test_a_mistyped_command_gets_a_suggestion() -> None:
    result = run("srve")
    assert result.exit_code == 2
    assert "serve" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--nothing",),
        ("srve",),
        ("serve", "--nothing"),
        ("serve", "--port", "many"),
        ("config", "show", "too", "much"),
        ("model", "inspect"),
        ("completion", "tcsh"),
        ("predict", "--batch-rows", "0"),
    ],
)
def test_a_mistake_in_the_command_is_one_line_that_shows_the_way(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: ")
    assert "--help'" in result.stderr


def test_no_command_shows_help() -> None:
    assert "Commands:" in run().output


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("tidegate con", ["control", "config"]),
        ("tidegate config sh", ["show"]),
        ("tidegate predict --batch", ["--batch-rows"]),
    ],
)
def test_shell_completion(words: str, expected: list[str]) -> None:
    environment = os.environ | {
        "_TIDEGATE_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    command = [sys.executable, "-m", "tidegate"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert [line.removeprefix("plain,") for line in result.stdout.split()] == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    assert "_TIDEGATE_COMPLETE" in run("completion", shell).stdout


def mistake() -> None:
    raise UserError("the port is busy")


def interrupt() -> None:
    raise KeyboardInterrupt


def test_a_users_mistake_is_one_line_without_a_trace(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        quietly(mistake)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: the port is busy\n"


def test_an_interrupt_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        quietly(interrupt)
    assert ended.value.code == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
def test_ctrl_c_during_a_command_is_quiet() -> None:
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "tidegate", "predict", "-", "--url", "http://127.0.0.1:9"]
    process = subprocess.Popen(command, stdin=reader, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        os.close(reader)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=20)
    finally:
        os.close(writer)
        process.kill()
    assert (process.returncode, output, errors) == (130, b"", b"")


def test_demo_says_which_port_is_busy_and_how_to_choose_another(tmp_path: Path) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        result = run("demo", "--port", str(port), "--folder", str(tmp_path / "run"))
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: port {port} is in use; choose another: PORT=")
    assert len(result.stderr.splitlines()) == 1
