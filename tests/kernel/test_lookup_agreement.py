"""Addresses in tables, on a real kernel: packets go to the class that the reference names."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING

import policy_samples
import pytest
import table_samples
from agreement import PATHS, Totals, Trial
from sorting import ByTables
from table_samples import country_lists, households, meeting, subscribers
from tabled import answered, counted, frame

from collectors.bpf import lookup
from shaper.model.match import Rules, classify

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.kernel

POLICIES, PACKETS = 10, 20


@pytest.fixture(autouse=True)
def loadable() -> Iterator[None]:
    if why := lookup.refusal():
        pytest.skip(f"missing capability: eBPF ({why})")
    yield


def test_random_packets_go_where_random_policies_say(netns: Lab) -> None:
    totals, trial = Totals(), Trial(netns, ByTables(netns, PATHS))
    for seed in range(POLICIES):
        trial.run(seed, PACKETS, totals, policy_samples.BY_TABLES)
    print(totals)
    assert totals.fields["iif"] > 2
    assert totals.handed_on > totals.packets / 3
    assert not totals.differences, "\n".join([str(totals), *totals.differences[:10]])
    assert totals.policies == POLICIES
    assert totals.by_rule > totals.packets / 4


def test_the_first_rule_wins_among_networks_in_networks(netns: Lab) -> None:
    random, taken = Random(4), 0
    sorter = ByTables(netns, (*table_samples.LEAVES, "rest"))
    for _ in range(POLICIES):
        rules = table_samples.nested(random)
        sorter.obey(rules)
        for _ in range(PACKETS):
            packet = table_samples.packet(random)
            named = classify(rules, packet)
            assert sorter.class_of(frame(packet)) == named, (rules, packet)
            taken += named != "rest"
    assert taken > POLICIES * PACKETS / 4


@pytest.mark.parametrize(
    "rules",
    [country_lists(Random(1), 3000, 600), subscribers(300), households(Random(1), 150)],
    ids=["lists", "subscribers", "households"],
)
def test_thousands_of_networks_and_hundreds_of_subscribers(netns: Lab, rules: Rules) -> None:
    """`scripts/bench tables` is the full size."""
    packets = meeting(Random(2), rules, 300)
    assert sum(classify(rules, packet) != "rest" for packet in packets) > 100
    assert not list(answered(rules, packets))
    assert not list(counted(netns, rules, packets))
