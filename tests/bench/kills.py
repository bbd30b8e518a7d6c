"""SIGKILL just before and just after every step of a command: before or after, never between, whoever comes back."""

from __future__ import annotations

import sys

from _common import network, options, verdict
from kill_everywhere import CASES
from killing import killed


def main() -> int:
    """0 when it holds, 1 when not."""
    parser = options("kills", __doc__, count=0, of="deaths of each case; 0: one at every place", seed=1)
    parser.add_argument("--case", choices=CASES, action="append", help="may be repeated [all]")
    wanted = parser.parse_args()
    problems: list[str] = []
    deaths = 0
    with network() as (lab, folder):
        for case in wanted.case or CASES:
            seen = killed(lab, folder / case, case, seed=wanted.seed, count=wanted.count)
            deaths += seen["deaths"]
            print(
                f"{case:14} ({CASES[case].dies}): {seen['deaths']:3} deaths, {seen['through']:2} of them after all was "
                f"done, {len(seen['wrong'])} wrong",
                flush=True,
            )
            problems += seen["wrong"]
    return verdict(problems, f"{deaths} deaths, each before or after when somebody came back, nobody else's touched")


if __name__ == "__main__":
    sys.exit(main())
