"""Behind a translation: the numbers in marks say of a packet what it was inside, and the rules ask for them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from compile_samples import ETHERNET, FULL_KERNEL
from hypothesis import given
from hypothesis import strategies as st
from nat_samples import TRANSLATES, marked
from packet_samples import ip_sample, rules_about

from shaper.compile import compile_interface
from shaper.compile.inside import marks_for
from shaper.compile.mark_numbers import networks, ports
from shaper.errors import ShaperError, UnavailableError
from shaper.kernel.codec import bpf
from shaper.kernel.codec.bpf import BpfOptions
from shaper.kernel.codec.mirred import Sent
from shaper.kernel.fake import FakeKernel
from shaper.model.explain import explain
from shaper.model.match import NETWORK_CONTROL, Packet, Rules, classify, network_control_matches
from shaper.model.nat import Connection
from shaper.model.policy import Direction, Interface
from shaper.plan import diff
from shaper.policy import parse_policy
from shaper.report.explain import explanation_json
from shaper.tree import BpfFilter, CakeOptions, Capabilities, LinkFacts, Restore, tree
from shaper.tree.marks import CONNMARK

ABLE = replace(
    FULL_KERNEL, actions=FULL_KERNEL.actions | {"ctinfo"}, features=FULL_KERNEL.features | {"nft-ct"},
    filters=FULL_KERNEL.filters | {"flower"},
)  # fmt: skip
TEXT = """\
version: 1
interfaces:
  wan: {device: eth1, bandwidth: {egress: 20mbit, ingress: 20mbit}, policy: office%s}
policies:
  office:
    classes:
      voice: {match: [%s]}
      rest: {default: true}
