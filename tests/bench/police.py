"""Two-rate three-colour policing on the lab's kernel in virtual time: every packet's colour against RFC 2698."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "kernel"), str(TESTS / "unit")]

from conftest import Lab  # noqa: E402
from policing import EXACT, ODD, Profile, judged, policed  # noqa: E402

PROFILES = (
    EXACT,
    Profile(1_000_000, 3_200, 2_000_000, 6_400),
    Profile(8_000_000, 10_000, 8_000_000, 20_000),
    ODD,
    Profile(7_000_000, 15_000, 9_999_992, 15_000),
)
"""The first three are rounded nowhere."""


def main() -> int:
    """0 without a difference from what the profiles allow, 1 with some."""
    parser = argparse.ArgumentParser(prog="scripts/bench police", description=__doc__)
    parser.add_argument("--packets", type=int, default=20_000, help="of each profile and classifier [20000]")
    parser.add_argument("--first-seed", type=int, default=1, help="profile n comes from this seed + n [1]")
    parser.add_argument("--classifier", choices=("bpf", "flower"), action="append", help="[both]")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if not wanted.inside:
        command = [str(TESTS.parent / "scripts/lab"), "run", "--virtual-time", "--", sys.executable, *sys.argv]
        return subprocess.run([*command, "--inside"], check=False).returncode
    failed = False
    for number, profile in enumerate(PROFILES):
        for classifier in wanted.classifier or ("bpf", "flower"):
            failed |= not agrees(profile, wanted.first_seed + number, wanted.packets, classifier)
    return int(failed)


def agrees(profile: Profile, seed: int, packets: int, classifier: str) -> bool:
    """Whether the kernel gave every packet the colour of the model that its rounding allows; prints the figures."""
    lab, began = Lab(), time.monotonic()
    lab.open()
    try:
        with tempfile.TemporaryDirectory() as folder:
            found = policed(lab, Path(folder), profile, packets=packets, seed=seed, classifier=classifier)
    finally:
        lab.close()
    verdict = judged(found, profile)
    rounding = "nothing rounded" if profile.exact else "rounded"
    seconds = time.monotonic() - began
    print(
        f"{profile} ({rounding}), {classifier}, seed {seed}, {seconds:.0f} s of virtual time:\n  {verdict}", flush=True
    )
    return verdict.kernel == verdict.unsure == 0 and (verdict.rfc == 0 or not profile.exact)


if __name__ == "__main__":
    sys.exit(main())
