"""u32 filters mean what the rules mean, for every packet, or the rules are refused."""

from __future__ import annotations

import struct
from random import Random

import frame_samples
import packet_samples
import policy_samples
import pytest
import u32_machine
from bpf_machine import Skb
from hypothesis import given
from hypothesis import strategies as st
from packet_samples import LEAVES, V4, V6, Sample

from shaper.compile.treatment import Treatment
from shaper.compile.u32 import MOST_FILTERS, u32_filters
from shaper.compile.u32_ways import MOST_WAYS, ways
from shaper.errors import PolicyError, UnavailableError, Where
from shaper.kernel.codec.u32 import fault
from shaper.model.match import (
    ETHERTYPE_LLC,
    Masked,
    Match,
    Packet,
    PortRange,
    Prefix,
    Rule,
    Rules,
    classify,
    network_control_matches,
)
from shaper.policy import parse_policy
from shaper.tree import ETH_P_ALL, U32_ROOT, Finish, SetDscp, U32Filter, U32Table

PARENT = 0x5A000000
CLASSIDS = {path: 0x5A000010 + number for number, path in enumerate(LEAVES)}
HERE = Where("p.yaml", 7, 3)
MOST_EXTENSIONS = 7
randoms = st.integers(0, 2**32).map(Random)


def extensions(skb: Skb) -> int:
    """How many IPv6 extension headers stand before the transport or the fragment's header."""
    at, number, count = skb.network + 40, skb.data[skb.network + 6] if skb.protocol == V6 else 255, 0
    while number in (0, 43, 60):
        number, at, count = skb.data[at], at + (skb.data[at + 1] + 1) * 8, count + 1
    return count


def seen(sample: Sample) -> bool:
    """Whether it is none of those that u32 does not see, as the plan says."""
    by_length = sample.packet.ethertype == ETHERTYPE_LLC and sample.skb.protocol != ETHERTYPE_LLC
    return not by_length and extensions(sample.skb) <= MOST_EXTENSIONS


def agrees(rules: Rules, sample: Sample) -> bool:
    nodes = u32_filters(rules, CLASSIDS, PARENT)
    return u32_machine.run(nodes, sample.skb) == CLASSIDS[classify(rules, sample.packet)]


@given(randoms)
def test_u32_classifies_as_the_reference(random: Random) -> None:
    samples = [packet_samples.sample(random) for _ in range(20)]
    rules = packet_samples.rules_about(random, [sample.packet for sample in samples])
    nodes = u32_filters(rules, CLASSIDS, PARENT)
    for sample in filter(seen, samples):
        assert u32_machine.run(nodes, sample.skb) == CLASSIDS[classify(rules, sample.packet)], (rules, sample)


@given(randoms)
def test_every_field_that_is_carried_means_what_the_policy_says(random: Random) -> None:
    """Whole policies, about frames with TCP flags, lengths and congestion marks; alternatives, and both of several."""
    frames = [frame_samples.frame(random, tagged=False) for _ in range(10)]
    written = policy_samples.classes(random, [frame.packet for frame in frames], fields=policy_samples.BY_U32)
    matches = {name: {**cls, "classes": {}} for name, cls in written.items()}
    rules = _accepted(matches)
    if rules is None:
        return
    classids = {
        path: 0x5A000010 + number for number, path in enumerate({rule.path for rule in rules.ordered} | {"rest"})
    }
    nodes = u32_filters(rules, classids, PARENT)
    for frame in frames:
        skb = Skb(frame.data, 14, int.from_bytes(frame.data[12:14], "big"))
        assert u32_machine.run(nodes, skb) == classids[classify(rules, frame.packet)], (rules, frame)


def _accepted(written: policy_samples.Spec) -> Rules | None:
    """The rules of a policy; None where it has a match that no packet can meet."""
    try:
        return parse_policy(policy_samples.text_of(written), source="random.yaml").interfaces[0].rules()
    except PolicyError:
        return None


