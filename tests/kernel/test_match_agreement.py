"""The whole match language on the machine's own kernel: real packets go to the class that the reference names.

`scripts/bench classify` runs it at full size, and with other seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import policy_samples
import pytest
from agreement import PATHS, Totals, agreed
from sorting import Means, Sorter, by_bpf, by_flower, by_u32

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.kernel

POLICIES, PACKETS = 40, 20


def test_random_packets_go_where_random_policies_say(netns: Lab) -> None:
    totals = agreement(netns, by_bpf, policy_samples.FIELDS)
    assert totals.policies == POLICIES
    assert min(totals.tagged_beside, totals.tunnelled) > 50


def test_u32_sends_packets_where_random_policies_say(netns: Lab) -> None:
    totals = agreement(netns, by_u32, policy_samples.BY_U32, POLICIES // 2)
    assert totals.policies == POLICIES // 2


@pytest.mark.full
@pytest.mark.parametrize("means", [by_bpf, by_flower, by_u32])
def test_what_every_classifier_carries_means_the_same_by_each(netns: Lab, means: Means) -> None:
    totals = agreement(netns, means, policy_samples.PLAIN)
    assert totals.policies > POLICIES / 2


@pytest.mark.full
def test_flower_knows_by_which_device_a_packet_came_in(netns: Lab) -> None:
    totals = agreement(netns, by_flower, policy_samples.BY_FLOWER)
    assert totals.fields["iif"] > 10
    assert totals.handed_on > totals.packets / 3


def agreement(netns: Lab, means: Means, fields: Sequence[str], policies: int = POLICIES) -> Totals:
    """Of all policies, without a difference."""
    *_, totals = agreed(netns, Sorter(netns, PATHS, means), range(policies), PACKETS, fields)
    print(totals)
    assert not totals.differences, "\n".join([str(totals), *totals.differences[:10]])
    assert totals.by_rule > totals.packets / 4
    assert min(totals.versions["IPv4"], totals.versions["IPv6"]) > 50
    return totals
