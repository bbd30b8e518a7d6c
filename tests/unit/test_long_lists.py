"""A long list of networks holds what its networks hold one by one."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import table_samples
from hypothesis import given
from hypothesis import strategies as st

from shaper.model.match import Match


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
