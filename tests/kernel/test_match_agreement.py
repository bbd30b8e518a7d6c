"""The whole match language on the machine's own kernel: real packets go to the class that the reference names.

`scripts/bench classify` runs it at full size, and with other seeds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from agreement import agreed
from sorting import Means, by_bpf

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.kernel

POLICIES, PACKETS = 40, 20


@pytest.mark.parametrize("means", [by_bpf], ids=["bpf"])
def test_random_packets_go_where_random_policies_say(netns: Lab, means: Means) -> None:
    *_, totals = agreed(netns, means, range(POLICIES), PACKETS)
    print(totals)
    assert not totals.differences, "\n".join([str(totals), *totals.differences[:10]])
    assert totals.policies + totals.refused == POLICIES
    assert totals.by_rule > totals.packets / 4
    assert min(totals.versions["IPv4"], totals.versions["IPv6"], totals.tagged_beside, totals.tunnelled) > 50
