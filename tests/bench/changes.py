"""Class changes under live traffic by applying policies that differ: no packet is lost, none overtakes another."""

from __future__ import annotations

import sys

from _common import network, options, verdict
from class_changes import BACKENDS, LOADS, changed_under


def main() -> int:
    """0 when every packet is accounted for, 1 when not, 64 for a backend that the kernel lacks."""
    parser = options("changes", __doc__, count=1000, of="class changes under each load", seed=1)
    parser.add_argument("--backend", choices=BACKENDS, action="append", help="may be repeated [all that there are]")
    parser.add_argument("--load", choices=LOADS, action="append", help="may be repeated [both]")
    parser.add_argument("--replace-root", action="store_true", help="take the tree down once, to see it fail")
    wanted = parser.parse_args()
    problems: list[str] = []
    with network() as (lab, folder):
        have = [name for name in BACKENDS if name in lab.kernel().capabilities().qdiscs]
        backends = wanted.backend or have
        if lacking := set(backends) - set(have):
            parser.error(f"the kernel lacks {', '.join(sorted(lacking))} (`scripts/lab run` has all)")
        for backend in backends:
            for load in wanted.load or LOADS:
                outcome = changed_under(
                    lab,
                    folder / f"{backend}-{load}",
                    backend=backend,
                    load=load,
                    count=wanted.count,
                    seed=wanted.seed,
                    replace_root=wanted.replace_root,
                )
                print(outcome, flush=True)
                problems += [f"{backend}, {load}: {problem}" for problem in outcome.problems()]
    return verdict(problems, f"{wanted.count} class changes under each load ({', '.join(backends)}), nothing lost")


if __name__ == "__main__":
    sys.exit(main())
