"""The model of HTB: what must hold of any tree and any traffic, and single cases whose answer is known."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shaper.simulate import HtbModel, Packet, unmodelled
from shaper.tree import ROOT, FifoOptions, Handle, HtbClass, HtbOptions, Qdisc, Tree, ticks, tree

MBIT = 1_000_000
SECOND = 10**9
BURST = 3028
TOP = 0x5A000001
END = SECOND // 4
"""Of the traffic, in ns."""


def a_class(minor: int, parent: Handle, rate: int, ceil: int, *, prio: int = 0, quantum: int = 1514) -> HtbClass:
    return HtbClass(0x5A000000 | minor, parent, rate, ceil, ticks(BURST, rate), ticks(BURST, ceil), prio, quantum)


def a_tree(classes: Sequence[HtbClass], *, limit: int = 50_000) -> Tree:
    inner = {cls.parent for cls in classes}
    leaves = [cls.handle for cls in classes if cls.handle not in inner]
    fifos = [Qdisc((0x5B00 + n) << 16, leaf, "bfifo", FifoOptions(limit)) for n, leaf in enumerate(leaves)]
    return tree("eth1", [Qdisc(0x5A000000, ROOT, "htb", HtbOptions(leaves[0] & 0xFFFF)), *classes, *fifos])


@dataclass
class Outcome:
    """Departures as (ns, handle, packet), in order."""

    sent: list[tuple[int, Handle, Packet]] = field(default_factory=list)
    dropped: Counter[Handle] = field(default_factory=Counter)
    offered: Counter[Handle] = field(default_factory=Counter)
    left: dict[Handle, int] = field(default_factory=dict)

    def bytes_of(self, handle: Handle, begin: int, end: int) -> int:
        return sum(packet.size for at, one, packet in self.sent if one == handle and begin <= at < end)


def played(held: Tree, arrivals: Sequence[tuple[int, Handle, int]], *, until: int) -> Outcome:
    model, outcome, number = HtbModel(held), Outcome(), 0
    waiting = list(arrivals)
    heapq.heapify(waiting)
    while True:
        times = [*([waiting[0][0]] if waiting else []), *([model.next_event] if model.next_event is not None else [])]
        if not times or min(times) > until:
            break
        now = min(times)
        if waiting and waiting[0][0] == now:
            _, handle, size = heapq.heappop(waiting)
            outcome.offered[handle] += 1
            outcome.dropped[handle] += not model.enqueue(handle, Packet(number, size, now))
            number += 1
        while (sent := model.dequeue(now)) is not None:
            outcome.sent.append((now, *sent))
    outcome.left = {handle: one.queued_packets for handle, one in model.counters().items()}
    return outcome


class Flow(NamedTuple):
    """Packets of `size` bytes at `rate` bit/s from `begin` (ns) on, to the end of the traffic."""

    leaf: Handle
    size: int
    rate: int
    begin: int

    def packets(self) -> list[tuple[int, Handle, int]]:
        return [(at, self.leaf, self.size) for at in range(self.begin, END, self.size * 8 * SECOND // self.rate)]


class Link(NamedTuple):
    classes: tuple[HtbClass, ...]
    flows: tuple[Flow, ...]

    def packets(self) -> list[tuple[int, Handle, int]]:
        return [packet for flow in self.flows for packet in flow.packets()]


@st.composite
def links(draw: st.DrawFn) -> Link:
    """A link of 10 Mbit/s with leaves at its top and below an inner class, and traffic for them."""
    link = 10 * MBIT
    classes = [a_class(1, 0x5A000000, link, link)]
    parents = [TOP]
    if draw(st.booleans()):
        classes.append(a_class(2, TOP, 4 * MBIT, draw(st.sampled_from([5, 8, 10])) * MBIT))
        parents.append(0x5A000002)
    room = {TOP: 10 - (4 if len(parents) > 1 else 0), 0x5A000002: 4}
    for minor in range(16, 16 + draw(st.integers(1, 5))):
        parent = draw(st.sampled_from(parents))
        rate = draw(st.integers(1, 2)) if room[parent] > 2 else 0
        room[parent] -= rate
        rate = rate * MBIT or 8000
        ceil = max(rate, draw(st.sampled_from([1, 2, 5, 10])) * MBIT)
        quantum = draw(st.sampled_from([1514, 3000, 20_000]))
        classes.append(a_class(minor, parent, rate, ceil, prio=draw(st.integers(0, 2)), quantum=quantum))
    if len(parents) > 1 and all(cls.parent != parents[1] for cls in classes):
        classes.append(a_class(31, parents[1], MBIT, 10 * MBIT))
    inner = {cls.parent for cls in classes}
    leaves = [cls.handle for cls in classes if cls.handle not in inner]
    flows = []
    for leaf in leaves:
        size, rate = draw(st.integers(64, 1514)), draw(st.sampled_from([0, 100_000, MBIT, 3 * MBIT, 20 * MBIT]))
        if rate:
            flows.append(Flow(leaf, size, rate, draw(st.integers(0, 50_000_000))))
    return Link(tuple(classes), tuple(flows))


@given(links())
def test_no_packet_is_made_or_lost_and_each_class_keeps_its_order(link: Link) -> None:
    outcome = played(a_tree(link.classes), link.packets(), until=SECOND)
    sent = Counter(handle for _, handle, _ in outcome.sent)
    for handle, offered in outcome.offered.items():
        assert offered == sent[handle] + outcome.dropped[handle] + outcome.left[handle]
    order: dict[Handle, list[int]] = defaultdict(list)
    for _, handle, packet in outcome.sent:
        order[handle].append(packet.number)
    assert all(numbers == sorted(numbers) for numbers in order.values())


@given(links())
def test_no_class_sends_more_than_its_ceiling_and_burst_in_any_time(link: Link) -> None:
    outcome = played(a_tree(link.classes), link.packets(), until=SECOND)
    by_handle = {cls.handle: cls for cls in link.classes}
    through: dict[Handle, list[tuple[int, int]]] = defaultdict(list)
    for at, handle, packet in outcome.sent:
        passed = handle
        while passed in by_handle:
            through[passed].append((at, packet.size))
            passed = by_handle[passed].parent
    for handle, packets in through.items():
        ceil, most = by_handle[handle].ceil, 0.0  # a leaky bucket that is never over its burst and one packet
        level, last = 0.0, 0
        for at, size in packets:
            level = max(0.0, level - (at - last) * ceil / 8 / SECOND) + size
            last, most = at, max(most, level)
        # What a leaf sends within its rate is not asked for the ceilings above it: each may add a burst of its own.
        below = sum(
            1 for cls in link.classes if cls.parent == handle or by_handle.get(cls.parent, cls).parent == handle
        )
        assert most <= (1 + below) * (BURST + 1514 + 2)


@given(links())
def test_the_link_is_never_idle_while_something_waits_that_may_use_it(link: Link) -> None:
    """Where a leaf may have the whole link and is never empty, the link carries its rate."""
    greedy = a_class(40, TOP, 8000, 10 * MBIT, prio=7)
    flood = Flow(greedy.handle, 1000, 20 * MBIT, 0).packets()
    outcome = played(a_tree([*link.classes, greedy]), [*link.packets(), *flood], until=END)
    sent = sum(packet.size for at, _, packet in outcome.sent)
    assert sent >= 10 * MBIT / 8 * END / SECOND - BURST - 1514


@given(links())
def test_a_class_that_always_has_something_gets_its_rate(link: Link) -> None:
    outcome = played(a_tree(link.classes, limit=5000), link.packets(), until=END)
    for flow in link.flows:
        cls = next(one for one in link.classes if one.handle == flow.leaf)
        if flow.rate < 3 * cls.rate:
            continue
        begin = flow.begin + SECOND // 20  # more than 5000 bytes have waited then, and always will
        due = cls.rate / 8 * (END - begin) / SECOND
        assert outcome.bytes_of(cls.handle, begin, END) >= due - BURST - 2 * 1514


def backlogged(*leaves: HtbClass, size: int = 1000, seconds: int = 2) -> Outcome:
    """Every leaf has more than the link takes, all the time."""
    arrivals = [(at, leaf.handle, size) for leaf in leaves for at in range(0, seconds * SECOND, 400_000)]
    top = a_class(1, 0x5A000000, 10 * MBIT, 10 * MBIT)
    return played(a_tree([top, *leaves]), arrivals, until=seconds * SECOND)


def rate(outcome: Outcome, leaf: HtbClass, seconds: int = 2) -> float:
    return outcome.bytes_of(leaf.handle, SECOND // 2, seconds * SECOND) * 8 / (seconds - 0.5)


def test_what_is_left_over_is_shared_by_quantum() -> None:
    small = a_class(16, TOP, MBIT, 10 * MBIT, quantum=2000)
    large = a_class(17, TOP, MBIT, 10 * MBIT, quantum=6000)
    outcome = backlogged(small, large)
    assert rate(outcome, small) == pytest.approx(MBIT + 2 * MBIT, rel=0.02)
    assert rate(outcome, large) == pytest.approx(MBIT + 6 * MBIT, rel=0.02)


def test_the_lower_number_borrows_first_and_the_other_keeps_its_rate() -> None:
    first = a_class(16, TOP, MBIT, 10 * MBIT, prio=0)
    second = a_class(17, TOP, 3 * MBIT, 10 * MBIT, prio=1)
    outcome = backlogged(first, second)
    assert rate(outcome, first) == pytest.approx(7 * MBIT, rel=0.02)
    assert rate(outcome, second) == pytest.approx(3 * MBIT, rel=0.02)


def test_another_rate_takes_effect_and_throws_nothing_away() -> None:
    one, two = a_class(16, TOP, 2 * MBIT, 2 * MBIT), a_class(17, TOP, 8 * MBIT, 8 * MBIT)
    top = a_class(1, 0x5A000000, 10 * MBIT, 10 * MBIT)
    model = HtbModel(a_tree([top, one, two]))
    for number in range(40):
        assert model.enqueue(one.handle, Packet(number, 1000, 0))
    model.change(a_tree([top, a_class(16, TOP, 4 * MBIT, 4 * MBIT), two], limit=1000))
    assert model.counters()[one.handle].queued_packets == 40
    now, times = 0, []
    while model.queued:
        while model.dequeue(now) is not None:
            times.append(now)
        now = model.next_event or now
    assert times[-1] == pytest.approx((39_000 - BURST) * 8 / (4 * MBIT) * SECOND, rel=0.001)
    assert not model.enqueue(one.handle, Packet(41, 1001, now))


def test_what_the_model_does_not_know_is_named() -> None:
    leaf = a_class(16, TOP, MBIT, MBIT)
    held = a_tree([a_class(1, 0x5A000000, MBIT, MBIT), leaf])
    other = replace(
        held, qdiscs=tuple(replace(one, kind="fq_codel") if one.kind == "bfifo" else one for one in held.qdiscs)
    )
    assert unmodelled(held, [leaf.handle]) == []
    assert unmodelled(other, [leaf.handle]) == ["fq_codel"]
    assert unmodelled(other, []) == []
    with pytest.raises(ValueError, match="no queue of 5a00:10"):
        HtbModel(other).enqueue(leaf.handle, Packet(0, 100, 0))
    with pytest.raises(ValueError, match="HTB only"):
        HtbModel(replace(held, qdiscs=()))
