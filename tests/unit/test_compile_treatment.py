"""`police`, `set` and `wash` as actions, on packets by hand; and how far policers in a row are from RFC 2697."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from compile_samples import ETHERNET
from rfc2698 import GREEN, RED, YELLOW, ExactBucket, SingleRate, TwoRates

from shaper.compile import compile_interface
from shaper.compile.program import Program
from shaper.errors import UnavailableError
from shaper.kernel.fake import FULL
from shaper.plan import diff
from shaper.plan.impact import impacts
from shaper.policy import parse_policy
from shaper.tree import (
    DROP,
    OK,
    PIPE,
    Action,
    BpfFilter,
    CakeOptions,
    Capabilities,
    Checksum,
    Finish,
    FlowerFilter,
    Police,
    SetDscp,
    SetMeta,
    jump,
)

FLOWER_ONLY = replace(FULL, filters=frozenset({"flower"}))
LINK = replace(ETHERNET, super_packet=1514, joined_packet=1514)


def compiled(classes: str, capabilities: Capabilities = FULL, *, backend: str = "htb", way: str = "egress") -> Program:
    head = f"{{device: eth1, bandwidth: {{{way}: 20mbit}}, policy: p, backend: {backend}}}"
    below = "".join(f"      {line.strip()}\n" for line in classes.strip().splitlines())
    text = f"version: 1\ninterfaces:\n  wan: {head}\npolicies:\n  p:\n    classes:\n{below}"
    (interface,) = parse_policy(text, source="p.yaml").interfaces
    return compile_interface(interface, capabilities, LINK)


def does(program: Program) -> list[tuple[int, int, tuple[Action, ...]]]:
    """Preference, class and actions of every filter that has any."""
    found = []
    for one in program.tree.filters:
        if isinstance(one, BpfFilter) and one.actions:
            (named,) = {insn.k for insn in one.program if insn.code == 6 and insn.k}
            found.append((one.preference, named & 0xFFFF, one.actions))
        elif isinstance(one, FlowerFilter) and one.actions:
            found.append((one.protocol, one.classid & 0xFFFF, one.actions))
    return found


TWO_RATES = """
    metered: {match: [{proto: udp, dport: 5}], police: {cir: 8mbit, cbs: 10kb, pir: 16mbit, pbs: 20kb, \
yellow: {dscp: af12}, red: {dscp: af13}}}
    rest: {default: true}
