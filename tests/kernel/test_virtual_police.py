"""Two-rate policing against RFC 2698, packet by packet, in virtual time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from policing import EXACT, ODD, Profile, judged, policed

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.virtual

PACKETS = 1500


@pytest.mark.parametrize(
    ("profile", "classifier"), [(EXACT, "bpf"), (EXACT, "flower"), (ODD, "bpf")], ids=["bpf", "flower", "rounded"]
)
def test_every_packet_has_the_colour_of_the_model(
    netns: Lab, tmp_path: Path, profile: Profile, classifier: str
) -> None:
    verdict = judged(policed(netns, tmp_path, profile, packets=PACKETS, seed=7, classifier=classifier), profile)
    print(f"{profile}, {classifier}: {verdict}")
    assert min(verdict.colours.values()) >= PACKETS / 50 and len(verdict.colours) == 3
    assert (verdict.kernel, verdict.unsure) == (0, 0)
    assert verdict.rfc == 0 or not profile.exact
