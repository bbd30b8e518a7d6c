"""Addresses in tables: a program that looks them up answers as the reference, whatever else the rules ask for."""

from __future__ import annotations

import struct
from random import Random

import frame_samples
import policy_samples
import pytest
import table_samples
from bpf_machine import Skb, run
from hypothesis import given
from hypothesis import strategies as st
from table_samples import subscribers
from test_compile_match import accepted, skb_of

from shaper.compile.addresses import Addresses, Choice, Run
from shaper.compile.bpf import TooLongError
from shaper.compile.classifier import classifier, lookup_classifier
from shaper.model.match import Match, Packet, PortRange, Prefix, Rule, Rules, classify
from shaper.tree import LookupProgram, lookup_from_json, lookup_to_json, networks_in

TOP = 0x5A000000
randoms = st.integers(0, 2**32).map(Random)


def numbered(rules: Rules) -> dict[str, int]:
    paths = sorted({rule.path for rule in rules.ordered} | {rules.default})
    return {path: TOP | number for number, path in enumerate(paths, 0x10)}


def answer(lookup: LookupProgram, skb: Skb) -> int:
    return run(lookup.program, skb, lookup.tables)


def skb_of_packet(packet: Packet) -> Skb:
    """Its headers, with ports."""
    assert packet.src is not None
    assert packet.dst is not None
    ports = struct.pack("!HHHH", packet.sport or 0, packet.dport or 0, 8, 0)
    if packet.ethertype == 0x0800:
        header = struct.pack("!BBHHHBBHII", 0x45, (packet.dscp or 0) << 2, 28, 0, 0, 64, 17, 0, packet.src, packet.dst)
    else:
        header = (
            struct.pack("!IHBB", 6 << 28 | (packet.dscp or 0) << 22, 8, 17, 64)
            + packet.src.to_bytes(16)
            + packet.dst.to_bytes(16)
        )
    return Skb(header + ports, 0, packet.ethertype)


@given(randoms)
def test_the_first_rule_wins_among_networks_in_networks(random: Random) -> None:
    rules = table_samples.nested(random)
    classids = numbered(rules)
    lookup = lookup_classifier(rules, classids)
    for _ in range(20):
        packet = table_samples.packet(random)
        assert answer(lookup, skb_of_packet(packet)) == classids[classify(rules, packet)], (rules, packet)


@given(randoms)
def test_the_whole_match_language_means_the_same_with_tables(random: Random) -> None:
    frames = [frame_samples.frame(random) for _ in range(20)]
    rules = accepted(policy_samples.classes(random, [frame.packet for frame in frames]))
    classids = numbered(rules)
    lookup = lookup_classifier(rules, classids)
    for frame in frames:
        assert answer(lookup, skb_of(frame)) == classids[classify(rules, frame.packet)], (rules, frame)


def test_thousands_of_subscribers_are_one_question() -> None:
    rules = subscribers(5000)
    classids = numbered(rules)
    with pytest.raises(TooLongError):
        classifier(rules, classids)
    lookup = lookup_classifier(rules, classids)
    assert len(lookup.program) == len(lookup_classifier(subscribers(20), numbered(subscribers(20))).program)
    assert (lookup.networks(4), lookup.networks(6)) == (5000, 5000)
    assert networks_in(lookup.name) == (5000, 5000)
    assert len(lookup.name) <= 80
    for number in (0, 1, 2500, 4999):
        packet = Packet(0x0800, 17, 1, 0x0A000000 + number, 1, 2, 0)
        assert answer(lookup, skb_of_packet(packet)) == classids[f"s{number}"]
    assert answer(lookup, skb_of_packet(Packet(0x0800, 17, 1, 0x0A000000 + 5000, 1, 2, 0))) == classids["rest"]


def test_of_two_addresses_the_earlier_rule_counts() -> None:
    rules = subscribers(20)
    lookup = lookup_classifier(rules, numbered(rules))
    for source, target in ((3, 7), (7, 3), (0, 19), (19, 30), (30, 19)):
        packet = Packet(0x0800, 17, 0x0A000000 + source, 0x0A000000 + target, 1, 2, 0)
        assert answer(lookup, skb_of_packet(packet)) == numbered(rules)[f"s{min(source, target)}"]