"""


def office(match: str = "{src: 10.0.0.0/24}", more: str = "", way: Direction = Direction.EGRESS) -> Interface:
    policy = parse_policy(TEXT % (more and f", {more}", match), source="office.yaml")
    return next(one for one in policy.interfaces if one.direction is way)


class _Fixed(Interface):
    """An interface with the rules that a test gives it."""

    given_rules: Rules

    def rules(self) -> Rules:
        return self.given_rules


def with_rules(interface: Interface, rules: Rules) -> Interface:
    fixed = object.__new__(_Fixed)
    for name in interface.__dataclass_fields__:
        object.__setattr__(fixed, name, getattr(interface, name))
    object.__setattr__(fixed, "given_rules", rules)
    return fixed


@given(st.randoms(use_true_random=False), st.booleans())
def test_rules_that_ask_the_mark_take_what_the_rules_take_inside(random: Random, comes_in: bool) -> None:
    """Whatever the translation makes of the address and the port that it changes."""
    packets = [sample.packet for sample in (ip_sample(random) for _ in range(8))]
    rules = rules_about(random, packets)
    base = office(way=Direction.INGRESS if comes_in else Direction.EGRESS)
    marks = marks_for(with_rules(replace(base, connection=Connection(0xFFFFFF00)), rules), ABLE, TRANSLATES)
    if marks is None:
        return
    carried = marks.carried(rules)
    for packet in packets:
        leaving = turned(packet) if comes_in else packet
        mark, connection = marked(marks.table(), leaving)
        outside = {"dst": 7, "dport": 9} if comes_in else {"src": 7, "sport": 9}
        changed = {name: value for name, value in outside.items() if getattr(packet, name) is not None}
        seen = packet._replace(mark=connection & marks.restore.mark if marks.restore else mark, **changed)
        named = (rule.path for rule in rules.ordered if rule.holds(seen if rule.path == NETWORK_CONTROL else packet))
        assert classify(carried, seen) == next(named, rules.default)
        assert classify(carried, packet._replace(mark=0)) == classify(rules, packet)  # nobody has marked it


def turned(packet: Packet) -> Packet:
    return packet._replace(src=packet.dst, dst=packet.src, sport=packet.dport, dport=packet.sport)


@given(st.lists(st.integers(0, 65535), min_size=2, max_size=12), st.integers(0, 65535))
def test_every_port_has_one_number(ends: list[int], port: int) -> None:
    ranges = [tuple(sorted(pair)) for pair in pairwise(ends)]
    numbers = ports(ranges, 16)  # type: ignore[arg-type]
    number = sum(bit for bit, held in numbers.sets() if any(first <= port <= last for first, last in held.ranges))
    assert number >> 16 >= 1
    for one in ranges:
        inside = any(wanted.holds(number) for wanted in numbers.in_ports([one]))  # type: ignore[list-item]
        assert inside == (one[0] <= port <= one[1])


def test_a_thousand_networks_take_ten_bits_and_few_questions() -> None:
    text = ", ".join(f"10.{number >> 8}.{number & 255}.0/24" for number in range(1000))
    interface = office(f"{{src: [{text}, 10.0.0.0/8]}}, {{src: 10.3.0.0/16}}")
    marks = marks_for(interface, ABLE, TRANSLATES)
    assert marks is not None
    assert marks.networks.width == 10
    assert len(marks.table().sets) == 10 + 1  # what is no network's is of both IP versions
    wanted = [one for rule in interface.rules().ordered if rule.path == "voice" for one in rule.all_of[0].src]
    assert len(marks.networks.in_networks(wanted[-1:])) <= 10


def test_an_explanation_says_that_addresses_are_those_inside() -> None:
    interface = office()
    for link, said in ((TRANSLATES, "inside"), (ETHERNET, None)):
        program = compile_interface(interface, ABLE, link)
        explained = explain(interface.rules(), Packet(0x0800, src=0x0A000007))
        found = explanation_json(explained, interface, program, assumed={}, by="this kernel")
        assert found["class"] == "voice"
        assert found.get("addresses") == said


def test_nothing_is_marked_where_nothing_asks_for_the_inside() -> None:
    assert marks_for(office("{dscp: ef}"), ABLE, TRANSLATES) is None
    assert marks_for(office(), ABLE, ETHERNET) is None
    assert marks_for(office(more="nat: no"), ABLE, TRANSLATES) is None
    assert marks_for(office(more="nat: yes"), ABLE, ETHERNET) is not None


def test_rules_that_cannot_be_read_are_said_where_they_matter() -> None:
    link = replace(ETHERNET, unread=("iptables-legacy",))

    def warned(interface: Interface, of: LinkFacts = link) -> bool:
        return "nat table of iptables-legacy" in " ".join(compile_interface(interface, ABLE, of).notes)

    assert warned(office())
    assert not warned(office(), ETHERNET)
    assert not warned(office(), replace(TRANSLATES, unread=link.unread))
    assert not warned(office(more="nat: no"))
    assert not warned(office(more="nat: yes"))
    assert not warned(office("{dscp: ef}"))


def test_what_the_trees_hold() -> None:
    out = compile_interface(office(), ABLE, TRANSLATES)
    (table,) = out.tree.tables
    assert [chain.name for chain in table.chains] == ["leaving"]
    assert "nftables table sla-shaper-eth1" in " ".join(out.notes)
    assert not out.measured
    assert "addresses or ports inside" in " ".join(out.notes)
    more = "connection: {mark: 0xff000000, restore-dscp: true}"
    incoming = compile_interface(office("{dscp: ef}", more, Direction.INGRESS), ABLE, TRANSLATES)
    assert incoming.tree.tables[0].name == "sla-shaper-shi-eth1"
    (hook,) = (one for one in incoming.tree.filters if one.device == "eth1")
    assert isinstance(hook, BpfFilter)
    assert hook.restore == Restore(0, 0xFC000000, 0x02000000)
    assert not incoming.measured


def test_without_ctinfo_the_mark_comes_by_connmark_and_means_the_same() -> None:
    able = replace(lacking(actions="ctinfo"), actions=lacking(actions="ctinfo").actions | CONNMARK)
    interface = office("{src: 10.0.0.0/24}", way=Direction.INGRESS)
    by_ctinfo, by_connmark = (compile_interface(interface, each, TRANSLATES) for each in (ABLE, able))
    assert "by connmark, since the kernel lacks ctinfo" in " ".join(by_connmark.notes)
    (hook,) = (one for one in by_connmark.tree.filters if one.device == "eth1")
    assert isinstance(hook, BpfFilter)
    assert hook.restore is not None
    assert hook.restore.connmark
    same = replace(hook, restore=hook.restore._replace(connmark=False))
    assert same in by_ctinfo.tree.filters
    assert [one for one in by_connmark.tree.filters if one != hook] == [
        one for one in by_ctinfo.tree.filters if one != same
    ]
    options = BpfOptions(hook.program, hook.classid, Sent(7, away=True), (), hook.restore)
    assert bpf.decode(bpf.encode(options)) == options
    steps = diff(tree("shi-eth1", ()), by_connmark.tree, bounds={}).steps
    fake = FakeKernel("eth1", capabilities=able)
    fake.send("shi-eth1", steps)
    assert fake.read("shi-eth1", fed_by="eth1") == by_connmark.tree
    with pytest.raises(ShaperError) as error:
        FakeKernel("eth1", capabilities=lacking(actions="ctinfo")).send("shi-eth1", steps)
    assert "act_connmark" in error.value.hint


@given(st.integers(0, 63), st.integers(0, 0xFFFFFFFF), st.sampled_from([0x0800, 0x86DD]))
def test_a_dscp_is_saved_as_it_goes_out(dscp: int, before: int, ethertype: int) -> None:
    more = "connection: {restore-dscp: true}"
    program = compile_interface(office("{dscp: ef}", more, Direction.INGRESS), ABLE, TRANSLATES)
    _, connection = marked(program.tree.tables[0], Packet(ethertype, src=1, dscp=dscp), connection=before)
    assert connection >> 26 == dscp
    assert connection & 0x02000000
    assert connection & 0x01FFFFFF == before & 0x01FFFFFF  # somebody else's


def lacking(**groups: str) -> Capabilities:
    return replace(ABLE, **{name: getattr(ABLE, name) - {kind} for name, kind in groups.items()})


@pytest.mark.parametrize(
    ("interface", "able", "said", "line"),
    [
        (office(), lacking(features="nft-ct"), "lacks nftables with connection tracking", 7),
        (
            office(way=Direction.INGRESS),
            lacking(actions="ctinfo"),
            "lacks the ctinfo action, or connmark and skbedit",
            7,
        ),
        (office(more="classifier: flower"), ABLE, "flower sees no mark", 7),
        (office("{src: 10.0.0.1}, {dscp: ef, mark: 7}"), ABLE, "this asks for 0xffff0000 of them", 7),
        (
            office("{sport: [" + ", ".join(str(port) for port in range(1, 600, 2)) + "]}", "connection: {mark: 0xff}"),
            ABLE,
            "take 9 bits of a mark, of which there are 8",
            7,
        ),
        (
            office("{dscp: ef}", "connection: {restore-dscp: true}", Direction.INGRESS),
            lacking(actions="ctinfo"),
            "the DSCP of connections cannot be restored, and the kernel (6.12) lacks the ctinfo action",
            3,
        ),
    ],
)
def test_what_cannot_be_told_by_marks_is_refused_with_its_place(
    interface: Interface, able: Capabilities, said: str, line: int
) -> None:
    with pytest.raises(UnavailableError) as error:
        compile_interface(interface, able, TRANSLATES)
    assert said in error.value.message
    assert error.value.hint
    assert error.value.where is not None
    assert (error.value.where.file, error.value.where.line) == ("office.yaml", line)
    assert error.value.where.column > 1


def test_a_mark_beside_the_shapers_bits_is_asked_as_ever() -> None:
    interface = office("{src: 10.0.0.1}, {mark: 0x7/0xffff}")
    program = compile_interface(interface, ABLE, TRANSLATES)
    (table,) = program.tree.tables
    mark, _ = marked(table, Packet(0x0800, src=0x0A000001, mark=0xABCD0007))
    assert mark == 0xABCE0007


def test_network_control_is_the_routers_own() -> None:
    marks = marks_for(office("{sport: 100-200}"), ABLE, TRANSLATES)
    assert marks is not None
    carried = marks.carried(office("{sport: 100-200}").rules())
    control = [match for rule in carried.ordered if rule.path == NETWORK_CONTROL for match in rule.all_of]
    assert control == list(network_control_matches())


def test_cake_looks_behind_the_translation() -> None:
    text = TEXT.replace("      voice: {match: [%s]}\n", "") % ", backend: cake"
    (interface, _) = parse_policy(text, source="office.yaml").interfaces
    able = replace(ABLE, qdiscs=ABLE.qdiscs | {"cake"})
    for link, looks in ((ETHERNET, False), (TRANSLATES, True)):
        root = compile_interface(interface, able, link).tree.root()
        assert root is not None
        assert isinstance(root.options, CakeOptions)
        assert root.options.nat is looks


def test_networks_inside_each_other() -> None:
    wanted = [prefix for rule in office("{src: [10.0.0.0/8, 10.1.0.0/16, 10.1.2.0/24, 10.9.0.0/16]}").rules().ordered
              if rule.path == "voice" for prefix in rule.all_of[0].src]  # fmt: skip
    numbers = networks(wanted, 0)
    held = list(numbers.sets())

    def number(address: int) -> int:
        return sum(
            bit for bit, one in held if one.bits == 32 and any(first <= address <= last for first, last in one.ranges)
        )

    assert [number(one) for one in (0x0A000001, 0x0A010001, 0x0A010201, 0x0A090001, 0x0B000001)] == [2, 3, 4, 5, 1]
    for prefix in wanted:
        for address in (0x0A000001, 0x0A010001, 0x0A010201, 0x0A090001, 0x0B000001):
            asked = any(one.holds(number(address)) for one in numbers.in_networks([prefix]))
            assert asked == prefix.holds(Packet(0x0800), address)
