"""What is done to a class's packets, as `explain packet` says it and as an import reads it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from shaper.model.explain import explain
from shaper.model.match import Packet
from shaper.policy import parse_policy
from shaper.policy.importers.draft import Report
from shaper.policy.importers.tc import read, treated
from shaper.report.explain import explanation_json, explanation_view
from shaper.tree import (
    DROP,
    OK,
    PIPE,
    ROOT,
    Action,
    Checksum,
    Finish,
    FlowerFilter,
    HtbClass,
    HtbOptions,
    Police,
    Qdisc,
    SetDscp,
    SetMeta,
    flower_key,
    jump,
    ticks,
    tree,
)

POLICY = """version: 1
interfaces:
  wan: {device: eth1, bandwidth: {egress: 20mbit}, policy: p}
policies:
  p:
    classes:
      one: {match: [{dscp: ef}], set: {dscp: af21, mark: 0x10/0xff, priority: 6}, police: {cir: 2mbit, cbs: 20kb}}
      two: {match: [{dscp: cs1}], police: {cir: 2mbit, cbs: 20kb, pir: 4mbit, pbs: 40kb, yellow: {dscp: af12}}}
      rest: {default: true}
"""


@pytest.mark.parametrize(
    ("dscp", "lines"),
    [
        (
            46,
            [
                "  set       DSCP af21, mark 0x10/0xff, priority 6",
                "  police    within 2mbit and 20kb: sent as it is; beyond: dropped",
            ],
        ),
        (
            8,
            [
                "  police    red beyond 4mbit and 40kb: dropped",
                "            yellow beyond 2mbit and 20kb: sent with DSCP af12; green: sent as it is (RFC 2698)",
            ],
        ),
        (0, []),
    ],
)
def test_explain_says_what_happens_to_the_packet(dscp: int, lines: list[str]) -> None:
    (interface,) = parse_policy(POLICY, source="p.yaml").interfaces
    explained = explain(interface.rules(), Packet(0x0800, 17, dscp=dscp))
    out = io.StringIO()
    explanation_view(explained, interface, None, assumed={}, by="x", out=Console(file=out, width=200))
    said = [
        line for line in out.getvalue().splitlines() if line.startswith(("  set", "  police", "            yellow"))
    ]
    assert said == lines
    found = explanation_json(explained, interface, None, assumed={}, by="x")
    assert (found["set"] is not None, found["police"] is not None) == (dscp == 46, bool(lines))
    if dscp == 8:
        assert (found["police"]["pir_bit_s"], found["police"]["yellow"]) == (4_000_000, {"drop": False, "dscp": 12})


TOP, M = 0x10000, 1_000_000
POLICE = Police(1, 2 * M, ticks(20_000, 2 * M), OK, DROP)


@pytest.mark.parametrize(
    ("actions", "words"),
    [
        ((), ({}, {})),
        ((POLICE,), ({"cir": "2mbit", "cbs": "20000b"}, {})),
        ((SetDscp(4, 18), Checksum(), SetMeta(7, priority=6), Finish()), ({}, {"dscp": 18, "mark": 7, "priority": 6})),
        ((POLICE, SetDscp(4, 18)), None),
        ((Police(1, M, 1, PIPE, jump(1)), Finish()), None),
        ((Police(1, M, 1, OK, DROP, 1000),), None),
        ((Finish(DROP),), None),
    ],
)
def test_actions_that_our_words_say_are_imported(actions: tuple[Action, ...], words: object) -> None:
    assert treated(actions) == words


def imported(*lists: tuple[Action, ...]) -> tuple[dict[str, object], list[str]]:
    """`police` and `set` of a class with a flower filter for each list, and what was lost."""
    burst = ticks(20_000, M)
    filters = (
        FlowerFilter(
            TOP, place, 1, 0x0800, (flower_key("eth_type", 0x0800), flower_key("ip_proto", place)), TOP | 0x10, actions
        )
        for place, actions in enumerate(lists, 1)
    )
    rates = ((1, 0, 10 * M), (0x10, 1, M), (0x20, 1, M))
    classes = (
        HtbClass(TOP | minor, TOP | parent, rate, 10 * M, burst, burst, 0, 1514) for minor, parent, rate in rates
    )
    report = Report()
    (interface,) = read(tree("eth0", [Qdisc(TOP, ROOT, "htb", HtbOptions(0x20)), *classes, *filters]), (), report)
    cls = next(one for one in interface.walk() if one.name == "class-10")
    return {"police": cls.police, "set": cls.marking, "rules": len(cls.rules)}, [one.why for one in report.lost()]


def test_a_class_has_what_all_of_its_filters_do() -> None:
    found, lost = imported((POLICE,), (POLICE,))
    assert found == {"police": {"cir": "2mbit", "cbs": "20000b"}, "set": {}, "rules": 2} and not lost
    found, lost = imported((POLICE,), (Police(2, 2 * M, POLICE.burst, OK, DROP),))
    assert found["rules"] == 1 and "with other buckets" in lost[0]
    found, lost = imported((Finish(DROP),))
    assert found["rules"] == 0 and "what it does is not carried over (gact)" in lost[0]
