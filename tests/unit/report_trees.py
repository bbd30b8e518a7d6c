"""A plan with a step of every kind."""

from __future__ import annotations

from dataclasses import replace

from shaper.plan.steps import Plan, Step, Verb
from shaper.tree import (
    CLSACT,
    CLSACT_EGRESS,
    CLSACT_HANDLE,
    ROOT,
    BpfFilter,
    FifoOptions,
    FlowerFilter,
    FqCodelOptions,
    HtbClass,
    HtbOptions,
    Ifb,
    Insn,
    Node,
    OtherFilter,
    Qdisc,
    RawOptions,
    flower_key,
    handle,
    ticks,
)

M = 1_000_000
VOICE, VIDEO = handle(0x5A00, 0x10), handle(0x5A00, 0x11)
NAMES = {VOICE: "voice", VIDEO: "video"}


def _class(number: int, rate: int) -> HtbClass:
    parent = handle(0x5A00, 1)
    return HtbClass(number, parent, rate, 5 * M, ticks(1600, rate), ticks(1600, 5 * M), 0, 1514)


_ASKED = (("dst6", 0x20010DB8 << 96, -1 << 96), ("eth_type", 0x86DD), ("ip_tos", 0xB8, 0xFC))
_FLOWER = FlowerFilter(handle(0x5A00, 0), 101, 2, 0x86DD, tuple(flower_key(*key) for key in _ASKED), VOICE)
_OLD = BpfFilter(handle(0x5A00, 0), 1, 1, (Insn(6, 0, 0, 0),))


def _add(node: Node) -> Step:
    return Step(Verb.ADD, None, node)


PLAN = Plan(
    "eth1",
    (
        _add(Ifb("shp-eth1", "sla-shaper tap of eth1")),
        _add(Qdisc(handle(0x5A00, 0), ROOT, "htb", HtbOptions(0x12))),
        _add(_class(VOICE, 2 * M)),
        Step(Verb.CHANGE, _class(VIDEO, 2 * M), _class(VIDEO, 3_500_000)),
        _add(Qdisc(handle(0x5B00, 0), VOICE, "bfifo", FifoOptions(20_000))),
        _add(
            Qdisc(handle(0x5B01, 0), VIDEO, "fq_codel", FqCodelOptions(10240, 5000, 100_000, 1514, 1024, 60_000, True))
        ),
        Step(Verb.DELETE, Qdisc(handle(0x5B02, 0), handle(0x5A00, 0x12), "pfifo", FifoOptions(100)), None),
        Step(Verb.CHANGE, _OLD, replace(_OLD, program=(Insn(6, 0, 0, 1),))),
        Step(Verb.CHANGE, _OLD, replace(_OLD, program=_OLD.program * 3)),
        _add(_FLOWER),
        Step(Verb.CHANGE, _FLOWER, replace(_FLOWER, classid=VIDEO)),
        _add(Qdisc(CLSACT_HANDLE, CLSACT, "clsact")),
        _add(BpfFilter(CLSACT_EGRESS, 100, 1, (Insn(6, 0, 0, 0xFFFFFFFF),), mirror="shp-eth1")),
        Step(Verb.DELETE, OtherFilter(handle(0x5A00, 0), 5, 0x800, 0x0800, "u32"), None),
        Step(Verb.DELETE, Qdisc(handle(1, 0), ROOT, "tbf", RawOptions(b"\x01\x02")), None),
    ),
)
