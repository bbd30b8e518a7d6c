"""The same steps against the fake and against a real kernel: the same answers, the same trees.

The fake is what most other tests stand on; this holds it to the kernel, errno by errno. Without the right to make a
network namespace the sequences still run on the fake alone, where they must leave it consistent.
"""

from __future__ import annotations

import itertools
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from shaper.errors import UnavailableError
from shaper.kernel.fake import FakeKernel
from shaper.kernel.netlink import NetlinkKernel
from shaper.kernel.protocol import Kernel, StepError
from shaper.plan.steps import Step, Verb
from shaper.tree import (
    CLSACT,
    CLSACT_EGRESS,
    CLSACT_HANDLE,
    CLSACT_INGRESS,
    POSTROUTING,
    ROOT,
    U32_ROOT,
    BpfFilter,
    FifoOptions,
    FlowerFilter,
    FqCodelOptions,
    HtbClass,
    HtbOptions,
    Ifb,
    Insn,
    MarkChain,
    MarkSet,
    MarkTable,
    Node,
    Qdisc,
    RawOptions,
    Restore,
    SizeTable,
    Statement,
    U32Filter,
    U32Key,
    U32Link,
    U32Table,
    flower_key,
    size_table,
    tree,
    u32_place,
)

DEVICE = "dev0"
MAJOR = 0x5A00
TOP = MAJOR << 16
MISS = (Insn(0x06, 0, 0, 0),)
ALL = (Insn(0x28, 0, 0, 12), Insn(0x15, 0, 1, 0x0800), Insn(0x06, 0, 0, 0xFFFFFFFF), Insn(0x06, 0, 0, 0))
BROKEN = (Insn(0x15, 5, 9, 0), Insn(0x06, 0, 0, 0))
_serial = itertools.count()


def root(default: int = 0x30, major: int = MAJOR) -> Qdisc:
    return Qdisc(major << 16, ROOT, "htb", HtbOptions(default))


def counting(table: SizeTable, default: int = 0x30) -> Qdisc:
    """A root with a size table."""
    return replace(root(default), stab=table)


def cls(minor: int, parent: int = 0, *, rate: int = 8_000_000, prio: int = 3, quantum: int = 1514) -> HtbClass:
    return HtbClass(TOP | minor, TOP | parent, rate, max(rate, 16_000_000), 15625, 15625, prio, quantum)


def leaf(minor: int, limit: int = 30_000, kind: str = "bfifo") -> Qdisc:
    return Qdisc(0x5B000000 + (minor << 16), TOP | minor, kind, FifoOptions(limit))


def codel(minor: int, memory: int = 30_000, **changed: int) -> Qdisc:
    options = FqCodelOptions(10240, 5120, 102_400, 1514, 1024, memory, True)._replace(**changed)
    return Qdisc(leaf(minor).handle, TOP | minor, "fq_codel", options)


def clsact() -> Qdisc:
    return Qdisc(CLSACT_HANDLE, CLSACT, "clsact")


def classifier(preference: int = 10, handle: int = 1, *, classid: int = 0, **fields: object) -> BpfFilter:
    return BpfFilter(TOP, preference, handle, ALL, classid=classid, **fields)  # type: ignore[arg-type]


def flower(
    preference: int = 100, handle: int = 1, *, v6: bool = False, classid: int = 0, **asked: object
) -> FlowerFilter:
    """A filter for TCP; `asked` has values, or pairs of a value and a mask."""
    protocol = 0x86DD if v6 else 0x0800
    keys = {"eth_type": protocol, "ip_proto": 6} | asked
    pairs = {
        field: value if isinstance(value, tuple) else (value,) for field, value in keys.items() if value is not None
    }
    sorted_keys = tuple(sorted(flower_key(field, *pair) for field, pair in pairs.items()))
    return FlowerFilter(TOP, preference, handle, protocol, sorted_keys, classid or TOP | 0x10)


def tap(mirror: str = "tap0", handle: int = 1) -> BpfFilter:
    return BpfFilter(CLSACT_EGRESS, 100, handle, ALL, mirror=mirror)


def ifb(name: str = "tap0") -> Ifb:
    return Ifb(name, f"sla-shaper {DEVICE}")


INCOMING = "inc0"
"""The ifb that takes what comes in by the device."""


def taker(name: str = INCOMING) -> Ifb:
    return Ifb(name, f"sla-shaper {DEVICE} ingress")