"""


class Meter:
    """Runs a list of actions as net/sched/act_api.c does, its buckets exact."""

    def __init__(self, program: Program) -> None:
        self._lists = {preference: actions for preference, _, actions in does(program)}
        self._buckets: dict[int, ExactBucket] = {}

    def treat(self, preference: int, size: int, now: int, dscp: int = 0) -> int | None:
        """The packet's DSCP afterwards, None for one that is dropped."""
        actions = self._lists[preference]
        place = 0
        while place < len(actions):
            action, place = actions[place], place + 1
            match action:
                case SetDscp():
                    dscp, verdict = action.dscp, PIPE
                case Police():
                    depth = action.burst * 64 * action.rate // (8 * 10**9)
                    bucket = self._buckets.setdefault(action.index, ExactBucket(action.rate // 8, depth))
                    holds = bucket.holds(size, now)
                    if holds:
                        bucket.pay(size)
                    verdict = action.conform if holds else action.exceed
                case Finish():
                    verdict = action.verdict
                case _:
                    verdict = PIPE
            if verdict == DROP:
                return None
            if verdict == OK:
                return dscp
            if verdict != PIPE:
                place = verdict & ~jump(0)
        return dscp


@pytest.mark.parametrize("capabilities", [FULL, FLOWER_ONLY], ids=["bpf", "flower"])
def test_two_buckets_in_a_row_are_rfc_2698_whatever_the_version(capabilities: Capabilities) -> None:
    meter = Meter(compiled(TWO_RATES, capabilities))
    model = TwoRates(ExactBucket(1_000_000, 10_000), ExactBucket(2_000_000, 20_000))
    chance, now = Random(5), 0
    versions = {GREEN: 0, YELLOW: 12, RED: 14}
    places = (0x0800, 0x86DD) if capabilities is FLOWER_ONLY else (6, 7)
    seen = set()
    for _ in range(5000):
        now += int(chance.expovariate(1 / 300_000))
        size = chance.randrange(64, 1515)
        colour = model.colour(size, now)
        seen.add(colour)
        assert meter.treat(chance.choice(places), size, now) == versions[colour]
    assert seen == {GREEN, YELLOW, RED}


def test_policers_in_a_row_cannot_be_rfc_2697() -> None:
    """Neither a second bucket of the same rate nor one of both depths is the excess bucket: so it is refused."""
    rate, cbs, ebs = 1_000_000, 10_000, 10_000
    chance, now = Random(5), 0
    rfc = SingleRate(rate, cbs, ebs)
    committed, excess = ExactBucket(rate, cbs), ExactBucket(rate, ebs)
    inner, both = ExactBucket(rate, cbs), ExactBucket(rate, cbs + ebs)
    wrong = {"a second bucket": 0, "one of both": 0}
    for _ in range(5000):
        now += int(chance.expovariate(1 / 300_000))
        size = chance.randrange(64, 1515)
        colour = rfc.colour(size, now)
        if committed.holds(size, now):
            committed.pay(size)
            chained = GREEN
        else:
            enough = excess.holds(size, now)
            excess.pay(size if enough else 0)
            chained = YELLOW if enough else RED
        wrong["a second bucket"] += chained != colour
        wrong["one of both"] += TwoRates(inner, both).colour(size, now) != colour
    assert min(wrong.values()) > 0, wrong


@pytest.mark.parametrize("capabilities", [FULL, FLOWER_ONLY], ids=["bpf", "flower"])
def test_all_of_a_leafs_filters_use_one_bucket_and_no_other_leaf_does(capabilities: Capabilities) -> None:
    twice = TWO_RATES.replace(
        "rest:", "again: {match: [{proto: tcp, dport: [5, 7]}], police: {cir: 8mbit, cbs: 10kb}}\nrest:"
    )
    program = compiled(twice, capabilities)
    indexes: dict[int, set[tuple[int, ...]]] = {}
    for _, named, actions in does(program):
        indexes.setdefault(named, set()).add(tuple(one.index for one in actions if isinstance(one, Police)))
    (metered,), (again,) = indexes.values()
    assert len({*metered, *again}) == 3


def test_a_policer_keeps_its_index_until_it_is_another() -> None:
    def index(text: str, way: str = "egress") -> int:
        program = compiled(text, way=way)
        return next(one.index for _, _, actions in does(program) for one in actions if isinstance(one, Police))

    first = "metered: {match: [{dscp: ef}], police: {cir: 2mbit, cbs: 20kb}}\nrest: {default: true}"
    assert index(first) == index(first.replace("[{dscp: ef}]", "[{dscp: ef}, {proto: tcp}]"))
    others = {index(first.replace("2mbit", "3mbit")), index(first.replace("20kb", "30kb")), index(first, "ingress")}
    assert len({index(first), *others}) == 4


def test_what_is_marked_is_told_apart_by_ip_version() -> None:
    program = compiled(
        """
        easy: {match: [{dscp: cs1}], set: {dscp: af21, mark: 0x10/0xff, priority: 6}}
        same: {match: [{dscp: cs2}], set: {dscp: af21, mark: 0x10/0xff, priority: 6}}
        rest: {default: true, wash: true}
    """,
        FLOWER_ONLY,
    )
    meta = SetMeta(0x10, 0xFF, 6)
    four, six = (SetDscp(4, 18), Checksum(), meta), (SetDscp(6, 18), meta)
    assert does(program) == [
        (0x0800, 0x11, four),
        (0x86DD, 0x11, six),
        (0x0800, 0x12, four),
        (0x86DD, 0x12, six),
        (0x0800, 0x13, (SetDscp(4, 0), Checksum())),
        (0x86DD, 0x13, (SetDscp(6, 0),)),
    ]


def test_classes_that_do_alike_share_a_filter() -> None:
    program = compiled("""
        easy: {match: [{dscp: cs1}], set: {mark: 7}}
        same: {match: [{dscp: cs2}], set: {mark: 7}}
        rest: {default: true}
    """)
    (one,) = [each for each in program.tree.filters if isinstance(each, BpfFilter) and each.actions]
    assert {insn.k & 0xFFFF for insn in one.program if insn.code == 6} == {0, 0x11, 0x12}


@pytest.mark.parametrize(
    ("lacking", "classes", "said", "hint"),
    [
        ("police", "rest: {default: true, police: {cir: 1mbit, cbs: 2kb}}", "`police`: police", "modprobe act_police"),
        ("pedit", "rest: {default: true, wash: true}", "`set`: pedit", "modprobe act_pedit"),
        ("csum", "rest: {default: true, set: {dscp: ef}}", "`set`: csum", "modprobe act_csum"),
        ("skbedit", "rest: {default: true, set: {mark: 7}}", "`set`: skbedit", "modprobe act_skbedit"),
    ],
)
def test_what_the_kernel_lacks_is_refused_with_the_mend(lacking: str, classes: str, said: str, hint: str) -> None:
    able = replace(FULL, actions=FULL.actions - {lacking})
    with pytest.raises(UnavailableError) as refused:
        compiled(classes, able)
    assert said in refused.value.message and hint in refused.value.hint
    assert refused.value.where is not None and refused.value.where.line == 7


@pytest.mark.parametrize(
    ("police", "said"),
    [
        ("{cir: 1mbit, cbs: 1kb}", "below the largest frame"),
        ("{cir: 1mbit, cbs: 2kb, pir: 2mbit, pbs: 1513b}", "below the largest frame"),
        ("{cir: 100bit, cbs: 100kb}", "too long for the kernel's clock"),
    ],
)
def test_bursts_that_mean_nothing_are_refused(police: str, said: str) -> None:
    with pytest.raises(UnavailableError, match=said):
        compiled(f"rest: {{default: true, police: {police}}}")


def test_super_packets_that_exceed_a_burst_are_said() -> None:
    (interface,) = parse_policy(
        "version: 1\ninterfaces:\n  wan: {device: eth1, bandwidth: {egress: 20mbit}, policy: p}\npolicies:\n"
        "  p: {classes: {rest: {default: true, police: {cir: 1mbit, cbs: 20kb}}}}\n",
        source="p.yaml",
    ).interfaces
    notes = compile_interface(interface, FULL, replace(ETHERNET, super_packet=65550)).notes
    assert any("exceed the bursts of rest (20kb)" in note for note in notes)


def test_what_is_dropped_before_it_waits_is_granted_no_rate() -> None:
    bounds = compiled("rest: {default: true, guarantee: 1mbit, police: {cir: 2mbit, cbs: 20kb}}").bounds
    assert bounds["rest"].rate[1] == 2_000_000


@pytest.mark.parametrize("washed", [True, False])
def test_cake_washes_all_or_none(washed: bool) -> None:
    program = compiled(f"rest: {{default: true, wash: {str(washed).lower()}}}", backend="cake")
    root = program.tree.root()
    options = root and root.options
    assert isinstance(options, CakeOptions) and options.wash is washed


def test_a_treatment_that_comes_or_goes_costs_nothing_and_its_step_says_that_it_is_not_atomic() -> None:
    plain = compiled("easy: {match: [{dscp: cs1}]}\nrest: {default: true}")
    marked = compiled("easy: {match: [{dscp: cs1}], set: {dscp: af21}}\nrest: {default: true}")
    for before, after in ((plain, marked), (marked, plain)):
        plan = diff(before.tree, after.tree, bounds={})
        assert len(plan.steps) == 2
        for impact in impacts(plan):
            assert not impact.disruptive and "not atomic with the classifier" in impact.reason
