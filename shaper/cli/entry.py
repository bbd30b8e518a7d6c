"""The group of commands, and the one place where failures become exit codes."""

from __future__ import annotations

import signal
import sys
from types import FrameType

import click

from shaper import __version__
from shaper.cli import (
    apply,
    check,
    clear,
    completion,
    confirm,
    doctor,
    explain,
    export,
    history,
    import_,
    install_service,
    man,
    plan,
    rollback,
    run,
    schema,
    status,
    watchdog,
)
from shaper.cli.common import fail
from shaper.errors import Exit, ShaperError, internal


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="shaper")
def cli() -> None:
    """Moves bandwidth between the classes of a Linux interface until their SLAs hold, or says why they cannot.

    \b
    Exit codes: 0 done, 1 the tool failed, 2 (plan) there are changes, 3 (status) an SLA is missed, 4 (status) no data,
    64 usage, 65 a policy is wrong, 69 the kernel or machine lacks something, 75 try again, 77 not permitted.
    """


for command in (
    check.check,
    plan.plan,
    apply.apply,
    confirm.confirm,
    confirm.extend,
    rollback.rollback,
    history.history,
    status.status,
    run.run,
    clear.clear,
    doctor.doctor,
    explain.explain,
    schema.schema,
    watchdog.watchdog,
    install_service.install_service,
    completion.completion,
    man.man,
    import_.import_,
    export.export,
):
    cli.add_command(command)


_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _terminated(number: int, _: FrameType | None) -> None:
    """The first signal unwinds; those after it must not break into what gives back sockets and locks."""
    for each in _ENDING:
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)


def main() -> None:
    """Runs a command and ends the process with its exit code."""
    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, _terminated)
    as_json = "--json" in sys.argv
    try:
        code = cli.main(prog_name="shaper", standalone_mode=False)
    except click.exceptions.Abort:
        code = 130
    except click.UsageError as error:
        error.show()
        code = Exit.USAGE
    except click.ClickException as error:
        error.show()
        code = Exit.FAILED
    except ShaperError as error:
        code = fail(error, as_json=as_json, in_lines="run" in sys.argv[1:2])
    except Exception as error:
        code = fail(internal(error), as_json=as_json, in_lines="run" in sys.argv[1:2])
    sys.exit(int(code or 0))