def hook() -> Qdisc:
    return replace(clsact(), device=DEVICE)


def redirect(to: str = INCOMING, handle: int = 1, *, device: str = DEVICE) -> BpfFilter:
    return BpfFilter(CLSACT_INGRESS, 40, handle, ALL, redirect=to, device=device)


def marks(bits: int = 1) -> MarkTable:
    """Our table for the device, which sets so many bits of a mark."""
    begin = Statement("oifname", text=DEVICE), Statement("nfproto", 2)
    held = tuple(MarkSet(f"ip4-{bit}", 32, ((bit, bit + 5), (100, 200))) for bit in range(bits))
    rules = tuple(
        (*begin, Statement("saddr", 4, 0, f"ip4-{bit}"), Statement("ct-mark", 1 << bit, 0xFFFFFFFF ^ 1 << bit))
        for bit in range(bits)
    )
    return MarkTable(f"sla-shaper-{DEVICE}", held, (MarkChain("leaving", POSTROUTING, 90, rules),))


def add(node: Node) -> Step:
    return Step(Verb.ADD, None, node)


def change(node: Node, before: Node | None = None) -> Step:
    return Step(Verb.CHANGE, node if before is None else before, node)


def delete(node: Node) -> Step:
    return Step(Verb.DELETE, node, None)


DOCSIS = size_table(overhead=4, mpu=64, atm=False, longest=1518)
ATM_CELLS = size_table(overhead=-4, mpu=0, atm=True, longest=1518)
OVERHEAD = size_table(overhead=18, mpu=0, atm=False, longest=1518)
BASE = [add(root()), add(cls(1)), add(cls(0x10, 1)), add(cls(0x20, 1)), add(leaf(0x10)), add(leaf(0x20))]

