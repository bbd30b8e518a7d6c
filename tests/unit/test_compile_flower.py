"""Flower filters mean what the rules mean, for every packet, or the rules are refused."""

from __future__ import annotations

import itertools
from dataclasses import replace
from random import Random

import flower_machine
import packet_samples
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packet_samples import LEAVES, V4, V6, Sample

from shaper.compile.flower import MOST_FILTERS, flower_filters
from shaper.errors import UnavailableError, Where
from shaper.kernel.codec.flower import fault
from shaper.model.match import ETHERTYPE_LLC, Match, PortRange, Prefix, Rule, Rules, classify, network_control_matches
from shaper.model.spans import blocks, common, merged
from shaper.tree import ETH_P_ALL, FlowerFilter, FlowerKey, device_text, flower_key

PARENT = 0x5A000000
CLASSIDS = {path: 0x5A000010 + number for number, path in enumerate(LEAVES)}
HERE = Where("p.yaml", 7, 3)
randoms = st.integers(0, 2**32).map(Random)


def filters_of(*matches: Match) -> tuple[FlowerFilter, ...]:
    return flower_filters(Rules((Rule(matches, "a"),), "rest"), CLASSIDS, PARENT)


def asked(*matches: Match) -> list[set[str]]:
    """The keys of every filter but for the ethertype, as text."""
    return [
        {f"{field}={value}/{mask:x}" for field, value, mask in one.keys if field != "eth_type"}
        for one in filters_of(*matches)
    ]


def accepted(wanted: Rules) -> tuple[Rules, tuple[FlowerFilter, ...]]:
    """The rules without those that flower refuses, and their filters."""
    ordered = []
    for rule in wanted.ordered:
        try:
            flower_filters(Rules((rule,), "rest"), CLASSIDS, PARENT)
        except UnavailableError as error:
            assert error.hint
            continue
        ordered.append(rule)
    rules = Rules(tuple(ordered), wanted.default)
    return rules, flower_filters(rules, CLASSIDS, PARENT)


@given(randoms)
def test_flower_classifies_as_the_reference(random: Random) -> None:
    samples = [packet_samples.sample(random) for _ in range(20)]
    rules, filters = accepted(packet_samples.rules_about(random, [sample.packet for sample in samples]))
    for sample in samples:
        if sample.packet.ethertype == ETHERTYPE_LLC and sample.skb.protocol != ETHERTYPE_LLC:
            continue  # sent here by its length: no filter can ask for that, and the plan says so
        expected = CLASSIDS[classify(rules, sample.packet)]
        assert (flower_machine.run(filters, sample.skb) or CLASSIDS["rest"]) == expected, (rules, sample)


DEVICES = ("lan0", "lan1", "a-long-ifname1")


def come_in(sample: Sample, random: Random) -> Sample:
    """The packet as one that was forwarded, or made here."""
    name = random.choice((None, *DEVICES, "elsewhere"))
    packet, skb = sample.packet._replace(iif=name), replace(sample.skb, iif=name or "")
    return replace(sample, packet=packet, skb=skb)


@given(randoms)
def test_flower_knows_the_device_that_a_packet_came_in_by(random: Random) -> None:
    samples = [come_in(packet_samples.sample(random), random) for _ in range(20)]
    about = packet_samples.rules_about(random, [sample.packet for sample in samples])
    rules, filters = accepted(Rules(tuple(with_device(rule, random) for rule in about.ordered), about.default))
    for sample in samples:
        if sample.packet.ethertype == ETHERTYPE_LLC and sample.skb.protocol != ETHERTYPE_LLC:
            continue
        expected = CLASSIDS[classify(rules, sample.packet)]
        assert (flower_machine.run(filters, sample.skb) or CLASSIDS["rest"]) == expected, (rules, sample)


def with_device(rule: Rule, random: Random) -> Rule:
    """Some rules ask for one or several, a few for nothing else."""
    chosen = tuple(random.sample(DEVICES, random.randint(0, 2)))
    first, *rest = rule.all_of
    if random.random() < 0.2:
        return rule._replace(all_of=(Match(iif=chosen or DEVICES[:1]),))
    return rule._replace(all_of=(replace(first, iif=chosen), *rest))


def test_of_a_device_that_is_not_there_nothing_comes() -> None:
    def of(*devices: str) -> list[set[str]]:
        filters = flower_filters(rules, CLASSIDS, PARENT, devices=devices)
        return [{device_text(key.value) for key in one.keys if key.field == "indev"} for one in filters]

    rules = Rules((Rule((Match(iif=("lan0", "lan1")),), "a"),), "rest")
    assert of("lan0", "eth0") == [{"lan0"}]
    assert of("lan0", "lan1") == [{"lan0"}, {"lan1"}]
    assert of() == []


