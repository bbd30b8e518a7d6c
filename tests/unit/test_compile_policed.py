"""What comes in, policed: the lists of actions as the kernel would run them, with exact buckets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from compile_samples import ETHERNET
from hypothesis import given
from hypothesis import strategies as st
from rfc2698 import ExactBucket

from shaper.cli.simulate import modelled
from shaper.compile import compile_interface
from shaper.compile.policed import BURST_SECONDS, counting_of, left_over
from shaper.compile.program import Program
from shaper.errors import UnavailableError
from shaper.kernel.fake import FULL
from shaper.model.match import classify
from shaper.plan import diff
from shaper.plan.impact import impacts
from shaper.policy import parse_policy
from shaper.tree import (
    CLSACT_INGRESS,
    COUNT_INDEXES,
    DROP,
    MOST_ACTIONS,
    OK,
    PIPE,
    BpfFilter,
    Capabilities,
    Checksum,
    Finish,
    FlowerFilter,
    LinkFacts,
    Police,
    SetDscp,
    jump,
    tree,
)

LINK = replace(ETHERNET, super_packet=1514, joined_packet=1514)
FLOWER_ONLY = replace(FULL, filters=frozenset({"flower"}))
OFFICE = """
    voice: {tier: special, guarantee: 1mbit, limit: 2mbit, match: [{dscp: ef}]}
    web: {guarantee: 3mbit, limit: 5mbit, match: [{proto: tcp}], classes: {\
fast: {guarantee: 1mbit, match: [{sport: 443}]}, slow: {limit: 3mbit, match: [{sport: 80}]}}}
    marked: {match: [{dscp: le}], police: {cir: 1mbit, cbs: 20kb, pir: 2mbit, pbs: 20kb, yellow: {dscp: af12}}}
    rest: {default: true}