SCENARIOS: dict[str, list[Step]] = {
    "a tree up and down": [*BASE, *(step.inverse() for step in reversed(BASE))],
    "everything twice": [step for step in [*BASE, add(clsact()), add(ifb()), add(tap())] for _ in range(2)],
    "nothing there": [
        *(
            verb(node)
            for node in (root(), cls(1), leaf(0x10), clsact(), classifier(), tap())
            for verb in (delete, change)
        ),
        delete(ifb()),
        change(replace(ifb(), up=False)),
        change(ifb(), replace(ifb(), up=False)),
        change(replace(ifb(), alias="mine")),
        add(cls(1)),
        add(leaf(0x10)),
        add(classifier()),
        add(tap()),
    ],
    "clsact is remembered": [delete(clsact()), add(clsact()), delete(clsact()), delete(clsact()), change(clsact())],
    "clsact takes its filters along": [add(ifb()), add(clsact()), add(tap()), delete(clsact()), add(clsact())],
    "the root takes all along": [*BASE, add(classifier()), delete(root()), add(root()), delete(cls(1))],
    "a parent that is not there": [add(root()), add(cls(0x10, 0x99)), add(leaf(0x98)), delete(leaf(0x98))],
    "another major": [add(root()), add(HtbClass(0x5A010001, TOP, 8000, 8000, 1, 1, 0, 1514)), add(root(major=0x5A01))],
    "classes in use": [*BASE, delete(cls(1)), delete(cls(0x10, 1)), delete(cls(0x20, 1)), delete(cls(1))],
    "a filter holds its class": [
        *BASE,
        add(classifier(classid=TOP | 0x10)),
        delete(cls(0x10, 1)),
        change(classifier(classid=TOP | 0x20)),
        delete(cls(0x10, 1)),
        delete(classifier()),
        delete(cls(0x20, 1)),
    ],
    "a filter set before its class does not hold it": [
        add(root()),
        add(classifier(classid=TOP | 1)),
        add(cls(1)),
        delete(cls(1)),
    ],
    "a leaf becomes inner and a leaf again": [
        add(root()),
        add(cls(1)),
        add(leaf(1)),
        add(cls(0x10, 1)),
        add(leaf(1)),
        change(leaf(1)),
        delete(leaf(1)),
        change(cls(1, prio=5, quantum=3000, rate=4_000_000)),
        delete(cls(0x10, 1)),
        change(cls(1, prio=5, quantum=3000, rate=4_000_000)),
        add(leaf(1)),
    ],
    "too deep": [add(root()), *(add(cls(depth, depth - 1)) for depth in range(1, 11))],
    "numbers the kernel makes its own": [
        add(root()),
        add(cls(1, prio=9)),
        add(cls(2, quantum=0)),
        add(cls(3, quantum=0, rate=40_000_000_000)),
        add(cls(4, quantum=0, rate=8000)),
        add(cls(5, rate=0)),
        change(cls(4, rate=0)),
    ],
    "places taken": [
        *BASE,
        add(root(major=0x5A01)),
        add(Qdisc(leaf(0x10).handle, TOP | 0x20, "bfifo", FifoOptions(1))),
        add(Qdisc(0x7F000000, TOP | 0x20, "bfifo", FifoOptions(1))),
        change(Qdisc(0x7F000000, TOP | 0x20, "bfifo", FifoOptions(1))),
        change(leaf(0x10, kind="pfifo")),
        delete(Qdisc(0x7F000000, TOP | 0x20, "bfifo", FifoOptions(1))),
        delete(leaf(0x10, kind="pfifo")),
        delete(Qdisc(0x7F000000, ROOT, "htb", HtbOptions(0))),
        change(root(default=0x20)),
        add(Qdisc(0x7E000000, leaf(0x10).handle | 1, "bfifo", FifoOptions(1))),
        add(HtbClass(leaf(0x10).handle | 1, leaf(0x10).handle, 8000, 8000, 1, 1, 0, 1514)),
    ],
    "what a change may not move": [
        *BASE,
        change(cls(0x20, 0), before=cls(0x20, 1)),
        change(leaf(0x10, kind="pfifo"), before=leaf(0x10)),
    ],
    "a size table": [
        *BASE,
        change(root(), before=counting(DOCSIS)),
        change(counting(DOCSIS), before=root()),
        change(counting(ATM_CELLS), before=counting(DOCSIS)),
        change(counting(ATM_CELLS, default=0x20), before=counting(ATM_CELLS)),
        change(root(), before=counting(ATM_CELLS)),
        change(counting(DOCSIS), before=root()),
        add(Qdisc(leaf(1).handle, TOP | 1, "bfifo", FifoOptions(1), DOCSIS)),
        delete(counting(DOCSIS)),
        change(counting(DOCSIS), before=root()),
        add(counting(OVERHEAD._replace(cell_log=31))),
        add(counting(OVERHEAD._replace(size_log=31))),
        add(counting(OVERHEAD)),
        change(counting(OVERHEAD._replace(size_log=31)), before=counting(OVERHEAD)),
        delete(root()),
    ],
    "kinds unknown": [add(root()), add(cls(1)), add(Qdisc(0x5B010000, TOP | 1, "nonsuch", RawOptions(b"")))],
    "options of another kind": [add(Qdisc(TOP, ROOT, "htb", FifoOptions(1)))],
    "filters": [
        *BASE,
        add(classifier(10, 1)),
        add(classifier(10, 2)),
        add(classifier(10, 2)),
        add(classifier(11, 1)),
        add(BpfFilter(TOP, 11, 7, MISS, protocol=0x0800)),
        change(BpfFilter(TOP, 11, 1, MISS, protocol=0x0800)),
        delete(BpfFilter(TOP, 11, 1, MISS, protocol=0x0800)),
        add(BpfFilter(TOP, 12, 7, MISS, protocol=0x0800)),
        change(BpfFilter(TOP, 10, 2, MISS)),
        change(classifier(10, 3)),
        delete(classifier(10, 3)),
        delete(classifier(10, 1)),
        delete(classifier(10, 1)),
        delete(classifier(9, 1)),
        add(BpfFilter(TOP, 13, 1, ())),
        add(BpfFilter(TOP, 13, 1, BROKEN)),
        add(BpfFilter(TOP, 0, 1, MISS)),
        add(BpfFilter(TOP, 13, 0, MISS)),
        add(BpfFilter(leaf(0x10).handle, 13, 1, MISS)),
        add(BpfFilter(TOP | 0x99, 13, 1, MISS)),
        add(BpfFilter(0x66000000, 13, 1, MISS)),
    ],
    "mirrors": [
        add(clsact()),
        add(tap()),
        add(ifb()),
        add(tap()),
        add(tap(handle=2)),
        change(BpfFilter(CLSACT_EGRESS, 100, 2, MISS)),
        change(tap(handle=2)),
        delete(tap(handle=1)),
        delete(ifb()),
        delete(tap(handle=2)),
    ],
    "marks": [
        delete(marks()),
        change(marks(2), before=marks()),
        add(marks()),
        add(marks(2)),
        change(marks(2), before=marks()),
        delete(marks(2)),
        add(marks(3)),
    ],
    "devices": [
        add(ifb()),
        add(ifb()),
        add(ifb("tap1")),
        delete(Ifb("tap1", "somebody else")),
        delete(Ifb(DEVICE, "sla-shaper " + DEVICE)),
        add(ifb(DEVICE)),
        change(ifb()),
        delete(ifb()),
        delete(ifb()),
    ],
}

