"""When a class wanted more than it got, tick by tick."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shaper.model.observation import ClassObservation
from shaper.sla import Waited, waited

TICK = 0.25


def tick(sent=1000, *, backlog=0, dropped=0):
    return ClassObservation("web", TICK, sent, 1, dropped, backlog, 0.0)


TICKS = st.builds(tick, st.integers(0, 10**6), backlog=st.sampled_from([0, 3000]), dropped=st.integers(0, 2))

ROWS = [
    ("nothing waits", [tick(), tick(), tick()], Waited()),
    ("a backlog at both ends", [tick(backlog=1), tick(700, backlog=1), tick()], Waited(TICK, 700)),
    ("a crowd that comes late in the tick", [tick(), tick(backlog=9000, dropped=200), tick(backlog=9000)], Waited()),
    ("a crowd that leaves early in it", [tick(backlog=9000), tick(dropped=20), tick()], Waited()),
    ("a packet that happens to be passing", [tick(), tick(backlog=1), tick()], Waited()),
    ("drops all the time, no queue", [tick(dropped=1), tick(700, dropped=1), tick(dropped=1)], Waited(TICK, 700)),
    ("drops that begin", [tick(), tick(dropped=1), tick(dropped=1)], Waited()),
    ("drops that end", [tick(dropped=1), tick(dropped=1), tick()], Waited()),
    ("starved", [tick(0, backlog=9000), tick(0, backlog=9000), tick(0, backlog=9000)], Waited(TICK, 0)),
    ("what is not known yet", [tick(backlog=1), tick(backlog=1)], Waited()),
]


@pytest.mark.parametrize(("what", "ticks", "expected"), ROWS, ids=[row[0] for row in ROWS])
def test_waiting(what, ticks, expected):
    assert waited(ticks) == expected


def test_who_never_waited_has_no_rate():
    assert Waited().rate is None
    assert Waited(0.5, 125_000).rate == 2_000_000


@given(st.lists(TICKS, max_size=30))
def test_tick_by_tick_it_adds_up_to_the_same(ticks):
    sums = Waited()
    for end in range(len(ticks) + 1):
        sums += waited(ticks[:end][-3:])
    assert sums == waited(ticks)
    assert 0 <= sums.seconds <= TICK * len(ticks)
