"""`shaper man`: the manual page, made from the same text as `--help`, so that the two can't differ."""

from __future__ import annotations

import inspect
import os
import re
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime

import click

from shaper import __version__


@click.command()
@click.pass_context
def man(ctx: click.Context) -> None:
    """Print the manual page, for `shaper man | man -l -`, or shaper.1 in a folder of the man path."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")  # for packages that must be the same each time
    try:
        made = datetime.fromtimestamp(int(epoch or time.time()), UTC).date()
    except (ValueError, OverflowError, OSError) as error:
        raise click.UsageError(f"SOURCE_DATE_EPOCH is {epoch!r}, and no number of seconds since 1970") from error
    click.echo(page(ctx.find_root(), made=made))


def page(root: click.Context, *, made: date) -> str:
    """The manual page of a program in roff, with the day on which it was made."""
    name = root.info_name or "shaper"
    paragraphs = _paragraphs(root.command.help or "")
    lines = [
        f'.TH {name.upper()} 1 "{made}" "{name} {__version__}" "User Commands"',
        ".SH NAME",
        f"{name} \\- {_escape(root.command.get_short_help_str(limit=200)).rstrip('.')}",
        ".SH SYNOPSIS",
        f".B {name}",
        "COMMAND [OPTIONS] [ARGUMENTS]",
        ".SH DESCRIPTION",
        *_text(paragraphs),
        ".SH COMMANDS",
    ]
    for ctx in _commands(root):
        lines += [f'.SS "{_escape(_usage(ctx))}"', *_text(_paragraphs(ctx.command.help or ""))]
        for option, help_text in _options(ctx):
            lines += [".TP", f".B {_escape(option)}", _line(help_text)]
    return "\n".join(lines)


def _commands(ctx: click.Context) -> Iterator[click.Context]:
    """The commands that do something, those inside groups included, in the order of `--help`."""
    if not isinstance(ctx.command, click.Group):
        yield ctx
        return
    for name in ctx.command.list_commands(ctx):
        command = ctx.command.get_command(ctx, name)
        if command is not None:
            yield from _commands(click.Context(command, info_name=name, parent=ctx))


def _usage(ctx: click.Context) -> str:
    return " ".join((ctx.command_path, *ctx.command.collect_usage_pieces(ctx)))


def _options(ctx: click.Context) -> Iterator[tuple[str, str]]:
    for parameter in ctx.command.get_params(ctx):
        record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
        if record is not None and parameter.name != "help":
            yield record


def _paragraphs(text: str) -> list[str]:
    """Paragraphs as click wraps them; one that starts with \\b keeps its lines."""
    return [paragraph for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)) if paragraph.strip()]


def _text(paragraphs: list[str]) -> Iterator[str]:
    for number, paragraph in enumerate(paragraphs):
        if number:
            yield ".PP"
        if paragraph.startswith("\b"):
            yield from (".nf", *(_line(line) for line in paragraph.splitlines()[1:]), ".fi")
        else:
            yield _line(" ".join(paragraph.split()))


def _line(text: str) -> str:
    """A line that roff takes for text, whatever it starts with."""
    escaped = _escape(text)
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def _escape(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq").replace("\b", "")
