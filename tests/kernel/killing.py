"""Deaths at every step of a command, by a program in a namespace of its own (kill_everywhere.py)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conftest import Lab

PROGRAM = Path(__file__).with_name("kill_everywhere.py")
_PATIENCE = 900.0


def killed(lab: Lab, folder: Path, case: str, *, seed: int, count: int) -> dict[str, Any]:
    """`count` deaths of a case, all with 0, on a device with both directions, beside one that is somebody else's."""
    ours, theirs = lab.link_pair().a, lab.link_pair().a
    lab.run(f"tc qdisc add dev {theirs} root handle 1: tbf rate 5mbit burst 10k latency 50ms")
    out = lab.run(f"{sys.executable} {PROGRAM} {ours} {theirs} {folder} {seed} {count} {case}", timeout=_PATIENCE)
    seen: dict[str, Any] = json.loads(out.splitlines()[-1])
    return {**seen["cases"][case], "wrong": seen["wrong"]}
