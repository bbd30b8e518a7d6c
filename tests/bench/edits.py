"""Rule edits under traffic: no packet in a class that neither the policy before nor the one after names for it."""

from __future__ import annotations

import sys

from _common import network, options, verdict
from rule_edits import FIELDS, edited_under


def main() -> int:
    """0 when it holds, 1 when not, 64 for a classifier that the kernel lacks."""
    parser = options("edits", __doc__, count=1000, of="edits", seed=1)
    parser.add_argument(
        "--classifier", choices=FIELDS, action="append", help="may be repeated [all that the kernel has]"
    )
    parser.add_argument("--half-done", action="store_true", help="make each edit in two messages, to see it fail")
    wanted = parser.parse_args()
    problems: list[str] = []
    with network() as (lab, _):
        able = lab.kernel().capabilities()
        have = [name for name in FIELDS if name in able.filters or (name == "tables" and "lookup" in able.features)]
    classifiers = wanted.classifier or have
    if lacking := set(classifiers) - set(have):
        parser.error(f"the kernel lacks {', '.join(sorted(lacking))} (`scripts/lab run` has all)")
    for name in classifiers:
        with network() as (lab, folder):
            outcome = edited_under(
                lab, folder, classifier=name, count=wanted.count, seed=wanted.seed, half_done=wanted.half_done
            )
        print(outcome, flush=True)
        problems += [f"{name}: {problem}" for problem in outcome.problems()]
    return verdict(problems, f"{wanted.count} edits ({', '.join(classifiers)}), each as atomic as its plan says")


if __name__ == "__main__":
    sys.exit(main())