@given(randoms)
def test_no_filter_has_a_fault_and_what_it_needs_comes_before_it(random: Random) -> None:
    packets = [packet_samples.sample(random).packet for _ in range(5)]
    nodes = u32_filters(packet_samples.rules_about(random, packets), CLASSIDS, PARENT)
    assert [fault(one) for one in nodes] == [""] * len(nodes)
    assert len({one.key for one in nodes}) == len(nodes)
    there = set()
    for one in sorted(nodes, key=lambda each: each.key):
        if isinstance(one, U32Filter):
            needed = {one.handle & 0xFFF00000, one.link.table if one.link else U32_ROOT} - {U32_ROOT}
            assert {(one.preference, table) for table in (0, *needed)} <= there
        else:
            there.add((one.preference, one.handle))
    tables = [one.handle for one in nodes if isinstance(one, U32Table) and one.handle]
    assert len(set(tables)) == len(tables), "the kernel numbers the tables of all preferences together"


@given(randoms)
def test_network_control_can_be_said(random: Random) -> None:
    rules = Rules(tuple(Rule((match,), "a") for match in network_control_matches()), "rest")
    for _ in range(20):
        sample = packet_samples.sample(random)
        if seen(sample):
            assert agrees(rules, sample), sample


def test_behind_more_extension_headers_than_the_kernel_follows_a_packet_is_the_defaults() -> None:
    def behind(count: int) -> Skb:
        chain = b"".join(bytes([17 if left == 0 else 60, 0]) + bytes(6) for left in reversed(range(count)))
        udp = struct.pack("!HHHH", 5000, 53, 8, 0)
        header = struct.pack("!IHBB", 6 << 28, len(chain) + 8, 60 if count else 17, 64) + bytes(32)
        return Skb(bytes(14) + header + chain + udp, 14, V6)

    rules = Rules((Rule((Match(protocols=(17,), dport=(PortRange(53, 53),)),), "a"),), "rest")
    nodes = u32_filters(rules, CLASSIDS, PARENT)
    found = [u32_machine.run(nodes, behind(count)) for count in range(10)]
    assert found == [CLASSIDS["a"]] * (MOST_EXTENSIONS + 1) + [CLASSIDS["rest"]] * (9 - MOST_EXTENSIONS)


def test_each_ethertype_has_a_preference_of_its_own_number() -> None:
    rules = Rules((Rule((Match(ethertypes=(0x0806,)),), "a"), Rule((Match(src=(Prefix(6, 0, 8),)),), "d")), "rest")
    nodes = u32_filters(rules, CLASSIDS, PARENT)
    heads = [(one.preference, one.protocol) for one in nodes if isinstance(one, U32Table)]
    assert heads == [(V4, V4), (0x0806, 0x0806), (V6, V6), (0xFFFF, ETH_P_ALL)]
    filters = [(one.preference, one.handle, one.classid) for one in nodes if isinstance(one, U32Filter)]
    assert filters == [
        (0x0806, U32_ROOT | 1, CLASSIDS["a"]),
        (V6, U32_ROOT | 1, CLASSIDS["d"]),
        (0xFFFF, U32_ROOT | 1, CLASSIDS["rest"]),
    ]


def test_ports_are_asked_once_for_all_addresses() -> None:
    many = tuple(Prefix(4, number << 8, 24) for number in range(0, 600, 2))
    match = Match(protocols=(17,), src=many, dport=(PortRange(1, 65535),))
    nodes = u32_filters(Rules((Rule((match,), "a"),), "rest"), CLASSIDS, PARENT)
    assert sum(isinstance(one, U32Filter) for one in nodes) == 300 + 16 + 1


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (Match(dscp=(1,)), Match(dscp=(2,))),
        (Match(protocols=(6,)), Match(protocols=(17,))),
        (Match(src=(Prefix(4, 0, 8),)), Match(src=(Prefix(4, 1 << 24, 8),))),
        (Match(src=(Prefix(4, 0, 8),)), Match(dst=(Prefix(6, 0, 8),))),
        (Match(sport=(PortRange(1, 2),)), Match(sport=(PortRange(3, 4),))),
        (Match(protocols=(1,)), Match(dport=(PortRange(3, 4),))),
        (Match(ethertypes=(0x0806,)), Match(dscp=(46,))),
        (Match(icmp=((58, 135),)), Match(protocols=(6,))),
        (Match(tcp_flags=(Masked(2, 2),)), Match(tcp_flags=(Masked(0, 2),))),
    ],
)
def test_what_no_packet_can_meet_has_no_way(one: Match, two: Match) -> None:
    assert [ways((one, two), ethertype) for ethertype in (V4, V6, 0x0806, ETH_P_ALL)] == [[]] * 4