@given(randoms)
def test_no_filter_has_a_fault_and_no_two_of_a_preference_ask_alike(random: Random) -> None:
    packets = [packet_samples.sample(random).packet for _ in range(5)]
    _, filters = accepted(packet_samples.rules_about(random, packets))
    for one in filters:
        assert fault(one.keys, one.protocol) == ""
        assert 0 < one.preference < 1 << 16
    assert len({one.key for one in filters}) == len(filters)
    assert len({(one.preference, one.keys) for one in filters}) == len(filters)
    assert all(len({one.protocol for one in filters if one.preference == each.preference}) == 1 for each in filters)


@given(randoms)
def test_network_control_can_be_said(random: Random) -> None:
    rules = Rules(tuple(Rule((match,), "a") for match in network_control_matches()), "rest")
    filters = flower_filters(rules, CLASSIDS, PARENT)
    for _ in range(20):
        sample = packet_samples.sample(random)
        if sample.packet.ethertype != ETHERTYPE_LLC:
            expected = CLASSIDS[classify(rules, sample.packet)]
            assert (flower_machine.run(filters, sample.skb) or CLASSIDS["rest"]) == expected


def test_each_rule_has_a_preference_for_each_ethertype_in_the_order_of_the_rules() -> None:
    rules = Rules((Rule((Match(dscp=(46,)),), "a"), Rule((Match(src=(Prefix(6, 0, 8),)),), "d"), Rule((), "a")), "rest")
    filters = flower_filters(rules, CLASSIDS, PARENT)
    assert [(one.preference, one.protocol, one.classid) for one in filters] == [
        (100, V4, CLASSIDS["a"]),
        (101, V6, CLASSIDS["a"]),
        (102, V6, CLASSIDS["d"]),
        (103, ETH_P_ALL, CLASSIDS["a"]),
    ]


def test_what_asks_for_the_ethertype_alone_has_no_keys() -> None:
    (arp,) = filters_of(Match(ethertypes=(0x0806,)))
    assert (arp.protocol, arp.keys) == (0x0806, ())
    assert asked(Match(dst=(Prefix(4, 0, 0),))) == [set()]


def test_conjunctions_are_intersected_field_by_field() -> None:
    wide = Match(dscp=(10, 46), protocols=(6, 17), src=(Prefix(4, 10 << 24, 8),), dport=(PortRange(1, 100),))
    narrow = Match(dscp=(46,), src=(Prefix(4, 10 << 24 | 5, 32), Prefix(6, 1, 128)), dport=(PortRange(80, 443),))
    (tcp, udp) = asked(wide, narrow)
    shared = {"ip_tos=184/fc", f"src4={10 << 24 | 5}/ffffffff", "dport_min=80/ffff", "dport_max=100/ffff"}
    assert (tcp, udp) == (shared | {"ip_proto=6/ff"}, shared | {"ip_proto=17/ff"})


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
    ],
)
def test_what_no_packet_can_meet_is_no_filter(one: Match, two: Match) -> None:
    assert filters_of(one, two) == ()


def test_port_0_is_asked_of_no_fragment() -> None:
    for match in (Match(protocols=(17,), dport=(PortRange(0, 0),)), Match(protocols=(6,), sport=(PortRange(0, 9),))):
        assert all("ip_flags=0/1" in keys for keys in asked(match))
    assert not any("ip_flags=0/1" in keys for keys in asked(Match(protocols=(6,), sport=(PortRange(1, 9),))))


def test_a_port_beside_a_range_makes_blocks_of_the_range() -> None:
    keys = asked(Match(protocols=(6,), sport=(PortRange(5, 8),), dport=(PortRange(80, 80),), ethertypes=(V4,)))
    ports = {"ip_proto=6/ff", "dport=80/ffff"}
    assert sorted(keys, key=sorted) == [ports | {source} for source in ("sport=5/ffff", "sport=6/fffe", "sport=8/ffff")]
    both = asked(Match(protocols=(6,), sport=(PortRange(5, 8),), dport=(PortRange(80, 81),), ethertypes=(V4,)))
    assert both == [{"ip_proto=6/ff", "sport_min=5/ffff", "sport_max=8/ffff", "dport_min=80/ffff", "dport_max=81/ffff"}]


