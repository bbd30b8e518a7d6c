"""`priority: strict` by what the packets wait: no longer than one frame of another class takes on the link."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from backend_bench import Bench
from test_virtual_backends import together
from test_virtual_queues import Tap, send, tap

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.virtual

__all__ = ["tap"]

VOICE, BULK, OTHER = 5010, 5020, 5030
LINK, FRAME = 20_000_000, 1514
ONE_FRAME = FRAME * 8 / LINK
FULL = 1472


def waits(tap: Tap, folder: Path, voice: str, *, count: int = 200) -> Sequence[float]:
    """Seconds that each packet of 1.7 Mbit/s of voice waits beside two floods of 12 Mbit/s each."""
    bench = Bench(tap.lab, tap.pair.a, folder, backend="htb")
    bench.apply(f"""
        voice: {{{voice}, match: [{{proto: udp, dport: {VOICE}}}]}}
        bulk: {{guarantee: 12mbit, match: [{{proto: udp, dport: {BULK}}}]}}
        rest: {{default: true}}
    """)
    with tap.listening():
        together(
            lambda: send(tap, BULK, count=count * 2, size=FULL, gap=0.001),
            lambda: send(tap, OTHER, count=count * 2, size=FULL, gap=0.001),
            lambda: send(tap, VOICE, count=count, size=388, gap=0.002),
        )
    found = tap.delays(VOICE)
    assert len(found) == count
    print(f"{voice}: largest wait {max(found) * 1e3:.3f} ms, one frame takes {ONE_FRAME * 1e3:.3f} ms")
    return found


def test_a_strict_class_waits_for_one_packet_of_another_at_most(tap: Tap, tmp_path: Path) -> None:
    assert max(waits(tap, tmp_path, "priority: strict, limit: 2mbit")) <= ONE_FRAME


def test_a_class_that_borrows_waits_for_more(tap: Tap, tmp_path: Path) -> None:
    assert max(waits(tap, tmp_path, "priority: 2, limit: 2mbit")) > 2 * ONE_FRAME


@pytest.mark.parametrize("inner", ["guarantee: 3mbit", "limit: 10mbit"])
def test_a_strict_class_inside_another_is_as_strict(tap: Tap, tmp_path: Path, inner: str) -> None:
    key = "guarantee" if inner.startswith("limit") else "limit"
    low = "low: {share: 10%, match: [{dscp: cs1}]}"
    voice = f"{inner}, classes: {{calls: {{priority: strict, {key}: 2mbit}}, {low}}}"
    assert max(waits(tap, tmp_path, voice)) <= ONE_FRAME