def test_a_class_that_is_left_to_other_filters_is_named_0() -> None:
    rules = subscribers(20)
    classids = numbered(rules) | {"s3": 0}
    lookup = lookup_classifier(rules, classids)
    assert answer(lookup, skb_of_packet(Packet(0x0800, 17, 1, 0x0A000003, 1, 2, 0))) == 0


def test_a_run_is_cut_where_a_rule_asks_for_more() -> None:
    own = [Rule((Match(dst=(Prefix(4, number, 32),)),), "a") for number in range(30)]
    own[12] = Rule((*own[12].all_of, Match(dport=(PortRange(1, 1),))), "a")
    steps = Addresses(Rules(tuple(own), "rest"), {"a": TOP | 16, "rest": TOP | 17}).steps
    assert [len(step.rules) if isinstance(step, Run) else 0 for step in steps] == [12, 0, 17]


@given(randoms, st.sampled_from((10, 40, 120)))
def test_what_a_choice_leaves_are_the_rules_that_may_hold(random: Random, count: int) -> None:
    rules = table_samples.households(random, count)
    classids = numbered(rules)
    lookup = lookup_classifier(rules, classids)
    for packet in table_samples.meeting(random, rules, 30):
        assert answer(lookup, skb_of_packet(packet)) == classids[classify(rules, packet)], (rules, packet)


def test_thousands_of_households_with_classes_each_are_a_choice() -> None:
    rules = table_samples.households(Random(1), 2000)
    steps = Addresses(rules, numbered(rules)).steps
    assert [type(step) for step in steps] == [Choice]


def test_where_a_rule_would_stand_in_every_part_there_is_no_choice() -> None:
    """A wide list of which every other is a part."""
    every = tuple(Prefix(4, number, 32) for number in range(40))
    own = [Rule((Match(dst=every[number : number + 1], dscp=(46,)),), "a") for number in range(40)]
    wide = [Rule((Match(dst=every, dscp=(number,)),), "b") for number in range(10)]
    steps = Addresses(Rules((*own, *wide), "rest"), {"a": TOP | 16, "b": TOP | 17, "rest": TOP | 18}).steps
    assert [type(step) for step in steps] == [Rule] * 50


def test_more_runs_than_there_are_columns_are_the_longest_ones() -> None:
    ordered: list[Rule] = []
    for run_number in range(40):
        ordered += [
            Rule((Match(dst=(Prefix(4, run_number << 16 | number, 32),)),), "a") for number in range(8 + run_number)
        ]
        ordered.append(Rule((Match(dscp=(run_number,)),), "b"))
    rules = Rules(tuple(ordered), "rest")
    addresses = Addresses(rules, {"a": TOP | 16, "b": TOP | 17, "rest": TOP | 18})
    assert [len(step.rules) for step in addresses.steps if isinstance(step, Run)] == list(range(16, 48))


@given(randoms)
def test_other_numbers_of_the_classes(random: Random) -> None:
    """As they are in a tree that was taken over."""
    rules = table_samples.nested(random)
    classids = numbered(rules)
    others = {number: 0x10000 | 0x400 - number & 0xFFFF for number in classids.values()} | {TOP: 0x10000}
    moved = lookup_classifier(rules, classids).renumbered(lambda number: others.get(number, number))
    again = lookup_classifier(rules, {path: others[number] for path, number in classids.items()})
    assert moved == again
    assert moved.name == again.name


@given(randoms)
def test_programs_survive_files(random: Random) -> None:
    rules = table_samples.nested(random)
    lookup = lookup_classifier(rules, numbered(rules))
    back = lookup_from_json(lookup_to_json(lookup))
    assert back == lookup
    assert back.name == lookup.name


@pytest.mark.parametrize("damaged", [{}, {"program": 3}, {"program": [[1]], "tables": [], "major": 0, "verdicts": []}])
def test_a_damaged_file_is_no_program(damaged: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="no program"):
        lookup_from_json(damaged)


def test_what_asks_otherwise_has_another_name() -> None:
    names = {lookup_classifier(subscribers(count), numbered(subscribers(count))).name for count in (20, 21)}
    other = Rules(tuple(reversed(subscribers(20).ordered)), "rest")
    names.add(lookup_classifier(other, numbered(other)).name)
    names.add(lookup_classifier(other, numbered(other), ethernet=False).name)
    assert len(names) == 4