@pytest.mark.parametrize(
    ("match", "words"),
    [
        (Match(dport=(PortRange(80, 80),), where=HERE), "ports of a protocol"),
        (Match(protocols=(17, 136), dport=(PortRange(80, 80),), where=HERE), "ports of a protocol"),
        (Match(protocols=(6, 137), where=HERE), "MPLS in IP"),
    ],
)
def test_what_flower_cannot_say_is_refused_with_its_line_and_the_mend(match: Match, words: str) -> None:
    with pytest.raises(UnavailableError, match=words) as refused:
        filters_of(match)
    assert refused.value.where == HERE
    assert "classifier: bpf" in refused.value.hint


def test_too_many_filters_are_refused_at_the_rule_that_is_too_much() -> None:
    many = tuple(Prefix(4, number << 8, 24) for number in range(MOST_FILTERS // 2))
    fits = Rules((Rule((Match(src=many),), "a"), Rule((Match(dst=many),), "a")), "rest")
    assert len(flower_filters(fits, CLASSIDS, PARENT)) == MOST_FILTERS
    over = Rules((*fits.ordered, Rule((Match(ethertypes=(4,), where=HERE),), "a")), "rest")
    with pytest.raises(UnavailableError, match="more than 4000 flower filters") as refused:
        flower_filters(over, CLASSIDS, PARENT)
    assert refused.value.where == HERE and "prefixes" in refused.value.hint


def test_a_product_beyond_all_bounds_is_refused_soon() -> None:
    many = tuple(Prefix(4, number << 8, 24) for number in range(3000))
    with pytest.raises(UnavailableError, match="flower filters"):
        filters_of(Match(src=many, dst=many, dscp=tuple(range(64))))


spans = st.lists(st.tuples(st.integers(0, 70), st.integers(0, 70)).map(lambda pair: (min(pair), max(pair))), max_size=5)


def values(held: list[tuple[int, int]]) -> set[int]:
    return {number for first, last in held for number in range(first, last + 1)}


@given(spans, spans)
def test_spans_are_sets_of_numbers(left: list[tuple[int, int]], right: list[tuple[int, int]]) -> None:
    assert values(merged(left)) == values(left)
    assert values(common(left, right)) == values(left) & values(right)
    joined = merged(left)
    assert all(one[1] + 1 < two[0] for one, two in itertools.pairwise(joined))


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_blocks_are_the_span_and_each_is_one_mask(one: int, two: int) -> None:
    span = min(one, two), max(one, two)
    parts = list(blocks(span))
    assert [first for first, _ in parts] == [span[0], *(first + size for first, size in parts)][:-1]
    assert parts[-1][0] + parts[-1][1] - 1 == span[1]
    assert all(size & size - 1 == 0 and first % size == 0 for first, size in parts)
    assert len(parts) <= 30


@pytest.mark.parametrize(
    ("keys", "protocol"),
    [
        ([flower_key("ip_proto", 6)], V4),
        ([flower_key("eth_type", V6), flower_key("ip_proto", 6)], V4),
        ([flower_key("eth_type", 0x0806), flower_key("ip_proto", 6)], 0x0806),
        ([flower_key("eth_type", V4), flower_key("src6", 6)], V4),
        ([flower_key("eth_type", V4), flower_key("dport", 6)], V4),
        ([flower_key("dport", 6), flower_key("eth_type", V4), flower_key("ip_proto", 136)], V4),
        ([flower_key("dport_min", 6), flower_key("eth_type", V4), flower_key("ip_proto", 6)], V4),
        (
            [flower_key(*key) for key in (("dport_max", 6), ("dport_min", 6), ("eth_type", V4), ("ip_proto", 6))],
            V4,
        ),
        ([flower_key("eth_type", V4), flower_key("icmpv6_type", 6), flower_key("ip_proto", 58)], V4),
        ([flower_key("eth_type", V4), flower_key("ip_flags", 2, 2)], V4),
        ([flower_key("ip_tos", 4, 0xFC), flower_key("eth_type", V4)], V4),
        ([flower_key("eth_type", V4), FlowerKey("ip_tos", 7, 0xFC)], V4),
        ([flower_key("eth_type", V4), flower_key("ip_tos", 4, 0)], V4),
        ([flower_key("eth_type", V4), flower_key("ip_proto", 4, 7)], V4),
        ([flower_key("eth_type", V4), FlowerKey("ttl", 4, 7)], V4),
    ],
)
def test_keys_that_the_kernel_refuses_or_leaves_out_have_a_fault(keys: list[FlowerKey], protocol: int) -> None:
    assert fault(tuple(keys), protocol)
