"""Completion, asked as the shells ask it, and the manual page, judged by man itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from shaper.cli.entry import cli
from shaper.cli.man import page
from shaper.run.state import namespace_key

POLICIES = Path(__file__).parents[2] / "policies"


def script(shell: str) -> str:
    return CliRunner().invoke(cli, ["completion", shell]).stdout


def completed(*words: str) -> list[str]:
    """What click answers a shell of any kind: the last word is the one that is not finished."""
    asked = ShellComplete(cli, {}, "shaper", "_SHAPER_COMPLETE").get_completions([*words[:-1]], words[-1])
    return [item.value for item in asked]


def test_commands_options_and_choices() -> None:
    assert completed("inst") == ["install-service"]
    assert "--wait-device" in completed("run", "--")
    assert completed("run", "--mode", "str") == ["structured"]
    assert completed("completion", "") == ["bash", "zsh", "fish"]


def test_interfaces_are_those_of_the_policy_on_the_line(tmp_path: Path) -> None:
    policy = str(POLICIES / "branch-office.yaml")
    assert completed("plan", policy, "--interface", "") == ["wan"]
    assert completed("plan", policy, "-i", "x") == []
    assert completed("plan", "-i", "") == []
    (tmp_path / "broken.yaml").write_text("version: [")
    assert completed("plan", str(tmp_path / "broken.yaml"), "-i", "") == []


def test_devices_are_those_that_the_state_folder_knows_or_else_the_machine_s(tmp_path: Path) -> None:
    assert "lo" in completed("status", "--state", str(tmp_path), "--device", "l")
    known = tmp_path / namespace_key() / "eth7"
    known.mkdir(parents=True)
    (known / "record.json").write_text("{}")
    assert completed("clear", "--state", str(tmp_path), "-d", "") == ["eth7"]


@pytest.mark.slow
def test_bash_completes(tmp_path: Path) -> None:
    if shutil.which("bash") is None:
        pytest.skip("missing capability: bash")
    (tmp_path / "shaper.bash").write_text(script("bash"))
    policy = POLICIES / "branch-office.yaml"
    asked = [("shaper inst", "install-service"), (f"shaper plan {policy} -i w", "wan")]
    for line, expected in asked:
        words = line.split()
        program = (
            f"source {tmp_path / 'shaper.bash'}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; "
            '_shaper_completion shaper; echo "${COMPREPLY[@]}"'
        )
        assert answer(["bash", "--norc", "-c", program]) == expected


@pytest.mark.slow
def test_fish_completes(tmp_path: Path) -> None:
    if shutil.which("fish") is None:
        pytest.skip("missing capability: fish")
    (tmp_path / "shaper.fish").write_text(script("fish"))
    program = f"source {tmp_path / 'shaper.fish'}; complete -C 'shaper inst'"
    assert answer(["fish", "--no-config", "-c", program]).split("\t")[0] == "install-service"


@pytest.mark.slow
def test_zsh_reads_its_script(tmp_path: Path) -> None:
    """Its completions need a terminal: what it is answered is looked at, and that the script is sound."""
    if shutil.which("zsh") is None:
        pytest.skip("missing capability: zsh")
    (tmp_path / "_shaper").write_text(script("zsh"))
    assert answer(["zsh", "-f", "-n", str(tmp_path / "_shaper")]) == ""
    asked = {"COMP_WORDS": "shaper inst", "COMP_CWORD": "1", "_SHAPER_COMPLETE": "zsh_complete"}
    assert answer(["zsh", "-f", "-c", "shaper"], **asked).splitlines()[:2] == ["plain", "install-service"]


def answer(command: list[str], **more: str) -> str:
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8", **more}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.stderr == ""
    return done.stdout.strip()


def test_the_manual_page_has_every_command_and_option() -> None:
    text = page(click.Context(cli, info_name="shaper"), made=date(2026, 11, 22)).replace("\\-", "-")
    for name in cli.list_commands(click.Context(cli)):
        assert f'.SS "shaper {name}' in text
    assert '.SS "shaper explain packet' in text
    assert ".B --wait-device DURATION\nWait so long" in text
    assert ".nf\nExit codes: 0 done" in text, "lines that are kept"
    assert "\b" not in text
    assert all(not line.startswith("'") for line in text.splitlines())


@pytest.mark.parametrize("judge", ["man --warnings -l -", "mandoc -Tlint -Wwarning"])
def test_man_has_nothing_to_say(judge: str) -> None:
    if shutil.which(judge.split(maxsplit=1)[0]) is None:
        pytest.skip(f"missing capability: {judge.split(maxsplit=1)[0]}")
    text = CliRunner().invoke(cli, ["man"]).stdout
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "MANPAGER": "cat"}
    done = subprocess.run(
        judge.split(), input=text, capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "install-service" in done.stdout or judge.startswith("mandoc")


@pytest.mark.parametrize("command", ["status", "confirm", "freeze", "history", "top"])
def test_who_reads_no_policy_waits_for_no_schema(command: str) -> None:
    """It takes half of the time in which a command starts, on a small router seconds."""
    script = f"import sys, shaper.cli.{command}; print('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False\n"
