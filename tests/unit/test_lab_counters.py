"""What the demo reads from `shaper run --json`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shaper.errors import ShaperError
from shaper.lab.counters import RunLines


def second(at: float, sent: int, waiting: tuple[float, int] = (0.0, 0)) -> dict[str, Any]:
    one = {"sent_bytes": sent, "waiting_s": waiting[0], "waiting_bytes": waiting[1], "rate_bit_s": 8000, "sla": "met"}
    return {"event": "second", "at": at, "classes": {"video": one}}


STREAM = b"".join(
    json.dumps(line).encode() + b"\n"
    for line in (
        {"event": "ready"},
        second(100.0, 0),
        second(101.0, 125_000),
        second(102.0, 250_000, (0.25, 25_000)),
        second(103.0, 375_000, (0.25, 25_000)),
        second(104.0, 500_000, (1.25, 150_000)),
        {"event": "summary", "seconds": 4.0, "classes": {}},
    )
)


@given(cuts=st.lists(st.integers(0, len(STREAM))).map(sorted))
def test_lines_are_read_however_the_pipe_cuts_them(cuts: list[int]) -> None:
    lines = RunLines()
    for begin, end in zip((0, *cuts), (*cuts, len(STREAM)), strict=True):
        lines.feed(STREAM[begin:end])
    assert lines.ready
    assert lines.summary is not None
    intervals = lines.by_second("video", start=100.2)
    assert sorted(intervals) == [0, 1, 2, 3]
    assert [interval.rate for interval in intervals.values()] == [1_000_000] * 4


def test_what_was_sent_while_it_waited_is_told_apart() -> None:
    lines = RunLines()
    lines.feed(STREAM)
    waiting = [interval.waiting for interval in lines.by_second("video", start=100.0).values()]
    assert waiting == [None, 800_000, None, 1_000_000]


def test_what_is_no_event_is_an_error() -> None:
    with pytest.raises(ShaperError, match="printed"):
        RunLines().feed(b"Traceback\n")


def test_a_class_that_was_never_named_has_no_rate() -> None:
    assert RunLines().rate_of("video") is None
