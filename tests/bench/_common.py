"""What the benchmarks share: their options, a throwaway network, and how they end."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "kernel"), str(TESTS / "unit")]

from conftest import Lab  # noqa: E402


def options(name: str, about: str | None, *, count: int, of: str, seed: int) -> argparse.ArgumentParser:
    """The parser of `scripts/bench NAME`, with a seed and how many of what."""
    parser = argparse.ArgumentParser(prog=f"scripts/bench {name}", description=about)
    parser.add_argument("--count", type=int, default=count, help=f"how many {of} [{count}]")
    parser.add_argument("--seed", type=int, default=seed, help=f"of all randomness [{seed}]")
    return parser


@contextmanager
def network() -> Iterator[tuple[Lab, Path]]:
    """Namespaces of our own and an empty folder, in memory where that can be; both are gone afterwards."""
    lab = Lab()
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="shaper-bench-", dir=memory) as folder:
        try:
            lab.open()
            yield lab, Path(folder)
        finally:
            lab.close()


def verdict(problems: Sequence[str], holds: str) -> int:
    """Prints it; 0 when it holds, 1 when not."""
    for problem in problems[:20]:
        print(f"wrong: {problem}")
    print(f"holds: {holds}" if not problems else f"does not hold: {len(problems)} problems")
    return 1 if problems else 0
