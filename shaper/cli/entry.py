"""The group of commands, and the one place where failures become exit codes."""

from __future__ import annotations

import signal
import sys
from importlib import import_module
from types import FrameType

import click

from shaper import __version__
from shaper.errors import Exit, ShaperError, internal

_COMMANDS = (
    "check",
    "plan",
    "apply",
    "confirm",
    "extend",
    "rollback",
    "history",
    "status",
    "run",
    "freeze",
    "thaw",
    "clear",
    "adopt",
    "release",
    "doctor",
    "measure",
    "top",
    "explain",
    "probe",
    "reflect",
    "simulate",
    "replay",
    "report",
    "schema",
    "watchdog",
    "install-service",
    "completion",
    "man",
    "import",
    "export",
)
_NAMES = {"install-service": "install_service", "import": "import_"}
_ELSEWHERE = {"extend": "confirm", "release": "adopt", "thaw": "freeze"}
"""Commands that stand in the file of another."""


class _Commands(click.Group):
    """Imports a command when it is asked for: half of a short command's time would go into what others need."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        name = _NAMES.get(cmd_name, cmd_name)
        found = getattr(import_module(f"shaper.cli.{_ELSEWHERE.get(cmd_name, name)}"), name)
        assert isinstance(found, click.Command)
        return found


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="shaper")
def cli() -> None:
    """Moves bandwidth between the classes of a Linux interface until their SLAs hold, or says why they cannot.

    \b
    Exit codes: 0 done, 1 the tool failed, 2 (plan) there are changes, 3 (status, report) an SLA is missed,
    4 (status, report, probe) no data, 64 usage, 65 a policy is wrong, 69 the kernel or machine lacks something,
    75 try again, 77 not permitted.
    """


_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _terminated(number: int, _: FrameType | None) -> None:
    """The first signal unwinds; those after it must not break into what gives back sockets and locks."""
    for each in _ENDING:
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _failed(error: ShaperError) -> int:
    from shaper.cli.common import fail  # noqa: PLC0415 # as late as the commands

    return fail(error, as_json="--json" in sys.argv, in_lines="run" in sys.argv[1:2])


class MisusedError(ShaperError):
    """A command line that says what no command understands."""

    exit = Exit.USAGE


def _misused(error: click.ClickException, code: Exit) -> int:
    """As click says it to a person; a program that asked for JSON gets an object as of any other failure."""
    if "--json" not in sys.argv:
        error.show()
        return code
    context = getattr(error, "ctx", None)
    failure = MisusedError(error.format_message(), hint=f"see `{context.command_path} --help`" if context else "")
    failure.exit = code
    return _failed(failure)


def main() -> None:
    """Runs a command and ends the process with its exit code."""
    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, _terminated)
    try:
        code = cli.main(prog_name="shaper", standalone_mode=False)
    except click.exceptions.Abort:
        code = 130
    except click.UsageError as error:
        code = _misused(error, Exit.USAGE)
    except click.ClickException as error:
        code = _misused(error, Exit.FAILED)
    except ShaperError as error:
        code = _failed(error)
    except Exception as error:
        code = _failed(internal(error))
    sys.exit(int(code or 0))
