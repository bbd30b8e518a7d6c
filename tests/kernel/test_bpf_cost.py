"""Packets forwarded as fast as they go, stamped and counted in the kernel: none is lost, and none is counted twice."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from forwarding import Router

from collectors.bpf.delays import refusal
from collectors.bpf.windows import KernelWindows, difference

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


def test_at_a_high_rate_fewer_are_stamped_and_none_is_copied_and_all_are_again_below(netns: Lab) -> None:
    if why := refusal():
        pytest.skip(f"missing capability: eBPF ({why})")
    router = Router(netns)
    with router.measuring(addresses=False) as delays:
        now = time.monotonic()
        windows = KernelWindows(delays, horizon=3.0, taus=(0.01,), now=now)
        seen = []
        for count, seconds in ((COUNT, 0.1), (COUNT, 0.1), (COUNT, 0.1), (1000, 1.0), (1000, 1.0)):
            router.send(count)
            now += seconds  # as if that had been all of the time
            window = windows.window(now=now)
            seen.append((window.sampling, delays.copied, window.classes[router.default]))
    assert [sampling for sampling, _, _ in seen] == [1, 16, 16, 16, 1], "each window by what was before it"
    by_bytes = bool(delays.copying)
    assert [copied for _, copied, _ in seen] == [True, by_bytes, by_bytes, True, True]
    assert [one.arrived_packets for *_, one in seen] == [COUNT, COUNT, COUNT, 1000, 1000]
    assert [one.lost for *_, one in seen] == [0] * 5
    assert (seen[0][2].matched, seen[-1][2].matched) == (COUNT, 1000)
    assert all(0.8 < one.matched * 16 / COUNT < 1.25 for *_, one in seen[1:3])


def test_at_a_middling_rate_every_packet_is_stamped_and_none_is_copied(netns: Lab) -> None:
    if why := refusal():
        pytest.skip(f"missing capability: eBPF ({why})")
    router = Router(netns)
    with router.measuring(addresses=False) as delays:
        now = time.monotonic()
        windows = KernelWindows(delays, horizon=3.0, taus=(0.01,), now=now)
        seen = []
        for count in (6000, 6000, 6000, 3000, 1000):
            router.send(count)
            now += 0.1  # as if that had been all of the time: 60,000 packets a second, 30,000 and 10,000
            seen.append(windows.window(now=now))
    by_bytes = bool(delays.copying)
    assert [one.sampling for one in seen] == [1] * 5
    assert [one.copied for one in seen] == [one.losses_complete for one in seen]
    assert [one.copied for one in seen] == [True, True, by_bytes, by_bytes, by_bytes]
    found = [one.classes[router.default] for one in seen]
    assert [one.matched for one in found] == [one.arrived_packets for one in found] == [6000, 6000, 6000, 3000, 1000]
    assert [one.lost for one in found] == [0] * 5
