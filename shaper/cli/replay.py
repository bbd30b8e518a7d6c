"""`shaper replay`: recorded inputs through the present control law, and where it would decide otherwise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from shaper import control
from shaper.cli.common import json_option, print_json
from shaper.control import link
from shaper.errors import Exit, UnavailableError
from shaper.history.records import JournalLine
from shaper.history.schema import is_journal
from shaper.history.store import History
from shaper.model.decision import Decision
from shaper.report.render import console
from shaper.report.replay import Replayed, replay_json, replay_lines

_WHERE = "name the history.db in the folder of a device's state"


@click.command()
@click.argument("journal", metavar="JOURNAL", type=click.Path(path_type=Path))
@click.option("--last", type=click.IntRange(min=1), default=1000, show_default=True, help="So many decisions.")
@json_option
def replay(journal: Path, last: int, as_json: bool) -> int:
    """Put recorded decisions, of classes and of links that move, to the present controller.

    JOURNAL is a `history.db` in a state folder, or its folder. Each stands on what was recorded with it, so one that
    differs does not change the next. Changes nothing. Exit code 2 where some differ, 4 where none can be replayed.
    """
    path = journal / "history.db" if journal.is_dir() else journal
    if not path.exists():
        raise UnavailableError(f"{path} is not there", hint=_WHERE)
    if not is_journal(path):
        raise UnavailableError(f"{path} holds no decisions of the shaper's", hint=_WHERE)
    with History(path) as history:
        lines = history.journal(last=last)
    found = [Replayed(line, _again(line)) for line in lines if line.premise is not None or line.link is not None]
    differ = any(one.differs for one in found)
    code = Exit.NO_DATA if not found else Exit.CHANGES if differ else Exit.OK
    if as_json:
        print_json({"schema": 1, "exit": int(code), **replay_json(found, without=len(lines) - len(found))})
    else:
        out = console()
        for text in replay_lines(found, without=len(lines) - len(found)):
            out.print(text, soft_wrap=True)
    return code


def _again(line: JournalLine) -> Decision:
    """What the laws decide now; of what was not asked then, what stands there."""
    found = line.decision
    if line.premise is not None:
        found = control.step(line.premise.setup, line.premise.state, line.inputs, now=line.premise.now)[1]
        found = replace(found, held="; ".join(filter(None, (line.premise.frozen, found.held))))
    if line.link is None:
        return replace(found, link=line.decision.link)
    about = link.step(line.link.setup, line.link.state, line.link.seen, now=line.link.now)[1]
    held = (found.held, about.held) if line.premise is not None else (about.held,)
    return replace(found, link=about.move, held="; ".join(filter(None, held)))