FED: dict[str, list[Step]] = {
    "up and down": [
        *(up := [add(taker()), *BASE, add(classifier()), add(hook()), add(redirect())]),
        *(step.inverse() for step in reversed(up)),
    ],
    "everything twice": [step for step in up for _ in range(2)],
    "the hook without its place": [
        add(taker()),
        add(redirect()),
        add(hook()),
        add(redirect("nonsuch")),
        add(redirect()),
    ],
    "a filter turns": [
        add(taker()),
        add(hook()),
        add(redirect()),
        change(replace(redirect(), redirect="", mirror=INCOMING)),
        change(redirect()),
        change(replace(redirect(), redirect="")),
        add(redirect(handle=2)),
        change(replace(redirect(), mirror=INCOMING)),
    ],
    "the ifb goes under its filter": [
        *up,
        delete(taker()),
        change(redirect()),
        add(taker()),
        change(redirect()),
        delete(redirect()),
    ],
    "what a filter restores": [
        add(taker()),
        add(hook()),
        add(replace(redirect(), restore=Restore(0x00FF0000))),
        add(redirect()),
        change(replace(redirect(), restore=Restore(0, 0xFC000000, 0x02000000))),
        change(replace(redirect(), restore=Restore(0x00FF0000, 0xFC000000, 0x02000000))),
        change(replace(redirect(), restore=Restore(0x00FF0000, connmark=True))),
        change(redirect()),
    ],
    "the hook goes with its filters": [*up, delete(hook()), add(redirect()), add(hook()), add(redirect())],
    "two hooks on one place": [add(taker()), add(hook()), add(redirect()), add(hook()), delete(hook()), delete(hook())],
}

FQ_CODEL: dict[str, list[Step]] = {
    "leaves up, changed and down": [
        *BASE[:4],
        add(codel(0x10)),
        add(codel(0x10)),
        change(codel(0x10, 60_000, limit=77, ecn=0)),
        change(codel(0x10, flows=64)),
        delete(codel(0x10)),
        delete(codel(0x10)),
        change(codel(0x10)),
        delete(codel(0x99)),
    ],
    "another kind in its place": [
        *BASE,
        add(codel(0x10)),
        change(codel(0x10), before=leaf(0x10)),
        delete(leaf(0x10)),
        add(codel(0x10)),
        change(leaf(0x10), before=codel(0x10)),
        delete(leaf(0x10)),
        delete(codel(0x10)),
        add(leaf(0x10)),
    ],
    "numbers the kernel makes its own": [
        *BASE[:4],
        add(codel(0x10, target=5000, interval=100_001, quantum=100)),
        change(codel(0x10, target=1, interval=1, quantum=0)),
        add(codel(0x20, flows=0)),
        add(codel(0x20, flows=65_537)),
        add(codel(0x20, limit=0, memory=0, quantum=1 << 21)),
    ],
    "under a class that becomes inner": [
        *BASE[:4],
        add(codel(0x10)),
        add(cls(0x11, 0x10)),
        add(codel(0x10)),
        add(codel(0x11)),
        delete(root()),
    ],
    "at the root": [
        add(Qdisc(TOP, ROOT, "fq_codel", codel(0x10).options)),
        add(cls(1)),
        add(codel(0x10)),
        change(Qdisc(TOP, ROOT, "fq_codel", codel(0x10, 50_000).options)),
        delete(root()),
        delete(Qdisc(TOP, ROOT, "fq_codel")),
    ],
}


