"""Slices of time: what a capture says of them is true of every packet that they pick, whatever packets wait."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_capture_account import packet

import collectors.capture
from collectors.capture import Capture
from collectors.duty import SLICE, Duty
from collectors.ring import Frame, Instruction, Link
from collectors.sample import CaptureWindow, FlowKey
from collectors.slices import parted

VOICE = 0x10010
NS = 1_000_000_000
BEGUN = 1_000_000
HORIZON = 1.0
TICK = 0.25
RETIRED = 0.016


class World:
    """Two taps and the time. What goes out while nobody listens is not kept for anybody."""

    def __init__(self) -> None:
        self.now = float(BEGUN)
        self.rings: dict[str, Ring] = {}

    def ring(self, device: str, _: Sequence[Instruction]) -> Ring:
        self.rings[device] = Ring(self)
        return self.rings[device]


class Ring:
    """Hands frames over when their block retires."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.listens = True
        self.frames: list[Frame] = []

    def start(self) -> None: ...

    def close(self) -> None: ...

    def narrow(self, _: Sequence[Instruction]) -> None: ...

    def drops(self) -> int:
        return 0

    def listen(self, *, outgoing: bool) -> None:
        self.listens = outgoing

    def passes(self, stamp: float, data: bytes) -> None:
        if self.listens:
            self.frames.append((round(stamp * NS), 100, data))

    def read(self) -> list[Frame]:
        ready = [frame for frame in self.frames if frame[0] <= (self.world.now - RETIRED) * NS]
        self.frames = self.frames[len(ready) :]
        return ready


def voice(_: FlowKey) -> int:
    return VOICE


@pytest.fixture(scope="module", autouse=True)
def world() -> Iterator[World]:
    """One for all: a capture makes its rings anew."""
    made = World()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collectors.capture, "PacketRing", made.ring)
        patch.setattr(collectors.capture, "link", lambda _: Link(1500, bytes(6)))
        yield made


def windows(
    world: World, waits: Sequence[float | None], *, every: float, late: Sequence[float], whole: float = 20.0
) -> list[CaptureWindow]:
    """Packets that come one `every` so many seconds and wait so long each, or are lost; who tends it may be late."""
    capture = Capture(
        device="eth1",
        tap="copies",
        after_filter=(),
        sampling=4,
        classify=voice,
        horizon=HORIZON,
        audit_rate=0,
        filters=lambda _: ((), ()),
        duty=Duty(whole),
    )
    before, after = world.rings["copies"], world.rings["eth1"]
    first = world.now
    events = [(first + number * every, before, packet(number)) for number in range(len(waits))]
    events += [(first + n * every + wait, after, packet(n)) for n, wait in enumerate(waits) if wait is not None]
    events.sort(key=lambda event: event[0])
    found, tick, looked = [], first + TICK, 0
    end = first + len(waits) * every + HORIZON + 0.2
    while world.now < end:
        at = min(tick, max(capture.due, world.now) + late[looked % len(late)])
        looked += 1
        while events and events[0][0] <= at:
            stamp, ring, data = events.pop(0)
            ring.passes(stamp, data)
        world.now = at
        if at < tick:
            capture.tend(now=at)
        else:
            found.append(capture.drain(now=at))
            tick += TICK
    found.append(capture.settle(now=world.now, queued={}))
    return found


def total(found: Sequence[CaptureWindow]) -> tuple[list[float], int, int, int]:
    """Delays, what is lost, what was looked for and what came."""
    parts = [window.classes[VOICE] for window in found if VOICE in window.classes]
    taken = sum(part.arrived_packets if part.taken is None else part.taken for part in parts)
    delays = [delay for part in parts for delay in part.delays]
    return delays, sum(part.lost for part in parts), taken, sum(part.arrived_packets for part in parts)


@given(
    waits=st.lists(st.none() | st.floats(0.002, HORIZON * 0.8), min_size=10, max_size=400),
    late=st.lists(st.sampled_from((0.0, 0.0, 0.003, 0.08)), min_size=1, max_size=5),
)
def test_each_packet_that_a_slice_picks_is_matched_or_truly_lost(
    world: World, waits: list[float | None], late: list[float]
) -> None:
    found = windows(world, waits, every=0.01, late=late)
    delays, lost, taken, arrived = total(found)
    assert arrived == len(waits), "what arrives is counted as ever"
    assert len(delays) + lost == taken
    assert lost <= waits.count(None), "what came out is not lost"
    truth = sorted(wait for wait in waits if wait is not None)
    slices = [one for window in found if VOICE in window.classes for one in window.classes[VOICE].slices]
    assert sum(one.matched for one in slices) <= len(delays)
    assert sum(one.lost for one in slices) <= lost
    for delay in sorted(delays):  # each is one that a packet had, and no packet's twice
        while truth and truth[0] < delay - 1e-6:
            truth.pop(0)
        assert truth and truth.pop(0) == pytest.approx(delay, abs=1e-6)


def test_who_waits_long_is_not_left_out(world: World) -> None:
    """Of the packets a tenth wait 0.4 s: so do a tenth of those that slices pick, and none is left for lost."""
    waits = [0.4 if number % 10 == 3 else 0.004 for number in range(6000)]
    found = windows(world, waits, every=0.003, late=[0.0])
    delays, lost, taken, _ = total(found)
    assert (lost, len(delays)) == (0, taken)
    assert 300 < taken < 3000, "slices are a part of the time"
    assert sum(delay > 0.3 for delay in delays) / taken == pytest.approx(0.1, abs=0.01)


