"""What the controller moves of a queue that holds packets: limits and targets, and that nothing is lost by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from numbered import Flow, Traffic, neighbours
from test_cli_kernel import until

from shaper.kernel.netlink import NetlinkKernel
from shaper.plan import diff
from shaper.plan.lowering import lowers
from shaper.plan.steps import Step, Verb
from shaper.run import ebbing
from shaper.tree import (
    ROOT,
    RTT_TARGETS,
    CakeOptions,
    CodelOptions,
    Diffserv,
    FqCodelOptions,
    FqPieOptions,
    Granted,
    Handle,
    HtbClass,
    HtbOptions,
    PieOptions,
    Qdisc,
    aqm_target,
    queue_limit,
    ticks,
    with_grants,
)

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.full

TOP: Handle = 0x5A000000
LEAF: Handle = 0x5B100000
RATE = 2_000_000
LATE = 4_000_000
"""us: a target that no packet here waits for, so that nothing is dropped or marked for it."""
PORT = 7001
STANDING, FEW = 200, 50
PACKET = 2304
"""Bytes of memory."""
FQ = FqCodelOptions(1000, LATE, LATE, 1514, 64, 4 << 20, True)
PIE = FqPieOptions(1000, 64, LATE, 1514, 4 << 20, True)
CAKE = CakeOptions(0, Diffserv.BESTEFFORT, rtt=LATE, target=LATE, memory=4 << 20)
QUEUES = {
    "fq_codel": ("fq_codel", FQ, FQ._replace(limit=FEW)),
    "fq_codel's memory": ("fq_codel", FQ, FQ._replace(memory=FEW * PACKET)),
    "codel": ("codel", CodelOptions(1000, LATE, LATE, True), CodelOptions(FEW, LATE, LATE, True)),
    "pie": ("pie", PieOptions(1000, LATE, True), PieOptions(FEW, LATE, True)),
    "fq_pie": ("fq_pie", PIE, PIE._replace(limit=FEW)),
    "cake": ("cake", CAKE, CAKE._replace(memory=FEW * PACKET)),
}


def made(lab: Lab, kernel: NetlinkKernel, device: str, kind: str, options: object) -> Qdisc:
    """A slow class with the queue, for the flow alone: what the kernel itself sends would be counted with it."""
    rate = HtbClass(TOP | 0x10, TOP, RATE, RATE, ticks(10_000, RATE), ticks(10_000, RATE), 3, 1514)
    queue = Qdisc(LEAF, TOP | 0x10, kind, options)  # type: ignore[arg-type]
    nodes = (Qdisc(TOP, ROOT, "htb", HtbOptions(0)), rate, queue)
    kernel.send(device, [Step(Verb.ADD, None, node) for node in nodes])
    lab.run(f"tc filter add dev {device} parent 5a00: protocol ip u32 match ip dport {PORT} 0xffff flowid 5a00:10")
    return queue


def lowering(name: str) -> tuple[str, Step]:
    kind, before, after = QUEUES[name]
    old, new = (Qdisc(LEAF, TOP | 0x10, kind, options) for options in (before, after))  # type: ignore[arg-type]
    step = Step(Verb.CHANGE, old, new)
    assert lowers(step)
    return kind, step


@pytest.mark.parametrize("name", QUEUES)
def test_the_kernel_throws_away_what_is_beyond(netns: Lab, name: str) -> None:
    pair, kernel = netns.link_pair(), netns.kernel()
    neighbours(netns, pair)
    kind, step = lowering(name)
    made(netns, kernel, pair.a, kind, QUEUES[name][1])
    flow = Flow(PORT, standing=STANDING * 1042)
    with Traffic(netns, pair, [flow]):
        until(lambda: kernel.occupancy(pair.a)[LEAF].packets > STANDING / 2)
        kernel.send(pair.a, [step])
        until(lambda: flow.received > STANDING + FEW)  # CAKE does it when the next packet comes
    print(f"{name}: {flow.missing} packets thrown away")
    assert flow.missing > STANDING / 2 - FEW


@pytest.mark.parametrize("name", QUEUES)
def test_a_limit_follows_its_queue_and_nothing_is_lost(netns: Lab, name: str) -> None:
    pair, kernel = netns.link_pair(), netns.kernel()
    neighbours(netns, pair)
    kind, step = lowering(name)
    made(netns, kernel, pair.a, kind, QUEUES[name][1])
    flow = Flow(PORT, standing=STANDING * 1042)
    with Traffic(netns, pair, [flow]):
        until(lambda: kernel.occupancy(pair.a)[LEAF].packets > STANDING / 2)
        left = ebbing.send(kernel, pair.a, [step], patience=0.3)
        assert left, "the queue stands, and its limit with it"
        between = kernel.read(pair.a).leaf_of(TOP | 0x10)
        assert between == left[0].before
        assert between not in (step.before, step.after)
        flow.standing = 20 * 1042
        until(lambda: kernel.occupancy(pair.a)[LEAF].packets <= 20)
        assert not ebbing.lower(kernel, pair.a, left)
        assert kernel.read(pair.a).leaf_of(TOP | 0x10) == step.after
    counted = kernel.counters(pair.a).classes[TOP | 0x10].drops
    print(f"{name}: {flow.sent} sent, {flow.received} received, {counted} dropped")
    assert flow.missing == counted, "neither received nor counted: thrown away with the limit"
    assert counted < STANDING / 4, "where the sender pauses the limit may follow a dip, and turn the rest away"
    assert not flow.disordered


@pytest.mark.parametrize("name", ["fq_codel", "codel", "pie", "fq_pie", "cake"])
def test_a_target_moves_and_nothing_is_lost(netns: Lab, name: str) -> None:
    """Between targets that no packet waits for: what is dropped then is dropped by the move."""
    pair, kernel = netns.link_pair(), netns.kernel()
    neighbours(netns, pair)
    kind, options, _ = QUEUES[name]
    held = made(netns, kernel, pair.a, kind, options)
    tree = kernel.read(pair.a)
    flow = Flow(PORT, standing=STANDING * 1042)
    with Traffic(netns, pair, [flow]):
        until(lambda: kernel.occupancy(pair.a)[LEAF].packets > STANDING / 2)
        for target in [LATE // 2, LATE] * 20:
            after = with_grants(tree, {TOP | 0x10: Granted(RATE, RATE, queue_limit(held.options) or 0, target)})
            kernel.send(pair.a, diff(tree, after, bounds={}).steps)
            assert kernel.read(pair.a) == after
            tree = after
            assert kernel.occupancy(pair.a)[LEAF].packets > STANDING / 4
    assert aqm_target(options) == LATE
    assert kernel.counters(pair.a).classes[TOP | 0x10].drops == 0
    assert not flow.missing
    assert not flow.disordered


def test_the_round_trip_of_a_cake_that_is_the_link_moves_and_nothing_is_lost(netns: Lab) -> None:
    """Its tins are set up anew with each move, and keep what waits in them."""
    pair, kernel = netns.link_pair(), netns.kernel()
    neighbours(netns, pair)
    options = CakeOptions(RATE, Diffserv.DIFFSERV4, rtt=RTT_TARGETS * LATE, target=LATE, memory=4 << 20)
    kernel.send(pair.a, [Step(Verb.ADD, None, Qdisc(TOP, ROOT, "cake", options))])
    tree = kernel.read(pair.a)
    flow = Flow(PORT, standing=STANDING * 1042)
    with Traffic(netns, pair, [flow]):
        until(lambda: kernel.occupancy(pair.a)[TOP].packets > STANDING / 2)
        for target in [LATE // 2, LATE] * 20:
            after = with_grants(tree, {TOP: Granted(RATE, RATE, 0, target)})
            (step,) = diff(tree, after, bounds={}).steps
            kernel.send(pair.a, [step])
            assert kernel.read(pair.a) == after
            tree = after
            assert kernel.occupancy(pair.a)[TOP].packets > STANDING / 4
    assert sum(tin.drops for tin in kernel.counters(pair.a).classes.values()) == 0
    assert not flow.missing
    assert not flow.disordered
