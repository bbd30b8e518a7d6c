"""The probe on a kernel that has everything, and what the laboratory stands on there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shaper.kernel import probe

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.full


def test_the_probe_finds_everything() -> None:
    found = probe.capabilities()
    assert set(probe._QDISCS) - found.qdiscs == {"dualpi2"}  # it came with 6.17
    assert found.filters == set(probe._FILTERS)
    assert found.actions == set(probe._ACTIONS)
    assert found.links == set(probe._LINKS)
    assert found.features >= {"stab", "nft-ct", "nft-cgroup"}


@pytest.mark.parametrize(
    "rule",
    [
        "flower ip_proto udp dst_port 5000 action police rate 1mbit burst 10k drop",
        "flower ip_tos 0xb8 action skbedit priority 1:10",
        "matchall action mirred egress redirect dev lo",
        "u32 match ip dport 5000 0xffff action gact drop",
        "bpf bytecode '1,6 0 0 4294967295' action pedit munge ip ttl set 9 pipe csum ip",
    ],
)
def test_filters_and_actions_are_taken_and_shown(netns: Lab, rule: str) -> None:
    device = netns.link_pair().a
    netns.run(f"tc qdisc add dev {device} clsact")
    netns.run(f"tc filter add dev {device} egress protocol ip {rule}")
    shown = netns.run(f"tc filter show dev {device} egress")
    assert rule.split(maxsplit=1)[0] in shown
    assert rule.split("action ")[1].split(maxsplit=1)[0] in shown