@pytest.mark.parametrize(
    ("match", "words"),
    [
        (Match(mark=(Masked(7, 0xFF),), where=HERE), "`?mark"),
        (Match(vlan=(PortRange(5, 5),), where=HERE), "vlan"),
        (Match(iif=("lan0",), where=HERE), "iif"),
        (Match(none_of=(Match(dscp=(46,)),), where=HERE), "not"),
        (Match(any_of=(Match(src_mac=(5,)), Match(dscp=(46,))), where=HERE), "src-mac"),
    ],
)
def test_what_u32_cannot_say_is_refused_with_its_line_and_the_mend(match: Match, words: str) -> None:
    with pytest.raises(UnavailableError, match=f"a rule of a asks for {words}.*u32 filters don't carry") as refused:
        u32_filters(Rules((Rule((match,), "a"),), "rest"), CLASSIDS, PARENT)
    assert refused.value.where == HERE
    assert refused.value.hint is not None and "classifier: bpf" in refused.value.hint


def test_too_many_filters_and_too_many_ways_are_refused_at_the_rule_that_is_too_much() -> None:
    many = tuple(Prefix(4, number << 8, 24) for number in range(MOST_FILTERS // 2))
    fits = (Rule((Match(src=many),), "a"), Rule((Match(dst=many[1:]),), "a"))
    nodes = u32_filters(Rules(fits, "rest"), CLASSIDS, PARENT)
    assert sum(isinstance(one, U32Filter) for one in nodes) == MOST_FILTERS
    for over in (Match(dst=many, where=HERE), Match(src=many, dst=many, where=HERE)):
        with pytest.raises(UnavailableError, match=f"{MOST_FILTERS} u32|{MOST_WAYS} ways") as refused:
            u32_filters(Rules((*fits, Rule((over,), "a")), "rest"), CLASSIDS, PARENT)
        assert refused.value.where == HERE


@given(st.integers(0, 65535), st.integers(0, 65535), st.integers(0, 65535))
def test_lengths_are_those_that_the_headers_say(one: int, two: int, said: int) -> None:
    """IPv4 says the whole packet's and 0 of what is larger; IPv6 what follows its header, and 0 of nothing too."""
    span = PortRange(min(one, two), max(one, two))
    rules = Rules((Rule((Match(length=(span,)),), "a"),), "rest")
    four = bytes(14) + struct.pack("!BBH", 0x45, 0, said) + bytes(16)
    packet = Packet(V4, 0, 0, 0, length=said or 65535)
    assert agrees(rules, Sample(Skb(four, 14, V4), packet, 34))
    for number in (17, 59):
        six = bytes(14) + struct.pack("!IHBB", 6 << 28, said, number, 64) + bytes(32)
        length = min(said + 40, 65535) if said else 40 if number == 59 else 65535
        other = packet._replace(ethertype=V6, protocol=number, length=length)
        assert agrees(rules, Sample(Skb(six, 14, V6), other, 54))


def test_what_is_done_to_a_class_is_done_by_its_filters() -> None:
    treated = {"a": Treatment((SetDscp(4, 8),), (SetDscp(6, 8),), ()), "rest": Treatment((Finish(2),), (), ())}
    rules = Rules((Rule((Match(protocols=(17,)),), "a"),), "rest")
    nodes = u32_filters(rules, CLASSIDS, PARENT, treated)
    done = {(one.protocol, one.classid, one.actions) for one in nodes if isinstance(one, U32Filter) and not one.link}
    assert done == {
        (V4, CLASSIDS["a"], (SetDscp(4, 8),)),
        (V6, CLASSIDS["a"], (SetDscp(6, 8),)),
        (V4, CLASSIDS["rest"], (Finish(2),)),
        (V6, CLASSIDS["rest"], ()),
        (ETH_P_ALL, CLASSIDS["rest"], ()),
    }
    assert all(not one.actions for one in nodes if isinstance(one, U32Filter) and one.link)
