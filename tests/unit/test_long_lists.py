"""A long list of networks holds what its networks hold one by one."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import table_samples
from hypothesis import given
from hypothesis import strategies as st

from shaper.model.match import Match, Packet, Prefix
from shaper.report.match_words import asked


@given(st.integers(0, 2**32).map(Random))
def test_a_long_list_holds_what_a_short_one_does(random: Random) -> None:
    prefixes = tuple(table_samples.prefix(random) for _ in range(40))
    for side in ("src", "dst", "net"):
        whole = Match(**{side: prefixes})
        assert whole.long
        parts = [Match(**{side: prefixes[at : at + 8]}) for at in range(0, 40, 8)]
        assert not any(part.long for part in parts)
        for _ in range(10):
            packet = table_samples.packet(random)
            assert whole.holds(packet) == any(part.holds(packet) for part in parts)
            assert whole.turned().holds(packet._replace(src=packet.dst, dst=packet.src)) == whole.holds(packet)
            other = packet._replace(ethertype=0x0806)
            assert not whole.holds(other)
    assert replace(whole, net=prefixes[:1]).long == {}


@given(st.integers(0, 2**32).map(Random))
def test_of_many_rules_those_hold_that_hold_one_by_one(random: Random) -> None:
    rules = table_samples.nested(random, most=80)
    for _ in range(20):
        packet = table_samples.packet(random)
        assert list(rules.holding(packet)) == [rule for rule in rules.ordered if rule.holds(packet)]
    assert not list(rules.holding(Packet(0x0806)))


def test_a_long_list_is_said_by_what_holds_and_how_many_there_are() -> None:
    networks = tuple(Prefix(4, number << 8, 24) for number in range(50_000))
    packet = Packet(0x0800, 17, 1, 30_000 << 8 | 5)
    match = Match(dst=networks)
    assert asked(match, "dst", packet) == "0.117.48.0/24 or 49999 more"
    assert asked(match, "dst") == "0.0.0.0/24 or 0.0.1.0/24 or 0.0.2.0/24 or 49997 more"
    assert asked(Match(net=networks), "net", packet).startswith("0.0.0.0/24 or 0.117.48.0/24 or")
    assert asked(Match(dst=networks[:2]), "dst", packet) == "0.0.0.0/24 or 0.0.1.0/24"