FLOWER: dict[str, list[Step]] = {
    "one by one, twice, changed and away": [
        *BASE,
        *(step for step in (add(flower(dport=80)), add(flower(handle=2, dport=443))) for _ in range(2)),
        change(flower(dport=80, classid=TOP | 0x20)),
        change(flower(dport=81)),
        change(flower(handle=3, dport=81)),
        delete(flower(dport=80)),
        delete(flower(dport=80)),
        delete(flower(handle=2)),
        delete(flower(handle=2)),
    ],
    "a filter keeps its masks": [
        *BASE,
        add(flower(dport=80)),
        change(flower(sport=80), before=flower(dport=80)),
        change(flower(dport=(64, 0xFFC0)), before=flower(dport=80)),
        change(flower(dport_min=80, dport_max=90), before=flower(dport=80)),
        change(flower(dport=443)),
    ],
    "no two of a preference ask alike": [
        *BASE,
        add(flower(handle=1, dport=80)),
        add(flower(handle=2, dport=80, classid=TOP | 0x20)),
        add(flower(101, dport=80)),
        add(flower(handle=2, dport=(80, 0xFFFE))),
        add(flower(handle=3, dport=81)),
        change(flower(handle=3, dport=80)),
        delete(flower(handle=1)),
        add(flower(handle=1, dport=80)),
        delete(flower(handle=3)),
        add(flower(handle=1, dport=80)),
        add(flower(handle=4, dport_min=1, dport_max=9)),
        add(flower(handle=5, dport_min=1, dport_max=9)),
        add(flower(handle=5, dport_min=1, dport_max=10)),
    ],
    "a preference has one protocol and one kind": [
        *BASE,
        add(flower()),
        add(flower(handle=2, v6=True)),
        change(flower(v6=True)),
        delete(flower(v6=True)),
        add(BpfFilter(TOP, 100, 2, MISS, protocol=0x0800)),
        delete(BpfFilter(TOP, 100, 1, MISS, protocol=0x0800)),
        delete(flower()),
        add(flower(v6=True)),
        delete(flower(v6=True)),
        add(BpfFilter(TOP, 100, 1, MISS)),
        add(flower()),
        change(flower(), before=BpfFilter(TOP, 100, 1, MISS, protocol=0x0800)),
    ],
    "a filter holds its class": [
        *BASE,
        add(flower(classid=TOP | 0x20)),
        delete(cls(0x20, 1)),
        change(flower(classid=TOP | 0x10)),
        delete(cls(0x20, 1)),
        delete(cls(0x10, 1)),
        delete(flower()),
        delete(cls(0x10, 1)),
        add(flower()),
        add(cls(0x10, 1)),
        delete(cls(0x10, 1)),
    ],
    "every key": [
        *BASE,
        add(FlowerFilter(TOP, 1, 1, 3, (), TOP | 0x10)),
        add(FlowerFilter(TOP, 2, 1, 0x0806, (), TOP | 0x10)),
        add(FlowerFilter(TOP, 3, 1, 4, (), TOP | 0x10)),
        add(FlowerFilter(TOP, 3, 2, 4, (), TOP | 0x10)),
        add(flower(ip_tos=(0xB8, 0xFC), src4=(10 << 24, 0xFF << 24), dst4=(1, 1), sport=80, dport=(64, 0xFFC0))),
        add(flower(101, ip_proto=17, sport_min=1, sport_max=65535, dport_min=0, dport_max=7, ip_flags=(0, 1))),
        add(flower(102, ip_proto=132, sport=1, dport=2)),
        add(flower(103, v6=True, src6=(1 << 127, 1 << 127), dst6=(5, -1), ip_proto=None, ip_tos=4)),
        add(flower(104, v6=True, ip_proto=58, icmpv6_type=135)),
        add(flower(105, v6=True, ip_proto=58, icmpv6_type=(128, 128), ip_flags=(1, 1))),
    ],
    "what is refused before the kernel sees it": [
        *BASE,
        add(flower(0)),
        add(flower(handle=0)),
        add(flower(dport_min=9, dport_max=9)),
        add(flower(dport_min=9)),
        add(flower(ip_proto=136, dport=9)),
        add(flower(ip_proto=None, dport=9)),
        add(flower(eth_type=None)),
        add(flower(eth_type=0x86DD)),
        add(flower(src6=9)),
        add(flower(ip_flags=(2, 2))),
        delete(flower(dport_min=9)),
    ],
    "where filters cannot stand": [
        add(flower()),
        *BASE,
        add(replace(flower(), parent=leaf(0x10).handle)),
        add(replace(flower(), parent=TOP | 0x99)),
        add(replace(flower(), parent=0x66000000)),
        add(clsact()),
        add(replace(flower(), parent=CLSACT_EGRESS, classid=1)),
        delete(clsact()),
        add(flower()),
        delete(root()),
    ],
}


