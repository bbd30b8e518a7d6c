"""Addresses in tables, on a real kernel: packets go to the class that the reference names."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from random import Random
from typing import TYPE_CHECKING

import pytest
import table_samples
from agreement import Totals, Trial
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from sorting import MAC, ByTables, by_tables

from collectors.bpf import lookup
from shaper.model.match import Packet, classify

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.kernel

POLICIES, PACKETS = 10, 20


@pytest.fixture(autouse=True)
def loadable() -> Iterator[None]:
    if why := lookup.refusal():
        pytest.skip(f"missing capability: eBPF ({why})")
    yield


def frame(packet: Packet) -> bytes:
    """What such a packet is on the cable."""
    assert packet.src is not None
    assert packet.dst is not None
    kind, size = (IP, 4) if packet.ethertype == 0x0800 else (IPv6, 16)
    network = kind(src=address(packet.src, size), dst=address(packet.dst, size))
    return bytes(Ether(**MAC) / network / UDP(sport=packet.sport, dport=packet.dport) / bytes(20))


def address(number: int, size: int) -> str:
    """As text."""
    return str((IPv4Address if size == 4 else IPv6Address)(number))


def test_random_packets_go_where_random_policies_say(netns: Lab) -> None:
    totals, trial = Totals(), Trial(netns, by_tables, sorter=ByTables)
    for seed in range(POLICIES):
        trial.run(seed, PACKETS, totals)
    print(totals)
    assert not totals.differences, "\n".join([str(totals), *totals.differences[:10]])
    assert totals.policies == POLICIES
    assert totals.by_rule > totals.packets / 4


def test_the_first_rule_wins_among_networks_in_networks(netns: Lab) -> None:
    random, taken = Random(4), 0
    sorter = ByTables(netns, (*table_samples.LEAVES, "rest"), by_tables)
    for _ in range(POLICIES):
        rules = table_samples.nested(random)
        sorter.obey(rules)
        for _ in range(PACKETS):
            packet = table_samples.packet(random)
            named = classify(rules, packet)
            assert sorter.class_of(frame(packet)) == named, (rules, packet)
            taken += named != "rest"
    assert taken > POLICIES * PACKETS / 4
