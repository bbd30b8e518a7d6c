"""Match groups mean what their matches written out would mean, wherever they are named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shaper.model.match import Packet, classify
from shaper.policy import parse_policy

HEAD = """version: 1
interfaces: {wan: {device: eth1, bandwidth: {egress: 20mbit}, policy: p}}
"""
GROUP = "match-groups: {g: [{dscp: ef}, {proto: udp, dport: 5060}]}\n"
WAYS = "{any: [{dscp: ef}, {proto: udp, dport: 5060}]}"


def policy(match: str) -> str:
    return f"policies: {{p: {{classes: {{a: {{match: [{match}]}}, rest: {{default: true}}}}}}}}\n"


packets = st.builds(
    Packet,
    ethertype=st.just(0x0800),
    protocol=st.sampled_from([6, 17]),
    src=st.sampled_from([0x0A000001, 0xC0000201]),
    dst=st.just(0xC0000202),
    sport=st.just(40000),
    dport=st.sampled_from([5060, 80]),
    dscp=st.sampled_from([46, 0]),
)


@pytest.mark.parametrize(
    ("named", "written"),
    [
        ("{group: g}", "{dscp: ef}, {proto: udp, dport: 5060}"),
        ("{group: g, src: 10.0.0.0/8}", "{dscp: ef, src: 10.0.0.0/8}, {proto: udp, dport: 5060, src: 10.0.0.0/8}"),
        ("{group: g, proto: udp}", f"{{proto: udp, all: [{WAYS}]}}"),
        ("{group: g, dport: 5060}", f"{{dport: 5060, all: [{WAYS}]}}"),
        ("{not: {group: g}}", f"{{not: {WAYS}}}"),
        (
            "{any: [{group: g, src: 10.0.0.0/8}, {dport: 80}]}",
            f"{{any: [{{src: 10.0.0.0/8, all: {WAYS}}}, {{dport: 80}}]}}",
        ),
        ("{src: 10.0.0.0/8, not: [{group: g}, {dport: 80}]}", f"{{src: 10.0.0.0/8, not: [{WAYS}, {{dport: 80}}]}}"),
        ("{group: g, all: {not: {group: g, dport: 80}}}", f"{{all: [{WAYS}, {{not: {{dport: 80, all: {WAYS}}}}}]}}"),
    ],
)
@given(packet=packets)
def test_a_group_stands_for_its_matches(named: str, written: str, packet: Packet) -> None:
    first = parse_policy(HEAD + GROUP + policy(named), source="p.yaml").interfaces[0].rules()
    second = parse_policy(HEAD + policy(written), source="p.yaml").interfaces[0].rules()
    assert classify(first, packet) == classify(second, packet)
