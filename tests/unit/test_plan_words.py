"""How steps read to a person, and how plans are kept on disk."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_samples import a_tree

from shaper.plan import codec, diff
from shaper.plan.describe import describe
from shaper.plan.impact import impacts
from shaper.plan.steps import Plan, Step, Verb
from shaper.report.as_json import node_json
from shaper.tree import (
    CLSACT,
    CLSACT_HANDLE,
    ROOT,
    U32_ROOT,
    BpfFilter,
    CakeOptions,
    Diffserv,
    FifoOptions,
    FlowerFilter,
    FqCodelOptions,
    HtbClass,
    HtbOptions,
    Ifb,
    Insn,
    OtherFilter,
    Qdisc,
    RawOptions,
    U32Filter,
    U32Key,
    U32Link,
    U32Table,
    flower_key,
    handle,
    ticks,
)

VOICE = handle(0x5A00, 0x10)
NAMES = {VOICE: "voice"}
CLASS = HtbClass(
    VOICE, handle(0x5A00, 1), 2_000_000, 5_000_000, ticks(3028, 2_000_000), ticks(3028, 5_000_000), 0, 1514
)
LEAF = Qdisc(handle(0x5B10, 0), VOICE, "bfifo", FifoOptions(20_000))
CODEL = Qdisc(handle(0x5B10, 0), VOICE, "fq_codel", FqCodelOptions(10240, 4992, 99968, 1514, 1024, 64_000, True))
ROOT_QDISC = Qdisc(handle(0x5A00, 0), ROOT, "htb", HtbOptions(0x10, 1000))
ASKED = (
    *(("dport", 0x4000, 0xC000), ("dst4", 0xCB007100, 0xFFFFFF00), ("eth_type", 0x0800, None), ("ip_flags", 0, 1)),
    *(("ip_proto", 17, None), ("ip_tos", 0xB8, 0xFC), ("sport_max", 90, None), ("sport_min", 80, None)),
)
FLOWER = FlowerFilter(handle(0x5A00, 0), 100, 2, 0x0800, tuple(flower_key(*key) for key in ASKED), VOICE)
SIX = FlowerFilter(handle(0x5A00, 0), 101, 1, 0x86DD, (flower_key("src6", 1 << 120, -1 << 120),), VOICE)
U32_TABLE = U32Table(handle(0x5A00, 0), 0x0800, 1 << 20, 0x0800)
U32_PORTS = U32Filter(handle(0x5A00, 0), 0x0800, 1 << 20 | 12, 0x0800, (U32Key(0, 80, 0xFFFF),), VOICE)
U32_LINK = U32Filter(
    handle(0x5A00, 0), 0x0800, U32_ROOT | 3, 0x0800, (U32Key(8, 17 << 16, 0xFF << 16),),
    link=U32Link(1 << 20, 0, 0, 0x0F00, 6),
)  # fmt: skip
CLASSIFIER = BpfFilter(handle(0x5A00, 0), 10, 1, (Insn(6, 0, 0, VOICE),))


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (Step(Verb.CHANGE, CLASS, replace(CLASS, rate=3_000_000)), "class voice 5a00:10: rate 2mbit -> 3mbit, burst "),
        (
            Step(Verb.ADD, None, CLASS),
            "class voice 5a00:10: add, parent 5a00:1, rate 2mbit, ceil 5mbit, prio 0, quantum 1514b, "
            "burst 3.03kb, cburst 3.03kb",
        ),
        (Step(Verb.DELETE, CLASS, None), "class voice 5a00:10: remove"),
        (
            Step(Verb.CHANGE, LEAF, replace(LEAF, options=FifoOptions(30_000))),
            "queue bfifo 5b10: of class voice 5a00:10: limit 20kb -> 30kb",
        ),
        (Step(Verb.ADD, None, CODEL), "queue fq_codel 5b10: of class voice 5a00:10: add, target 4.99ms, "),
        (Step(Verb.ADD, None, ROOT_QDISC), "qdisc htb 5a00: at root: add, default 10"),
        (Step(Verb.ADD, None, Qdisc(CLSACT_HANDLE, CLSACT, "clsact")), "qdisc clsact ffff: at clsact: add"),
        (Step(Verb.ADD, None, Ifb("shp-eth1", "sla-shaper eth1")), "device shp-eth1 (ifb): add, alias "),
        (Step(Verb.ADD, None, CLASSIFIER), "filter bpf at 5a00: preference 10: add, program of 1 instructions ("),
        (
            Step(Verb.ADD, None, FLOWER),
            "filter flower 0x2 at 5a00: preference 100: add, match ip, ip_proto 17, ip_tos 0xb8/0xfc, no fragment, "
            "dst 203.0.113.0/24, sport 80-90, dport 0x4000/0xc000, class 5a00:10",
        ),
        (Step(Verb.ADD, None, SIX), "filter flower 0x1 at 5a00: preference 101: add, match ipv6, src 100::/8, class "),
        (
            Step(Verb.CHANGE, FLOWER, replace(FLOWER, classid=handle(0x5A00, 0x11))),
            "filter flower 0x2 at 5a00: preference 100: class 5a00:10 -> 5a00:11",
        ),
        (
            Step(Verb.DELETE, replace(SIX, protocol=0x88CC, keys=()), None),
            "filter flower 0x1 at 5a00: preference 101: ",
        ),
        (Step(Verb.ADD, None, replace(U32_TABLE, handle=0)), "list of u32 filters at 5a00: preference 2048: add"),
        (Step(Verb.ADD, None, U32_TABLE), "table 1: of u32 filters at 5a00: preference 2048: add"),
        (
            Step(Verb.ADD, None, U32_PORTS),
            "filter u32 1:c at 5a00: preference 2048: add, match ip, 0x00000050/0x0000ffff at 0, class 5a00:10",
        ),
        (
            Step(Verb.ADD, None, U32_LINK),
            "filter u32 root:3 at 5a00: preference 2048: add, match ip, 0x00110000/0x00ff0000 at 8 -> table 1: 0 bytes "
            "and what 0x0f00 at 0 says, shifted by 6, on",
        ),
        (
            Step(Verb.CHANGE, CLASSIFIER, replace(CLASSIFIER, program=(Insn(6, 0, 0, 7),))),
            "filter bpf at 5a00: preference 10: program of 1 instructions (",
        ),
    ],
)
def test_a_step_in_words(step: Step, words: str) -> None:
    assert describe(step, NAMES).startswith(words)


def test_u32_filters_come_back_from_json_and_are_shown_in_it() -> None:
    plan = Plan("eth1", tuple(Step(Verb.ADD, None, node) for node in (U32_TABLE, U32_PORTS, U32_LINK)))
    assert codec.from_json(json.loads(json.dumps(codec.to_json(plan)))) == plan
    shown = [node_json(node) for node in (U32_TABLE, U32_PORTS, U32_LINK)]
    assert [(one["kind"], one["handle"], one.get("classid")) for one in shown] == [
        ("u32", "0x100000", None), ("u32", "0x10000c", "5a00:10"), ("u32", "0xfff00003", None),
    ]  # fmt: skip
    assert shown[2]["link"] == {"table": "0x100000", "skip": 0, "at": 0, "mask": 0x0F00, "shift": 6}
    assert shown[1]["keys"] == [{"offset": 0, "value": "0x00000050", "mask": "0x0000ffff"}]


def test_an_edit_of_u32_filters_is_not_atomic_and_a_list_is_harmless() -> None:
    steps = [Step(Verb.ADD, None, node) for node in (U32_TABLE, U32_PORTS, U32_LINK)]
    table, *filters = impacts(Plan("eth1", tuple(steps)))
    assert not table.disruptive
    assert all(one.disruptive and "not atomic: 2 filters" in one.reason for one in filters)


def test_without_names_the_handle_stands() -> None:
    assert describe(Step(Verb.DELETE, CLASS, None)) == "class 5a00:10: remove"


ANOTHER_ROOT = Qdisc(handle(0x8001, 0), ROOT, "fq", RawOptions(b""))
THREE_TINS, FOUR_TINS = (
    Qdisc(handle(0x5A00, 0), ROOT, "cake", CakeOptions(8_000_000, way))
    for way in (Diffserv.DIFFSERV3, Diffserv.DIFFSERV4)
)
SMALLER = replace(CODEL, options=FqCodelOptions(10240, 4992, 99968, 1514, 1024, 32_000, True))


@pytest.mark.parametrize(
    ("steps", "reasons"),
    [
        ([Step(Verb.DELETE, ANOTHER_ROOT, None)], ["the root fq 8001: goes"]),
        ([Step(Verb.ADD, None, ROOT_QDISC)], ["the root htb 5a00: takes the place of the device's queue"]),
        ([Step(Verb.DELETE, LEAF, None)], ["what waits in the queue of class voice 5a00:10 is lost"]),
        (
            [Step(Verb.DELETE, LEAF, None), Step(Verb.ADD, None, CODEL)],
            [
                "what waits in the queue of class voice 5a00:10 is lost; another takes",
                "it takes the place of the queue",
            ],
        ),
        ([Step(Verb.DELETE, CLASS, None)], ["what waits in class voice 5a00:10 is lost with its queue"]),
        (
            [Step(Verb.CHANGE, FOUR_TINS, THREE_TINS)],
            ["what waits in those tins of the root cake 5a00: that go is lost"],
        ),
        (
            [Step(Verb.CHANGE, THREE_TINS, FOUR_TINS)],
            ["packets go to other tins of the root cake 5a00: and may overtake"],
        ),
        ([Step(Verb.DELETE, CLASSIFIER, None)], ["packets are classed by nothing but the default"]),
        (
            [Step(Verb.DELETE, CLASSIFIER, None), Step(Verb.ADD, None, replace(CLASSIFIER, preference=11))],
            ["not atomic: 2 filters", "not atomic: 2 filters"],
        ),
        (
            [Step(Verb.ADD, None, FLOWER), Step(Verb.CHANGE, FLOWER, replace(FLOWER, classid=7))],
            ["not atomic: 2 filters", "not atomic: 2 filters"],
        ),
        ([Step(Verb.DELETE, OtherFilter(CLSACT, 1, 1, 3, "flower"), None)], ["a flower filter that is not the shaper"]),
    ],
)
def test_what_costs_traffic_is_said(steps: list[Step], reasons: list[str]) -> None:
    for impact, reason in zip(impacts(Plan("eth1", tuple(steps)), NAMES), reasons, strict=True):
        assert impact.disruptive
        assert impact.reason.startswith(reason)


@pytest.mark.parametrize(
    "steps",
    [
        [Step(Verb.CHANGE, CLASS, replace(CLASS, rate=3_000_000))],
        [Step(Verb.CHANGE, CLASS, replace(CLASS, prio=1))],
        [Step(Verb.ADD, None, CLASS), Step(Verb.ADD, None, LEAF)],
        [Step(Verb.CHANGE, SMALLER, CODEL)],
        [Step(Verb.CHANGE, CODEL, SMALLER)],
        [Step(Verb.CHANGE, FOUR_TINS, replace(FOUR_TINS, options=CakeOptions(9_000_000, Diffserv.DIFFSERV4)))],
        [Step(Verb.CHANGE, LEAF, replace(LEAF, options=FifoOptions(10_000)))],
        [Step(Verb.CHANGE, CLASSIFIER, replace(CLASSIFIER, program=(Insn(6, 0, 0, 7),)))],
        [Step(Verb.DELETE, FLOWER, None)],
        [Step(Verb.ADD, None, FLOWER)],
        [Step(Verb.DELETE, Qdisc(CLSACT_HANDLE, CLSACT, "clsact"), None)],
        [Step(Verb.ADD, None, Ifb("shp-eth1", "sla-shaper eth1"))],
    ],
)
def test_what_costs_nothing_is_hitless_and_says_why(steps: list[Step]) -> None:
    for impact in impacts(Plan("eth1", tuple(steps)), NAMES):
        assert not impact.disruptive
        assert impact.reason


@given(st.integers(0, 2**32).map(Random))
def test_a_class_is_changed_for_nothing_and_removed_at_a_cost(random: Random) -> None:
    plan = diff(a_tree(random), a_tree(random), bounds={})
    for step, impact in zip(plan.steps, impacts(plan), strict=True):
        if step.verb is Verb.DELETE and isinstance(step.node, HtbClass):
            assert impact.disruptive
        if step.verb is Verb.CHANGE and isinstance(step.node, HtbClass):
            assert not impact.disruptive


@given(st.integers(0, 2**32).map(Random))
def test_a_plan_comes_back_from_json_and_every_step_can_be_told(random: Random) -> None:
    plan = diff(a_tree(random), a_tree(random), bounds={})
    assert codec.from_json(json.loads(json.dumps(codec.to_json(plan)))) == plan
    for step in (*plan.steps, *plan.inverse().steps):
        assert describe(step, NAMES)


@pytest.mark.parametrize(
    "damaged",
    [
        None,
        [],
        {},
        {"schema": 2, "device": "eth1", "steps": []},
        {"schema": 1, "device": "eth1", "steps": [{"verb": "add", "before": None, "after": None}]},
        {"schema": 1, "device": "eth1", "steps": [{"verb": "paint", "before": None, "after": {"node": "ifb"}}]},
        {"schema": 1, "device": "eth1", "steps": [{"verb": "add", "before": None, "after": {"node": "moon"}}]},
        {"schema": 1, "device": "eth1", "steps": [{"verb": "add", "before": None, "after": {"node": "ifb"}}]},
    ],
)
def test_a_damaged_record_is_a_value_error(damaged: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        codec.from_json(damaged)


def test_an_empty_plan_is_kept_too() -> None:
    assert codec.from_json(codec.to_json(Plan("eth1"))) == Plan("eth1")