def test_times_of_long_queues_are_picked_as_often_as_they_last(world: World) -> None:
    waits = [0.3 if number // 500 % 2 else 0.003 for number in range(8000)]
    delays, lost, taken, _ = total(windows(world, waits, every=0.003, late=[0.0]))
    assert (lost, len(delays)) == (0, taken)
    assert 500 < taken < 4000
    assert sum(delay > 0.2 for delay in delays) / taken == pytest.approx(0.5, abs=0.05)


def test_each_slice_has_one_number_whatever_ticks_it_is_told_in(world: World) -> None:
    """Every packet waits as long as the number of its millisecond says: so each delay tells when it came."""
    waits = [0.05 + number * 1e-4 for number in range(4000)]
    found = windows(world, waits, every=0.002, late=[0.0, 0.003])
    came: dict[int, list[float]] = {}
    for part in (window.classes[VOICE] for window in found if VOICE in window.classes):
        for number, delays in parted(part.delays, part.slices):
            came.setdefault(number, []).extend((delay - 0.05) * 20 for delay in delays)
    always = came.pop(0)
    spans = sorted((min(times), max(times)) for times in came.values())
    assert len(spans) > 5
    assert max(always) < spans[0][0]
    assert all(last - first < SLICE for first, last in spans)
    assert all(one[1] + SLICE / 4 < other[0] for one, other in itertools.pairwise(spans)), "two are no one, one no two"
    assert [min(came[number]) for number in sorted(came)] == [first for first, _ in spans]


def test_it_listens_for_no_larger_a_share_than_the_copies_may_cost(world: World) -> None:
    found = windows(world, [0.002] * 4000, every=0.005, late=[0.0], whole=200.0)
    later = found[len(found) // 4 : -8]
    assert [window.listening for window in later] == pytest.approx([0.25] * len(later), rel=0.1)
    departed = sum(window.captured for window in later) - sum(w.classes[VOICE].arrived_packets for w in later)
    share = departed / sum(window.classes[VOICE].arrived_packets for window in later)
    assert share == pytest.approx(0.25, abs=0.03)
    assert all(window.classes[VOICE].matched for window in later if window.seconds > 0.4)


def test_few_packets_are_all_looked_for(world: World) -> None:
    found = windows(world, [0.01] * 100, every=0.02, late=[0.0], whole=1000.0)
    assert total(found)[2] == 100
    assert all(window.classes[VOICE].taken is None for window in found if VOICE in window.classes)
    assert {window.listening for window in found} == {1.0}


def sliced(*, rate: float) -> tuple[Duty, float]:
    """A duty in slices that has just begun to listen, and the time."""
    duty, now = Duty(whole=100.0), 10.0
    duty.rate(0, now=now)
    duty.rate(int(rate), now=now + 1)
    duty.turn(now=11.0, complete=11 * NS, waiting=False)
    duty.turn(now=duty.due, complete=11 * NS, waiting=False)
    assert not duty.listens
    now = duty.due
    duty.turn(now=now, complete=int(now * NS), waiting=False)
    assert duty.listens
    return duty, now


def test_a_slice_begins_with_the_first_packet_that_proves_it() -> None:
    duty, now = sliced(rate=400)
    old, new = (int((now - 0.01) * NS), 60, b""), (int((now + 0.02) * NS), 60, b"")
    before = duty.picks
    duty.hear([old])
    assert duty.picks == before, "a frame from before it listened again proves nothing"
    duty.hear([old, new])
    assert duty.picks == (new[0], new[0] + int(SLICE * NS))
    duty.turn(now=now + 0.05, complete=new[0], waiting=True)
    assert duty.listens and duty.due >= (new[0] / NS) + SLICE


def begins(*, waiting: bool) -> tuple[list[int], bool]:
    """When five slices begin, and whether it rests between them, where the picked come out at once or never."""
    duty, now = sliced(rate=400)
    found: list[int] = []
    rested = False
    while len(found) < 5:
        duty.hear([(int(now * NS), 60, b"")])
        if duty.picks[0] not in found[-1:]:
            found.append(duty.picks[0])
        now = duty.due
        duty.turn(now=now, complete=int((now - 0.02) * NS), waiting=waiting)
        rested |= not duty.listens
    return found, rested


def test_it_listens_on_while_anybody_waits_and_slices_come_when_they_would() -> None:
    """Were they to come sooner or later for it, those that wait long would not be picked as often as they come."""
    one, other = begins(waiting=False), begins(waiting=True)
    assert (one[1], other[1]) == (True, False)
    assert one[0] == pytest.approx(other[0], abs=1000)
    assert all(later - earlier < 1.1 * NS for earlier, later in itertools.pairwise(one[0]))


def test_it_listens_always_again_when_the_rate_has_long_been_half() -> None:
    duty, now = sliced(rate=400)
    for at in (12.0, 13.0, 14.0):
        assert duty.share < 1, "a pause is no end"
        duty.rate(40, now=at)
    assert duty.share == 1
    duty.hear([(int(now * NS), 60, b"")])
    duty.turn(now=14.0, complete=14 * NS, waiting=False)
    assert (duty.listens, duty.due) == (True, math.inf)
    assert duty.picks[1] > 10**18
