"""How many of random packets go to the class that the reference names, for random policies on this machine's kernel."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "kernel"), str(TESTS / "unit")]

from agreement import Totals, agreed  # noqa: E402
from conftest import Lab  # noqa: E402
from masquerade import masqueraded, masquerading  # noqa: E402
from policy_samples import BY_FLOWER, FIELDS  # noqa: E402
from sorting import by_bpf, by_flower  # noqa: E402

MEANS = {"bpf": by_bpf, "flower": by_flower}
PROGRESS = 50


def main() -> int:
    """0 without a difference, 1 with some."""
    parser = argparse.ArgumentParser(prog="scripts/bench classify", description=__doc__)
    parser.add_argument("--policies", type=int, default=500, help="how many [500]")
    parser.add_argument("--packets", type=int, default=20, help="of each policy [20]")
    parser.add_argument("--first-seed", type=int, default=1000, help="policy n comes from this seed + n [1000]")
    parser.add_argument("--classifier", choices=MEANS, default="bpf")
    parser.add_argument(
        "--nat", action="store_true", help="through a router that masquerades, with their answers where it has ctinfo"
    )
    wanted = parser.parse_args()
    seeds = range(wanted.first_seed, wanted.first_seed + wanted.policies)
    fields = BY_FLOWER if wanted.classifier == "flower" else FIELDS
    lab, totals, began = Lab(), Totals(), time.monotonic()
    with contextlib.ExitStack() as stack:
        stack.callback(lab.close)
        lab.open()
        if wanted.nat:
            each = masqueraded(stack.enter_context(masquerading(lab)), seeds, wanted.packets)
        else:
            each = agreed(lab, MEANS[wanted.classifier], seeds, wanted.packets, fields)
        for done, totals in enumerate(each, 1):
            if done % PROGRESS == 0 and sys.stderr.isatty():
                print(f"{done} of {wanted.policies} policies, {len(totals.differences)} differences", file=sys.stderr)
    print(f"{wanted.classifier}, seeds {seeds.start} to {seeds.stop - 1}, {time.monotonic() - began:.0f} s: {totals}")
    for difference in totals.differences[:20]:
        print(difference)
    return 1 if totals.differences else 0


if __name__ == "__main__":
    sys.exit(main())
