"""The policies that ship, moved to another device, and which of them stand beside each other."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

_INCOMING = "demo-ingress"
"""The demo the other way round: it shapes another device than the one that it names."""
SHIPPED = sorted((Path(__file__).parents[2] / "policies").glob("*.yaml"))
STARTERS = [path for path in SHIPPED if path.stem != _INCOMING]
NEIGHBOURS = [pair for two in pairwise([*STARTERS, STARTERS[0]]) for pair in (two, two[::-1])]
"""Every ordered pair of two that follow each other by name, the last one and the first included."""
_DEVICE = re.compile(r"^( +device:) \S+$", re.MULTILINE)


def on_device(path: Path, device: str) -> str:
    """The text of a policy, for the one device that it names put on another."""
    text, count = _DEVICE.subn(rf"\1 {device}", path.read_text())
    assert count == 1, f"{path.name} names {count} devices"
    return text