def u32(number: int = 1, *, table: int = 0, asks: int = 80, classid: int = TOP | 0x10, link: int = 0) -> U32Filter:
    """A filter for a destination port, in the first table or another; with `link` it leads to that table."""
    place = TOP, 0x0800, (table << 20 or U32_ROOT) | number, 0x0800
    keys = (U32Key(20, asks, 0xFFFF),) if asks else ()
    if link:
        return U32Filter(*place, keys, link=U32Link(link << 20, 0, 0, 0x0F00, 6))
    return U32Filter(*place, keys, classid)


def table(number: int = 0, protocol: int = 0x0800) -> U32Table:
    """One of the tables, 0 for the preference itself."""
    return U32Table(TOP, u32_place(protocol), number << 20, protocol)


REST = U32Filter(TOP, 0xFFFF, U32_ROOT | 1, 3, (), TOP | 0x20)
"""What keeps the tables, while all filters of IPv4 go."""
U32: dict[str, list[Step]] = {
    "up and down": [
        *BASE,
        *(up32 := [add(node) for node in (table(), table(1), u32(table=1), u32(), u32(2, link=1), table(0, 3), REST)]),
        *(step.inverse() for step in reversed(up32)),
    ],
    "everything twice, and more than twice gone": [
        *BASE,
        *(step for step in up32 for _ in range(2)),
        change(u32(classid=TOP | 0x20)),
        change(u32(table=1, classid=TOP | 0x20)),
        *(step.inverse() for step in reversed(up32) for _ in range(2)),
    ],
    "without what it needs": [
        *BASE,
        add(u32(table=1)),
        add(u32(link=1)),
        change(u32()),
        delete(u32()),
        delete(table(1)),
        delete(table()),
        add(u32()),
        delete(u32(2)),
        change(u32(2)),
        add(table(1)),
        delete(u32(table=1)),
        add(u32(2, link=1)),
        delete(table(1)),
        delete(u32(2, link=1)),
        delete(table(1)),
    ],
    "a table leads to itself": [
        *BASE,
        *(add(node) for node in (REST, table(), table(1), u32(table=1, link=1), u32(2, table=1), u32(link=1))),
        delete(table(1)),
        delete(u32(link=1)),
        delete(table(1)),
        delete(u32(table=1, link=1)),
        delete(u32(2, table=1)),
        delete(table(1)),
        add(table(1)),
    ],
    "a table goes with its filters, a preference with its own": [
        *BASE,
        *(add(node) for node in (REST, table(), table(1), u32(table=1), u32(2, table=1), u32())),
        delete(table(1)),
        add(u32(3)),
        delete(table()),
        add(u32()),
    ],
    "the last filter takes all along": [
        *BASE,
        *(add(node) for node in (table(), table(1), u32(table=1), u32())),
        delete(u32()),
        delete(u32(table=1)),
        add(u32()),
    ],
    "a filter holds its class": [
        *BASE,
        add(u32(classid=TOP | 0x20)),
        delete(cls(0x20, 1)),
        change(u32(classid=TOP | 0x10)),
        delete(cls(0x20, 1)),
        delete(u32()),
        delete(cls(0x10, 1)),
    ],
    "what is refused before the kernel sees it": [
        *BASE,
        add(replace(u32(), handle=5)),
        add(replace(u32(), keys=(U32Key(20, 5, 0),))),
        add(replace(u32(), keys=(U32Key(20, 5, 4),))),
        add(replace(u32(), classid=0)),
        add(replace(u32(link=1), classid=TOP | 0x10)),
        add(replace(table(), handle=5)),
        change(u32(asks=81), before=u32()),
        change(table()),
    ],
    "a preference has one protocol and one kind": [
        *BASE,
        add(u32()),
        add(replace(u32(2), protocol=0x86DD)),
        add(BpfFilter(TOP, 0x0800, 1, MISS, protocol=0x0800)),
        delete(u32()),
        add(BpfFilter(TOP, 0x0800, 1, MISS, protocol=0x0800)),
        add(u32()),
        add(table()),
    ],
}


