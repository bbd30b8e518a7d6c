"""The history of changes and what waits, as people read them."""

from __future__ import annotations

import io
from dataclasses import replace

from report_samples import RUNNING

from shaper.model.change import Change, Who, outcomes
from shaper.model.status import PendingConfirmation
from shaper.report.as_json import status_from_json, status_json
from shaper.report.changes import change_view, changes_view
from shaper.report.render import console, status_view

ME = Who(0, "root", "alice", "pts/3")
APPLY = Change(
    2, 1.7e9, "apply", ME, "eth1", why="ticket \x1b[31m7", interface="wan", source="/etc/office.yaml",
    sha256="ab" * 32, before=1, confirmation="a1b2c3", steps=("class voice: rate 1mbit -> 2mbit",), step_count=3,
    disruptive=1, result="done",
)  # fmt: skip
EXPIRY = replace(APPLY, number=3, what="expiry", of=2, why="nobody confirmed it in time")


def shown(*changes: Change, damaged: int = 0) -> str:
    stream = io.StringIO()
    changes_view(changes, device="eth1", damaged=damaged, out=console(stream))
    return stream.getvalue()


def test_a_change_that_waits_and_what_became_of_it() -> None:
    assert outcomes((APPLY,))[0].result == "waits for its confirmation"
    assert outcomes((APPLY, EXPIRY))[0].result == "rolled back by 3"
    assert outcomes((APPLY, replace(EXPIRY, what="confirm")))[0].result == "confirmed by 3"
    assert outcomes((APPLY, replace(EXPIRY, result="failed")))[0].result == "waits for its confirmation"
    assert outcomes((replace(APPLY, result="failed"), EXPIRY))[0].result == "failed"


def test_the_table_cuts_nothing_and_obeys_nothing() -> None:
    text = shown(*outcomes((APPLY, EXPIRY)), damaged=2)
    assert "\x1b" not in text
    for words in (
        "root (sudo by alice) on pts/3",
        "office.yaml abababab",
        "rolled back by 3",
        "expiry of 2",
        "2 lines",
    ):
        assert words in text


def test_one_change_with_its_steps_its_difference_and_its_policy() -> None:
    stream = io.StringIO()
    change_view(APPLY, diff=["-old", "+new"], text="version: 1\n", out=console(stream))
    text = stream.getvalue()
    for words in ("change 2 of eth1: apply", "3 steps, 1 of them disruptive", "and 2 more", "+new", "version: 1"):
        assert words in text


def test_the_status_says_what_waits() -> None:
    pending = PendingConfirmation("a1b2c3", 2, 41.7, judged=30.2, guarded=False, trouble="no right")
    status = replace(RUNNING, confirmation=pending)
    stream = io.StringIO()
    status_view(status, out=console(stream))
    text = stream.getvalue()
    for words in (
        "it is rolled back in 42 s",
        "decides in 30 s",
        "shaper confirm a1b2c3",
        "watchdog is gone",
        "no right",
    ):
        assert words in text
    assert status_json(status)["confirmation"]["left_s"] == 41.7
    assert status_from_json(status_json(status)) == status