"""


def compiled(
    classes: str = OFFICE, capabilities: Capabilities = FULL, *, more: str = "", link: LinkFacts = LINK
) -> Program:
    head = f"{{device: eth1, bandwidth: {{ingress: 10mbit}}, ingress: police, policy: p{more}}}"
    below = "".join(f"      {line.strip()}\n" for line in classes.strip().splitlines())
    text = f"version: 1\ninterfaces:\n  wan: {head}\npolicies:\n  p:\n    classes:\n{below}"
    (interface,) = parse_policy(text, source="p.yaml").interfaces
    return compile_interface(interface, capabilities, link)


class Hook:
    """Runs the actions of a class as net/sched/act_api.c does: jumps count from the first action of the list."""

    def __init__(self, program: Program) -> None:
        names = {number: path for path, number in program.handles.items()}
        versions = sorted(program.tree.filters, key=_is_ipv4s)
        self.lists = {names[_named(one)]: one.actions for one in versions if isinstance(one, BpfFilter | FlowerFilter)}
        self.buckets: dict[int, ExactBucket] = {}
        self.counted: dict[int, int] = {}

    def takes(self, path: str, size: int, now: int) -> tuple[bool, int]:
        """Whether a packet of so many bytes of layer 2 passes at a time in ns, and its DSCP then."""
        actions, place, dscp = self.lists[path], 0, 0
        for _ in range(64):
            action, place = actions[place], place + 1
            match action:
                case Police():
                    assert (action.overhead, action.mpu, action.atm) == (14, 0, False)
                    depth = action.burst * 64 * action.rate // (8 * 10**9)
                    bucket = self.buckets.setdefault(action.index, ExactBucket(action.rate // 8, depth))
                    holds = bucket.holds(size, now)
                    bucket.pay(size if holds else 0)
                    verdict = action.conform if holds else action.exceed
                case Finish():
                    self.counted[action.index] = self.counted.get(action.index, 0) + 1
                    verdict = action.verdict
                case SetDscp():
                    dscp, verdict = action.dscp, PIPE
                case _:
                    assert action == Checksum()
                    verdict = PIPE
            if verdict in (OK, DROP):
                return verdict == OK, dscp
            if verdict != PIPE:
                place = verdict & ~jump(0)
        raise AssertionError("the list never ends")


def _named(one: object) -> int:
    if isinstance(one, FlowerFilter):
        return one.classid
    assert isinstance(one, BpfFilter)
    (named,) = {insn.k for insn in one.program if insn.code == 6 and insn.k}
    return named


def _is_ipv4s(one: object) -> bool:
    """Whether it is the filter of IPv4, where each version has its own."""
    actions = one.actions if isinstance(one, BpfFilter | FlowerFilter) else ()
    return any(isinstance(action, SetDscp) and action.version == 4 for action in actions)


@pytest.mark.parametrize("capabilities", [FULL, FLOWER_ONLY], ids=["bpf", "flower"])
def test_every_rate_is_kept_when_all_classes_are_flooded(capabilities: Capabilities) -> None:
    """10 Mbit/s, of which 100 kbit are network control's, 1 voice's, 3 the web's; 5.9 are nobody's."""
    program = compiled(capabilities=capabilities)
    hook, chance, now = Hook(program), Random(3), 0
    seconds = 6
    passed = dict.fromkeys(hook.lists, 0)
    while now < seconds * 10**9:
        now += int(chance.expovariate(1 / 250_000))
        path = chance.choice(["voice", "web/fast", "web/slow", "rest", "marked"])
        size = chance.randrange(64, 1515)
        if hook.takes(path, size, now)[0]:
            passed[path] += size * 8
    rates = {path: bits / seconds for path, bits in passed.items()}
    assert 1e6 * 0.98 <= rates["voice"] <= 2e6 * 1.03
    assert rates["web/fast"] >= 1e6 * 0.98
    assert 3e6 * 0.98 <= rates["web/fast"] + rates["web/slow"] <= 5e6 * 1.03
    assert rates["web/slow"] <= 3e6 * 1.03
    assert rates["marked"] <= 2e6 * 1.03
    assert sum(rates.values()) == pytest.approx(9.9e6, rel=0.02), "what is guaranteed to network control is not lent"


def test_what_passes_and_what_does_not_is_counted_once_each() -> None:
    program = compiled()
    hook, chance, now = Hook(program), Random(7), 0
    seen = {path: [0, 0] for path in program.verdicts}
    for _ in range(20_000):
        now += int(chance.expovariate(1 / 300_000))
        path = chance.choice(["voice", "web/fast", "web/slow", "web/other", "rest", "marked"])
        passes, _ = hook.takes(path, chance.randrange(64, 1515), now)
        seen[path][not passes] += 1
    for path, indexes in program.verdicts.items():
        assert [hook.counted.get(index, 0) for index in indexes] == seen[path], path
        assert all(index in COUNT_INDEXES for index in indexes)
    numbers = [index for indexes in program.verdicts.values() for index in indexes]
    assert len(set(numbers)) == len(numbers)
    assert all(all(counts) for path, counts in seen.items() if path not in ("network-control", "web/fast"))


def test_a_class_of_its_own_colours_goes_on_to_its_limits() -> None:
    """Within its peak rate green and yellow; beyond it is dropped, and counted so."""
    program = compiled()
    hook = Hook(program)
    seen = {hook.takes("marked", 1000, number * 5_000_000) for number in range(150)}
    assert seen == {(True, 0), (True, 12)}
    assert (False, 0) in {hook.takes("marked", 1000, 750_000_000 + number) for number in range(40)}
    assert hook.counted[program.verdicts["marked"][1]]
    peak, committed = program.policers["marked"]
    assert {peak, committed} <= {one.index for one in hook.lists["marked"] if isinstance(one, Police)}
    assert set(program.policers) == {"marked"}


@given(st.data())
def test_whatever_is_guaranteed_passes_and_no_limit_is_passed(data: st.DataObject) -> None:
    """Any two classes inside one beside another, any arrivals: what passes in a time is bounded from both sides."""
    whole = 10_000_000
    limit = data.draw(st.integers(2, 9)) * 1_000_000
    guarantee = data.draw(st.integers(1, limit // 1_000_000)) * 1_000_000
    most = min(guarantee, limit - 100_000)  # what leaves nothing to the other is refused
    first = data.draw(st.integers(1, most // 100_000)) * 100_000
    program = compiled(f"""
        inner: {{guarantee: {guarantee}bit, limit: {limit}bit, match: [{{proto: tcp}}], classes: {{\
one: {{guarantee: {first}bit, match: [{{sport: 443}}]}}, two: {{match: [{{sport: 80}}]}}}}}}
        rest: {{default: true}}
    """)
    hook, now, bits = Hook(program), 0, dict.fromkeys(program.verdicts, 0)
    chance = Random(data.draw(st.integers(0, 1000)))
    loads = {path: data.draw(st.integers(0, 4)) for path in ("inner/one", "inner/two", "rest")}
    offered = dict(bits)
    for _ in range(800):
        now += 300_000
        for path, load in loads.items():
            for _ in range(load):
                size = chance.randrange(200, 1515)
                offered[path] += size * 8
                bits[path] += size * 8 * hook.takes(path, size, now)[0]
    seconds = now / 1e9
    slack = (whole * BURST_SECONDS + 4 * 4 * 1514 * 8) * 2
    assert bits["inner/one"] + bits["inner/two"] <= limit * seconds + slack
    assert sum(bits.values()) <= whole * seconds + slack
    frame = 1514 * 8 * 2
    assert bits["inner/one"] >= min(offered["inner/one"], first * seconds) - frame
    wanted = min(offered["inner/one"], first * seconds) + min(offered["inner/two"], (guarantee - first) * seconds)
    assert bits["inner/one"] + bits["inner/two"] >= wanted * 0.9 - 4 * frame


def test_each_packet_meets_the_filter_of_its_class_alone() -> None:
    program = compiled()
    assert all(one.parent == CLSACT_INGRESS and one.device == "eth1" for one in program.tree.filters)
    assert not program.tree.links and not program.tree.classes and program.tree.root() is None
    assert set(Hook(program).lists) == {leaf.path for leaf in program.interface.leaves()}
    assert classify(program.rules, _packet(dscp=46)) == "voice"


def _packet(**fields: int) -> object:
    from shaper.model.match import Packet  # noqa: PLC0415

    return Packet(0x0800, **fields)


def test_a_link_layer_is_counted_from_the_ip_packet() -> None:
    for said, overhead, mpu, atm in (
        ("docsis", 18, 64, False),
        ("adsl-pppoa-vcmux", 10, 0, True),
        ("{overhead: 30, mpu: 70}", 30, 70, False),
    ):
        program = compiled(more=f", link: {said}")
        counting = counting_of(program.interface, LINK)
        assert counting == (overhead, mpu, atm)
        buckets = [one for each in Hook(program).lists.values() for one in each if isinstance(one, Police)]
        assert {(one.overhead, one.mpu, one.atm) for one in buckets} == {(overhead, mpu, atm)}
    assert counting_of(compiled(more=", link: adsl-pppoa-vcmux").interface, LINK).of(1500) == 32 * 53
    with pytest.raises(UnavailableError, match="bytes less than the IP packet"):
        compiled(more=", link: {overhead: -4}")


@pytest.mark.parametrize(
    ("lacking", "said"),
    [
        (replace(FULL, actions=FULL.actions - {"police"}), "lacks the police action"),
        (replace(FULL, actions=FULL.actions - {"gact"}), "lacks the gact action"),
        (replace(FULL, qdiscs=FULL.qdiscs - {"clsact"}), "lacks the clsact qdisc"),
        (replace(FULL, filters=frozenset({"u32"})), "lacks the bpf filter, or flower"),
    ],
)
def test_what_the_kernel_lacks_is_refused_at_the_key_with_the_queue_as_the_mend(
    lacking: Capabilities, said: str
) -> None:
    with pytest.raises(UnavailableError, match=said) as caught:
        compiled(capabilities=lacking)
    assert caught.value.where is not None and caught.value.where.line == 3
    assert "`ingress: queue`" in caught.value.hint


def test_neither_ifb_nor_mirred_nor_htb_is_needed() -> None:
    small = replace(FULL, qdiscs=frozenset({"clsact"}), links=frozenset(), actions=frozenset({"police", "gact"}))
    assert compiled("rest: {default: true}", small).tree.filters


@pytest.mark.parametrize(("asked", "said"), [("mark: 7", "no mark yet"), ("iif: eth2", "came in by eth1")])
def test_what_is_not_known_of_what_comes_in_is_refused(asked: str, said: str) -> None:
    with pytest.raises(UnavailableError, match=said):
        compiled(f"one: {{match: [{{{asked}}}]}}\nrest: {{default: true}}")


def test_hosts_behind_a_translation_are_refused() -> None:
    inside = "one: {match: [{src: 192.168.1.0/24}]}\nrest: {default: true}"
    with pytest.raises(UnavailableError, match="policed before its connection is known") as caught:
        compiled(inside, link=replace(LINK, translates="chain postrouting masquerades"))
    assert "nat: no" in caught.value.hint
    assert compiled(inside, more=", nat: no", link=replace(LINK, translates="chain postrouting masquerades"))


def test_the_plan_says_what_has_no_effect_and_why_there_is_no_delay() -> None:
    program = compiled("""
        voice: {tier: special, limit: 2mbit, match: [{dscp: ef}], sla: {delay-p99: 10ms, loss: 1%}}
        rest: {default: true, share: 40%, aqm: fifo}
    """)
    notes = " ".join(program.notes)
    assert "of no effect here are tier of voice, share of rest, aqm of rest" in notes
    assert "delay: no data, because nothing waits where packets are policed; the targets of voice hold" in notes
    assert "all share 9.9mbit" in notes
    (voice, _) = (leaf for leaf in program.interface.leaves() if not leaf.implied)
    assert not voice.sla.delays and voice.sla.loss == 0.01
    assert not program.movable and not program.measured and program.hooked


def test_super_packets_fit_every_bucket_and_are_told() -> None:
    program = compiled(link=replace(LINK, joined_packet=65550))
    for one in (one for each in Hook(program).lists.values() for one in each if isinstance(one, Police)):
        if one.index not in program.policers["marked"]:
            assert one.burst * 64 * one.rate // (8 * 10**9) >= 65550
    assert any("policed whole" in note and "gro off" in note for note in program.notes)


def test_bursts_of_the_policy_are_taken() -> None:
    program = compiled(
        "one: {guarantee: 1mbit, limit: 2mbit, burst: 20kb, cburst: 40kb, match: [{dscp: ef}]}\nrest: {default: true}"
    )
    limit, guarantee, _ = (one for one in Hook(program).lists["one"] if isinstance(one, Police))
    assert [round(one.burst * 64 * one.rate / 8e9) for one in (limit, guarantee)] == [40_000, 20_000]
    with pytest.raises(UnavailableError, match="too long for the kernel's clock"):
        compiled("one: {guarantee: 8kbit, burst: 10mb, match: [{dscp: ef}]}\nrest: {default: true}")


def test_what_all_guarantee_leaves_nothing_for_the_rest_of_a_class_that_is_guaranteed() -> None:
    program = compiled(
        "one: {guarantee: 9.9mbit, match: [{dscp: ef}]}\nrest: {guarantee: 0.1%, default: true}".replace(
            "9.9mbit", "9.89mbit"
        )
    )
    assert left_over(10_000_000, program.interface.classes) < 8_000
    hook = Hook(program)
    now = [hook.takes("one", 1500, 0)[0] for _ in range(200)]
    assert 0 < sum(now) < 200, "beyond its guarantee there is nothing"


def test_the_longest_list_fits_a_filter() -> None:
    """As deep as a policy nests, every class with a limit and more guaranteed than its children, all colours marked."""
    leaf = "{limit: 1mbit, guarantee: 100kbit, set: {dscp: af11, mark: 7}, police: {cir: 1mbit, cbs: 20kb, pir: 2mbit, \
pbs: 20kb, green: {dscp: 1}, yellow: {dscp: 2}, red: {dscp: 3}}, match: [{dscp: ef}]}"
    for level in range(2, 7):
        leaf = f"{{limit: {level}mbit, guarantee: {level * 200}kbit, classes: {{c{level}: {leaf}}}}}"
    program = compiled(f"top: {leaf}\nrest: {{default: true}}")
    assert 28 <= max(len(actions) for actions in Hook(program).lists.values()) <= MOST_ACTIONS


def test_one_limit_is_one_change_and_hitless() -> None:
    before, after = compiled(), compiled(OFFICE.replace("limit: 2mbit", "limit: 3mbit"))
    plan = diff(before.tree, after.tree, bounds={})
    (impact,) = impacts(plan)
    assert not impact.disruptive and "counters" in impact.reason
    assert before.verdicts == after.verdicts
    gone = diff(after.tree, tree("shi-eth1", ()), bounds={})
    assert not any(one.disruptive for one in impacts(gone))


def test_the_model_of_queues_has_nothing_to_say_of_it() -> None:
    text = "version: 1\ninterfaces:\n  wan: {device: eth1, bandwidth: {ingress: 20mbit}, ingress: police, policy: p}\n"
    text += "policies: {p: {classes: {rest: {default: true}}}}\n"
    (interface,) = parse_policy(text, source="p.yaml").interfaces
    scenario = Path(__file__).parents[2] / "policies/scenarios/open-loop.yaml"
    with pytest.raises(UnavailableError, match="is policed") as caught:
        modelled(interface, scenario, mode="static", seconds=0.1)
    assert caught.value.where is not None and caught.value.where.line == 3