@pytest.fixture
def real() -> Iterator[Callable[[], NetlinkKernel]]:
    """Makes kernels with one device `dev0`, each in a network namespace of its own."""
    made: list[str] = []
    kernels: list[NetlinkKernel] = []

    def make() -> NetlinkKernel:
        name = f"slac-{os.getpid()}-{next(_serial)}"
        done = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, timeout=10, check=False)
        if done.returncode:
            pytest.skip(f"missing capability: CAP_SYS_ADMIN, to make network namespaces ({done.stderr.strip()})")
        made.append(name)
        pair = f"ip -netns {name} link add {DEVICE} type veth peer name peer0"
        subprocess.run(pair.split(), timeout=10, check=True)
        kernels.append(NetlinkKernel(name))
        return kernels[-1]

    yield make
    for kernel in kernels:
        kernel.close()
    for name in made:
        subprocess.run(["ip", "netns", "del", name], timeout=10, check=True)


def answer(kernel: Kernel, step: Step, device: str = DEVICE) -> tuple[int, int]:
    """The errno of one step (0 for none) and the exit code it leads to."""
    try:
        kernel.send(device, [step])
    except StepError as error:
        assert error.done == 0
        assert error.hint
        return error.errno, int(error.exit)
    return 0, 0


def fake() -> FakeKernel:
    return FakeKernel(DEVICE, "peer0", "lo")


def fifo(rng: random.Random, minor: int) -> Qdisc:
    return leaf(minor, rng.randrange(2000, 90000), rng.choice(("bfifo", "bfifo", "pfifo")))


def either(rng: random.Random, minor: int) -> Qdisc:
    """A FIFO or an fq_codel."""
    if rng.random() < 0.4:
        return fifo(rng, minor)
    times = {"target": rng.randrange(1, 10_000), "interval": rng.randrange(1, 200_000)}
    return codel(minor, rng.randrange(2000, 90000), quantum=rng.choice((0, 300, 1514)), ecn=rng.randrange(2), **times)


def any_flower(rng: random.Random, minor: int) -> FlowerFilter:
    """Few keys and places, so that they often meet."""
    dport = rng.choice((80, 81, (80, 0xFFF0), (80, 0xFFF8)))
    ends = {"sport_min": rng.choice((1, 2)), "sport_max": rng.choice((2, 3))} if rng.random() < 0.3 else {}
    place = rng.choice((10, 100, 101)), rng.choice((1, 2, 3))
    return flower(*place, v6=rng.random() < 0.2, classid=TOP | minor, dport=dport, **ends)


def wander(
    seed: int,
    count: int,
    *,
    leaves: Callable[[random.Random, int], Qdisc] | None = None,
    filters: Callable[[random.Random, int], FlowerFilter] | None = None,
) -> list[Step]:
    """A sequence of steps, legal and illegal, over few enough places that they often meet.

    `leaves` makes one for a minor; FIFOs where nothing is said. `filters` makes others beside those of BPF.
    """
    rng = random.Random(seed)
    minors = (1, 2, 0x10, 0x20)

    def node() -> Node:
        minor = rng.choice(minors)
        kinds: list[Callable[[], Node]] = [
            root,
            lambda: cls(minor, rng.choice((0, 0, 1, 2)), rate=rng.choice((8000, 8_000_000)), prio=rng.randrange(8)),
            lambda: cls(minor, rng.choice((0, 1)), quantum=rng.choice((0, 1514, 60000))),
            lambda: (leaves or fifo)(rng, minor),
            clsact,
            lambda: classifier(rng.choice((10, 11)), rng.choice((1, 2)), classid=rng.choice((0, TOP | minor))),
            lambda: tap(rng.choice(("tap0", "", "tap1")), rng.choice((1, 2))),
            lambda: ifb(rng.choice(("tap0", "tap1"))),
        ]
        weights = [2, 6, 4, 6, 2, 4, 4, 2]
        if filters is not None:
            kinds.append(lambda: filters(rng, minor))
            weights.append(12)
        return rng.choices(kinds, weights=weights)[0]()

    def step() -> Step:
        verb = rng.choices((add, change, delete), weights=(6, 3, 2))[0]
        return verb(node())

    steps = [add(root())]
    while len(steps) < count:
        one = step()
        # A root that goes takes all with it: seldom, or nothing ever grows.
        if not (one.verb is Verb.DELETE and one.node == root() and rng.random() < 0.7):
            steps.append(one)
    return steps


def compare(steps: list[Step], model: FakeKernel, kernel: NetlinkKernel) -> None:
    """Every answer and every tree in between."""
    for number, step in enumerate(steps):
        assert answer(model, step) == answer(kernel, step), f"step {number}: {step}"
        assert model.read(DEVICE) == kernel.read(DEVICE), f"after step {number}: {step}"


