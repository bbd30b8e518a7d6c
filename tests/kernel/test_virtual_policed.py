"""TCP through the policers of what comes in, with their bursts as they are without a word in the policy."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.virtual

SHAPER = Path(sys.executable).parent / "shaper"
POLICY = """\
version: 1
interfaces:
  wan: {{device: {device}, bandwidth: {{ingress: {rate}mbit}}, ingress: police, policy: all}}
policies:
  all: {{classes: {{bulk: {{default: true}}}}}}
"""
ON_THE_LINE = 1514 / 1448
"""Bytes that count for each one that a program gets."""


@pytest.mark.parametrize(("rate", "round_trip"), [(8, 50), (50, 20)])
def test_one_connection_gets_what_its_policer_lets_through(
    netns: Lab, tmp_path: Path, rate: int, round_trip: int
) -> None:
    """The usual rule is a burst of the round trip at least; 50 ms is the default."""
    pair = netns.link_pair()
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY.format(device=pair.a, rate=rate))
    netns.run(f"{SHAPER} apply {policy} --state {tmp_path / 'state'}")
    netns.run(f"tc qdisc add dev {pair.a} root netem delay {round_trip}ms limit 10000")
    netns.start("iperf3 --server --one-off")
    netns.run(f"ping -c 3 -i 0.2 {pair.b_v4}")
    asked = f"iperf3 --client {pair.a_v4} --time 8 --omit 4 --json"
    told = json.loads(netns.run(asked, peer=True, timeout=120))["end"]
    got = told["sum_received"]["bits_per_second"] * ON_THE_LINE / rate / 1e6
    print(f"{rate} Mbit/s, {round_trip} ms: {got:.1%} of the rate, {told['sum_sent']['retransmits']} retransmitted")
    assert 0.85 <= got <= 1.02
