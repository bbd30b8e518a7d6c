"""Packets forwarded as fast as they go, stamped and counted in the kernel: none is lost, and none is counted twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from forwarding import Router

from collectors.bpf.delays import refusal
from collectors.bpf.windows import difference

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.kernel

COUNT = 20_000


@pytest.mark.parametrize("addresses", [False, True])
@pytest.mark.parametrize("sampling", [1, 16])
def test_at_full_speed_every_packet_is_counted_and_what_is_stamped_comes_out(
    netns: Lab, sampling: int, addresses: bool
) -> None:
    if why := refusal():
        pytest.skip(f"missing capability: eBPF ({why})")
    router = Router(netns)
    with router.measuring(sampling=sampling, addresses=addresses) as delays:
        before, _ = delays.read()
        passage = router.send(COUNT)
        counts, health = delays.read()
    one = difference(before[router.default], counts[router.default], lost=0, envelope={})
    assert passage.arrived == passage.sent == one.arrived_packets == COUNT
    assert one.arrived_bytes == one.inelastic_bytes == COUNT * 64
    assert one.matched == one.taken
    last = counts[router.default]
    assert (last.ambiguous, last.no_room) == (health.undecoded, health.unknown) == (0, 0)
    share = one.matched * sampling / COUNT
    assert share == 1 if sampling == 1 and not addresses else 0.8 < share < 1.25
    again = router.send(1000)  # nobody looks any more: packets pass as before
    assert again.arrived == 1000