@pytest.mark.kernel
@pytest.mark.parametrize("name", SCENARIOS)
def test_the_fake_answers_as_the_kernel_does(name: str, real: Callable[[], NetlinkKernel]) -> None:
    compare(SCENARIOS[name], fake(), real())


@pytest.mark.kernel
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.full if "restores" in name else ()) for name in FED]
)
def test_the_fake_answers_as_the_kernel_does_for_what_comes_in(name: str, real: Callable[[], NetlinkKernel]) -> None:
    model, kernel = fake(), real()
    for number, step in enumerate(FED[name]):
        there = isinstance(step.node, Ifb) or model.read(INCOMING, fed_by=DEVICE).links
        if there or (not isinstance(step.node, HtbClass) and getattr(step.node, "device", "")):
            assert answer(model, step, INCOMING) == answer(kernel, step, INCOMING), f"step {number}: {step}"
        held = model.read(INCOMING, fed_by=DEVICE)
        assert held == kernel.read(INCOMING, fed_by=DEVICE), f"after step {number}: {step}"
        assert model.read(DEVICE) == kernel.read(DEVICE), f"after step {number}: {step}"


@pytest.mark.parametrize("make", [fake, pytest.param(None, marks=pytest.mark.kernel)])
def test_what_neither_has_cannot_be_read(
    make: Callable[[], FakeKernel] | None, real: Callable[[], NetlinkKernel]
) -> None:
    kernel: Kernel = make() if make else real()
    with pytest.raises(UnavailableError, match="nonsuch0"):
        kernel.read("nonsuch1", fed_by="nonsuch0")
    with pytest.raises(UnavailableError, match="nonsuch1"):
        kernel.send("nonsuch1", [add(root())])
    kernel.send(INCOMING, [add(taker())])
    assert kernel.read(INCOMING, fed_by="nonsuch0").links == ()
    assert kernel.read(INCOMING, fed_by=DEVICE).links == (taker(),)
    assert kernel.read(DEVICE).links == ()


@pytest.mark.full
@pytest.mark.parametrize("name", FQ_CODEL)
def test_the_fake_answers_as_the_kernel_does_with_fq_codel(name: str, real: Callable[[], NetlinkKernel]) -> None:
    compare(FQ_CODEL[name], fake(), real())


@pytest.mark.full
@pytest.mark.parametrize("name", FLOWER)
def test_the_fake_answers_as_the_kernel_does_with_flower(name: str, real: Callable[[], NetlinkKernel]) -> None:
    compare(FLOWER[name], fake(), real())


@pytest.mark.full
@pytest.mark.parametrize("seed", range(12))
def test_the_fake_goes_where_the_kernel_goes_with_flower(seed: int, real: Callable[[], NetlinkKernel]) -> None:
    compare(wander(seed, 250, filters=any_flower), fake(), real())


@pytest.mark.kernel
@pytest.mark.parametrize("name", U32)
def test_the_fake_answers_as_the_kernel_does_with_u32(name: str, real: Callable[[], NetlinkKernel]) -> None:
    compare(U32[name], fake(), real())


@pytest.mark.parametrize("name", FLOWER)
def test_flower_on_the_fake_alone_leaves_it_consistent(name: str) -> None:
    model = fake()
    for step in FLOWER[name]:
        before = model.read(DEVICE)
        if answer(model, step) != (0, 0):
            assert model.read(DEVICE) == before, step


@pytest.mark.kernel
@pytest.mark.parametrize("seed", range(12))
def test_the_fake_goes_where_the_kernel_goes(seed: int, real: Callable[[], NetlinkKernel]) -> None:
    compare(wander(seed, 250), fake(), real())


@pytest.mark.full
@pytest.mark.parametrize("seed", range(12))
def test_the_fake_goes_where_the_kernel_goes_with_fq_codel(seed: int, real: Callable[[], NetlinkKernel]) -> None:
    compare(wander(seed, 250, leaves=either), fake(), real())


@pytest.mark.parametrize("seed", range(100, 150))
def test_a_refused_step_changes_nothing(seed: int) -> None:
    model = fake()
    for step in wander(seed, 100):
        before = model.read(DEVICE)
        if answer(model, step) != (0, 0):
            assert model.read(DEVICE) == before
        held = model.read(DEVICE)
        assert tree(DEVICE, held.nodes()) == held
