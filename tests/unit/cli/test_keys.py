from __future__ import annotations

import click
import pytest

from tests.unit.cli.command import run
from tidegate.cli.keys import Time, _id, _show
from tidegate.errors import UserError


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90.0), ("1.5h", 5400.0), ("90d", 7_776_000.0)])
def test_times_have_a_unit(text: str, seconds: float) -> None:
    assert Time().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "90", "3x", "h", "-1h x"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(click.BadParameter, match="not a duration"):
        Time().convert(text, None, None)


def test_a_whole_key_names_its_id_and_its_secret_goes_nowhere() -> None:
    assert _id("tg_31ea140670df_IcPtUWHkcq7eKhpbbTA7UFL_IUnljVvNA6IO3FpOLag") == "31ea140670df"
    assert _id("31ea140670df") == "31ea140670df"


def test_only_the_key_is_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    view = {"id": "31ea", "name": "ci", "roles": ["operate"]}
    _show({"view": view, "key": "tg_31ea_secret"})
    assert capsys.readouterr().out == "tg_31ea_secret\n"
    with pytest.raises(UserError, match="not shown again"):
        _show({"view": view, "key": ""})


@pytest.mark.parametrize("arguments", [("keys", "list"), ("audit", "verify"), ("keys", "revoke", "x")])
def test_without_a_control_plane_there_is_one_line(arguments: tuple[str, ...]) -> None:
    result = run(*arguments, "--control", "http://127.0.0.1:9")
    assert result.exit_code == 2
    assert "no control plane answers at http://127.0.0.1:9" in result.stderr
    assert "Traceback" not in result.output
