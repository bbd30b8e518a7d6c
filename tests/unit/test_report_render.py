"""What people read, against golden files: plain in a pipe, nothing cut, nothing obeyed that a stranger wrote."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_golden import golden
from report_samples import HELD, PROBED, READ_ONCE, RUNNING, VIDEO
from report_trees import NAMES, PLAN
from rich.console import Console

from shaper.errors import Problem, Where
from shaper.model.status import InterfaceStatus
from shaper.plan.steps import Plan
from shaper.report.render import console, doctor_view, plan_view, problems, status_view

SOURCE = """version: 1
policies:
  branch:
    limitt: 5mbit
\tdscp: [ef, é日本, ef]
"""


def printed(show: Callable[[Console], None]) -> str:
    stream = io.StringIO()
    show(console(stream))
    return stream.getvalue()


def status_text(status: InterfaceStatus) -> str:
    return printed(lambda out: status_view(status, out=out))


def problem_text(*found: Problem, summary: bool = False, source: str | None = SOURCE) -> str:
    return printed(lambda out: problems(found, out=out, summary=summary, source_text=lambda _: source))


@pytest.mark.parametrize(
    ("name", "status"), [("running", RUNNING), ("held", HELD), ("read-once", READ_ONCE), ("probed", PROBED)]
)
def test_status(name: str, status: InterfaceStatus) -> None:
    golden(f"status-{name}.txt", status_text(status))


def test_what_was_only_read_says_that_delay_is_not_measured() -> None:
    text = status_text(READ_ONCE)
    assert "No `shaper run` is up" in text
    assert "9000000" in text
    assert "p99" not in text


def test_plan() -> None:
    golden("plan.txt", printed(lambda out: plan_view(PLAN, names=NAMES, notes=("no fq_codel here",), out=out)))


def test_a_plan_that_was_carried_out_says_so() -> None:
    text = printed(lambda out: plan_view(PLAN, names=NAMES, notes=(), out=out, done=True))
    assert text.endswith("eth1: 8 added, 4 changed, 3 removed; 5 disruptive (!), 10 hitless\n")


def test_an_empty_plan_says_so() -> None:
    text = printed(lambda out: plan_view(Plan("eth1"), names={}, notes=(), out=out))
    assert text == "eth1: nothing to do, the kernel holds what the policy says\n"


def test_a_plan_of_what_comes_in_names_the_device_and_the_direction() -> None:
    text = printed(lambda out: plan_view(Plan("shi-eth1"), names={}, notes=(), out=out, place="eth1 (ingress)"))
    assert text == "eth1 (ingress): nothing to do, the kernel holds what the policy says\n"


def test_doctor() -> None:
    rows = (
        ("qdisc htb", "ok", "", ""),
        (
            "qdisc fq_codel",
            "missing",
            "not in this kernel",
            "leaves are FIFOs sized in time by the class's delay target, and never below one full super-packet",
        ),
        ("program tc", "needed", "netlink: Operation not permitted", "run as root"),
    )
    golden("doctor.txt", printed(lambda out: doctor_view(rows, out=out)))


def test_problems() -> None:
    golden(
        "problems.txt",
        problem_text(
            Problem(
                "a", Where("p.yaml", 4, 5), "policies.branch.limitt", "unknown key 'limitt'", "did you mean limit?"
            ),
            Problem("b", Where("p.yaml", 5, 18), "", "ef is named twice"),
            Problem("c", Where("p.yaml", 99, 1), "", "the file ends too early"),
            Problem("d", None, "", "not permitted", "run as root"),
            summary=True,
        ),
    )


@pytest.mark.parametrize("column", [1, 61, 200, 401, 999])
def test_the_caret_stands_under_its_column_in_a_long_line(column: int) -> None:
    line = "".join(chr(ord("a") + position % 26) for position in range(400))
    _, excerpt, caret = problem_text(Problem("a", Where("f", 1, column), "", "m"), source=line).splitlines()
    under = excerpt[caret.index("^") :][:1]
    assert under == line[column - 1 : column]
    assert len(excerpt) <= 100


def test_a_file_that_is_gone_costs_only_the_excerpt() -> None:
    assert problem_text(Problem("a", Where("f", 1, 1), "", "m"), source=None) == "f:1:1: error: m\n"


@given(st.text(max_size=30), st.integers(1, 6), st.integers(1, 40))
def test_any_text_can_be_shown(text: str, line: int, column: int) -> None:
    problem = Problem("a", Where("f", line, column), "", text, text)
    shown = problem_text(problem, source=text * 3)
    assert all(char.isprintable() or char in "\n\t" for char in shown)


def test_markup_and_terminal_commands_are_shown_not_obeyed() -> None:
    status = replace(
        RUNNING,
        policy="[bold]x[/bold]",
        classes=(replace(VIDEO, path="[red]a\x1b[31m"),),
        alarms=("[link=x]\x1b]0;title\x07",),
    )
    text = status_text(status)
    assert "[bold]x[/bold]" in text
    assert "[red]a\\x1b[31m" in text
    assert "[link=x]\\x1b]0;title\\x07" in text
    assert "\x1b" not in text


def test_numbers_are_never_cut() -> None:
    path = "an/inner/class/with/a/very/long/path"
    wide = replace(VIDEO, path=path, guarantee=123_456_789, sent_bytes=10**15)
    for width in (40, 80, 100):
        for status in (RUNNING, READ_ONCE):
            stream = io.StringIO()
            out = Console(file=stream, width=width, force_terminal=width < 100, color_system=None)
            status_view(replace(status, classes=(wide,)), out=out)
            text = stream.getvalue()
            assert "6.5mbit" in text
            assert ("41/71.2/80" if status.running else "1000000000000000") in text
            if width == 100:
                assert "123.457mbit/20mbit" in text


def test_a_terminal_of_80_columns_gets_a_table_that_fits() -> None:
    stream = io.StringIO()
    terminal = Console(file=stream, width=80, force_terminal=True, color_system=None)
    status_view(replace(RUNNING, controller=READ_ONCE.controller), out=terminal)
    lines = stream.getvalue().splitlines()
    rows = [line for line in lines if line.startswith(("voice  ", "video  ", "bulk  ", "office/"))]
    assert len(rows) == 4 + 3 + 2, "the second table has those that were measured, the third what is known beyond"
    assert max(map(len, rows)) <= 80


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("no_color", [False, True])
def test_colour_only_on_a_terminal_that_wants_it(monkeypatch: pytest.MonkeyPatch, no_color: bool) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    stream = _Terminal()
    status_view(RUNNING, out=console(stream))
    assert ("\x1b[1;31m" in stream.getvalue()) is not no_color
