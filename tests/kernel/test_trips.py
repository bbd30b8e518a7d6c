"""Round trips of TCP beside the other measurements, on a real device: when they are looked at, and when not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from compile_samples import ETHERNET, SMALL_KERNEL
from test_virtual_tcp import connection

from shaper.compile import compile_interface
from shaper.policy import parse_policy
from shaper.run.alarms import Alarms
from shaper.run.clock import SystemClock
from shaper.run.trips import Trips

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.kernel

TEXT = """\
version: 1
interfaces:
  wan: {{device: {device}, netns: {netns}, bandwidth: {{egress: 20mbit}}, policy: p}}
policies:
  p: {{classes: {{web: {{guarantee: 1mbit, match: [{{proto: tcp, {asks}}}]}}, rest: {{default: true}}}}}}
"""


def test_a_class_is_followed_and_let_go_while_none_may_be_copied(netns: Lab) -> None:
    pair, clock, alarms = netns.link_pair(), SystemClock(), Alarms()
    text = TEXT.format(device=pair.a, netns=netns.name, asks="dport: 7001")
    program = compile_interface(parse_policy(text, source="p").interfaces[0], SMALL_KERNEL, ETHERNET)
    trips = Trips(clock, alarms)
    trips.open(program)
    try:
        with connection(netns, pair, 7001) as sending:

            def seen(count: int, *, rests: bool = False) -> int | None:
                for _ in range(count):
                    sending.sendall(bytes(100))
                    time.sleep(0.005)
                time.sleep(0.1)  # an idle ring holds its last frames for 16 ms
                trips.read(program, now=clock.boot(), rests=rests)
                views = trips.views(program, flows=3)
                if not views:
                    return None
                assert (views["rest"].segments, views["web"].largest[0].samples) == (0, views["web"].samples)
                return views["web"].segments

            assert (seen(20) or 0) > 10
            assert seen(20, rests=True) is None
            assert "copied" in trips.why
            trips.read(program, now=clock.boot())
            assert 10 < (seen(20) or 0) <= 25, "it begins anew"
        assert (trips.why, alarms.texts()) == ("", ())
        netns.run(f"ip link set {pair.a} down")
        trips.read(program, now=clock.boot())
        assert f"{pair.a} is down" in trips.why
        assert alarms.texts() == (trips.why,)
    finally:
        trips.release()


def test_where_no_packet_shows_the_class_it_says_so_and_opens_nothing(netns: Lab) -> None:
    text = TEXT.format(device="nowhere", netns=netns.name, asks="tcp-flags: syn")
    program = compile_interface(parse_policy(text, source="p").interfaces[0], SMALL_KERNEL, ETHERNET)
    trips = Trips(SystemClock(), (alarms := Alarms()))
    trips.open(program)
    assert "does not show" in trips.why
    assert (trips.views(program), alarms.texts()) == ({}, ())
