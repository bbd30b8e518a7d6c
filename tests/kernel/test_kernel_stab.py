"""A root's size table in the kernel: tc shows it, and every counter and limit below counts as the table says."""

from __future__ import annotations

import errno
import json
import random
import socket
from typing import TYPE_CHECKING

import pytest

from shaper.compile import compile_interface
from shaper.plan import diff
from shaper.plan.steps import Plan, Step, Verb
from shaper.policy import parse_policy
from shaper.tree import ROOT, FifoOptions, HtbClass, HtbOptions, Qdisc, SizeTable, size_table, ticks

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.kernel

TOP = 0x5A000000
LEAF = 0x5B010000
TABLES = {
    "docsis": size_table(overhead=4, mpu=64, atm=False, longest=1518),
    "overhead alone": size_table(overhead=-14, mpu=0, atm=False, longest=1514),
    "cells": size_table(overhead=-4, mpu=0, atm=True, longest=1514),
    "a large least": size_table(overhead=24, mpu=256, atm=False, longest=1538),
}
FRAME = b"\xff" * 6 + b"\x02" + b"\0" * 5 + b"\x88\xb5"  # to everybody, an ethertype for local experiments


def tree_with(table: SizeTable | None, *, rate: int = 1_000_000_000, limit: int = 1_000_000) -> list[Step]:
    cls = HtbClass(TOP | 1, TOP, rate, rate, ticks(3000, rate), ticks(3000, rate), 0, 1514)
    nodes = (Qdisc(TOP, ROOT, "htb", HtbOptions(1), table), cls, Qdisc(LEAF, TOP | 1, "bfifo", FifoOptions(limit)))
    return [Step(Verb.ADD, None, node) for node in nodes]


def send(lab: Lab, device: str, lengths: list[int]) -> None:
    def sending() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as out:
            out.bind((device, 0))
            for length in lengths:
                try:
                    out.send(FRAME.ljust(length, b"\0"))
                except OSError as error:
                    if error.errno != errno.ENOBUFS:  # what the queue dropped
                        raise

    lab.inside(sending)


@pytest.mark.parametrize("name", TABLES)
def test_the_counters_are_what_the_table_says(netns: Lab, name: str) -> None:
    table, device, kernel = TABLES[name], netns.link_pair().a, netns.kernel()
    kernel.send(device, tree_with(table))
    root = kernel.read(device).root()
    assert root is not None
    assert root.stab == table
    before = kernel.counters(device).classes[TOP | 1]
    lengths = random.Random(1).sample(range(60, 1515), 400)
    send(netns, device, lengths)
    counted = kernel.counters(device).classes[TOP | 1]
    own = counted.sent_packets - before.sent_packets - len(lengths)
    assert own >= 0
    others = own * table.count(256) * 2  # neighbour discovery of the kernel's own, should there be any
    whole = sum(table.count(length) for length in lengths)
    assert whole <= counted.sent_bytes - before.sent_bytes <= whole + others


def test_a_queue_and_its_limit_count_the_same_bytes(netns: Lab) -> None:
    table, device, kernel = TABLES["a large least"], netns.link_pair().a, netns.kernel()
    limit = 10 * 256 + 255
    netns.run(f"ip link set dev {device} addrgenmode none")
    kernel.send(device, tree_with(table, rate=8_000, limit=limit))
    send(netns, device, [100] * 200)
    counted = kernel.counters(device).classes[TOP | 1]
    assert counted.drops > 0
    assert counted.queued_packets == 10
    assert counted.backlog_bytes == 10 * 256


def test_tc_shows_what_was_meant_and_reads_the_same(netns: Lab) -> None:
    device, kernel = netns.link_pair().a, netns.kernel()
    kernel.send(device, tree_with(TABLES["cells"]))
    text = netns.run(f"tc -s -d qdisc show dev {device} root")
    assert "linklayer atm overhead -4" in text
    assert "tsize 2048" in text
    kernel.send(device, Plan(device, tuple(tree_with(TABLES["cells"]))).inverse().steps)
    netns.run(f"tc qdisc add dev {device} root handle 5a00: stab overhead 4 mpu 64 mtu 2047 tsize 2048 htb default 1")
    root = kernel.read(device).root()
    assert root is not None
    assert root.stab == TABLES["docsis"]._replace(linklayer=0)  # tc leaves unsaid what it takes for granted


def test_a_table_comes_changes_and_goes_in_place(netns: Lab) -> None:
    """No class and no queue is made anew, and what waits in one stays there."""
    device, kernel = netns.link_pair().a, netns.kernel()
    kernel.send(device, tree_with(None, rate=8_000))
    send(netns, device, [1000] * 20)
    waiting = kernel.counters(device).classes[TOP | 1].queued_packets
    assert waiting > 10
    steps = tree_with(TABLES["docsis"], rate=8_000)
    root = steps[0].node
    assert isinstance(root, Qdisc)
    for table in (TABLES["docsis"], TABLES["cells"], None):
        held = kernel.read(device).root()
        assert held is not None
        after = Qdisc(root.handle, ROOT, "htb", root.options, table)
        kernel.send(device, [Step(Verb.CHANGE, held, after)])
        assert kernel.read(device).root() == after
    assert kernel.counters(device).classes[TOP | 1].queued_packets >= waiting - 2
    assert json.loads(netns.run(f"tc -j qdisc show dev {device} root"))[0]["kind"] == "htb"


def test_a_policy_with_a_link_and_one_without_differ_in_one_hitless_step(netns: Lab) -> None:
    device, kernel = netns.link_pair().a, netns.kernel()

    def wanted(link: str) -> str:
        return (
            f"version: 1\ninterfaces: {{wan: {{device: {device}, bandwidth: {{egress: 20mbit}}, policy: p{link}}}}}\n"
            "policies: {p: {classes: {rest: {default: true}}}}\n"
        )

    start = kernel.read(device)
    plain, cable = (
        compile_interface(
            parse_policy(wanted(link), source="p.yaml").interfaces[0], kernel.capabilities(), kernel.link(device)
        )
        for link in ("", ", link: docsis")
    )
    there = diff(start, plain.tree, bounds={})
    kernel.send(device, there.steps)
    step, *more = diff(plain.tree, cable.tree, bounds={}).steps
    assert isinstance(step.after, Qdisc)
    assert (step.verb, step.after.parent) == (Verb.CHANGE, ROOT)
    assert all(one.verb is Verb.CHANGE for one in more)  # bursts, turns and queues, a few bytes larger
    kernel.send(device, [step, *more])
    assert kernel.read(device) == cable.tree
    back = diff(cable.tree, plain.tree, bounds={})
    kernel.send(device, back.steps)
    assert kernel.read(device) == plain.tree
    kernel.send(device, there.inverse().steps)
    assert kernel.read(device) == start
