"""What a run does with a capture between its ticks: it listens and rests, and what fails there is an alarm."""

from __future__ import annotations

import math

import pytest
from compile_samples import ETHERNET, SMALL_KERNEL
from test_capture_account import packet
from test_capture_duty import Ring, World

import collectors.capture
from collectors.errors import CaptureError
from collectors.ring import Link
from shaper.compile import compile_interface
from shaper.policy import parse_policy
from shaper.run.alarms import Alarms
from shaper.run.capturing import REOPEN, Capturing

TEXT = """\
version: 1
interfaces: {wan: {device: eth1, bandwidth: {egress: 1gbit}, policy: p}}
policies: {p: {classes: {rest: {default: true, sla: {delay-p99: 5ms}}}}}
"""
PROGRAM = compile_interface(parse_policy(TEXT, source="p.yaml").interfaces[0], SMALL_KERNEL, ETHERNET)
EACH = 6_000
"""Frames a second, of one in eight packets."""


class Wall:
    """The world's time, whichever is asked for."""

    def __init__(self, world: World) -> None:
        self._world = world

    def now(self) -> float:
        return self._world.now

    boot = wall = monotonic = now

    def processor(self) -> float:
        return 0.0


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(collectors.capture, "PacketRing", made.ring)
    monkeypatch.setattr(collectors.capture, "link", lambda _: Link(1500, bytes(6)))
    return made


def ticks(world: World, capturing: Capturing, count: int) -> None:
    """A quarter of a second each, with tending as the loop does it; a packet waits a millisecond."""
    before, after = world.rings["shp-eth1"], world.rings["eth1"]
    for _ in range(count):
        tick = world.now + 0.25
        while world.now < tick:
            until = min(tick, world.now + max(capturing.wait, 1 / EACH))
            for number in range(int((until - world.now) * EACH)):
                at = world.now + number / EACH
                before.passes(at, packet(round(at * EACH) & 0xFFFFFF))
                after.passes(at + 0.001, packet(round(at * EACH) & 0xFFFFFF))
            world.now = until
            capturing.tend()
        capturing.window(PROGRAM, now=world.now, queued=None)


def test_between_ticks_it_listens_and_rests(world: World) -> None:
    capturing = Capturing(Wall(world), Alarms())
    assert capturing.wait == math.inf
    capturing.open(PROGRAM)
    ticks(world, capturing, 1)
    assert (capturing.wait, world.rings["eth1"].listens) == (math.inf, True)
    states = set()
    for _ in range(6):
        ticks(world, capturing, 1)
        states.add(world.rings["eth1"].listens)
    assert capturing.wait < 1.0
    assert states == {True, False}


def test_what_fails_between_ticks_is_an_alarm_and_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    alarms = Alarms()
    capturing = Capturing(Wall(world), alarms)
    capturing.open(PROGRAM)
    ticks(world, capturing, 4)

    def down(_: Ring) -> list[object]:
        raise CaptureError("eth1 is down", "bring it up")

    with monkeypatch.context() as broken:
        broken.setattr(Ring, "read", down)
        world.now += capturing.wait
        capturing.tend()
    assert (capturing.why, capturing.wait) == ("the capture broke off: eth1 is down", math.inf)
    assert alarms.texts() == ("delay is no longer measured: eth1 is down",)
    capturing.tend()
    world.now += REOPEN
    assert capturing.window(PROGRAM, now=world.now, queued=None) is not None
    assert (capturing.why, alarms.texts()) == ("", ())
