"""1,000 policies with slips in them: each compiles, or says at which place of which file it is wrong.

`MUTATIONS=20000 MUTATION_SEED=7 pytest tests/unit/test_policy_mutations.py` looks at more, and at others.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from itertools import product
from pathlib import Path
from random import Random

import pytest
from compile_samples import ETHERNET, FLOWER_KERNEL, FULL_KERNEL, SMALL_KERNEL
from mutations import mutated

from shaper.compile import compile_interface
from shaper.errors import PolicyError, Problem, ShaperError, UnavailableError
from shaper.policy import read_policy
from shaper.policy.kinds import Kind

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
STARTERS = sorted((ROOT / "policies").glob("*.yaml"))
GOLDEN = sorted((ROOT / "tests/golden/policy").glob("*/policy.yaml"))
MUTATIONS = int(os.environ.get("MUTATIONS", "1000"))
SEED = os.environ.get("MUTATION_SEED", "0")
BATCHES = 4


def outcomes(path: Path) -> set[str]:
    """The kinds of what is wrong with a file; or `compiled`, and `refused` where one of the kernels cannot carry it."""
    found: set[str] = set()
    try:
        policy = read_policy(path)
    except PolicyError as error:
        assert error.problems()
        for problem in error.problems():
            assert problem.kind in set(Kind)
            assert problem.where is not None
        told(error)
        return {problem.kind for problem in error.problems()}
    timed = [one.during(phase) for one in policy.interfaces for phase in one.variants or [()]]
    for interface, kernel in product(timed, (FULL_KERNEL, SMALL_KERNEL, FLOWER_KERNEL)):
        try:
            compile_interface(interface, kernel, ETHERNET)
            found.add("compiled")
        except UnavailableError as error:
            told(error)
            found.add("refused")
    return found


def told(error: ShaperError) -> None:
    """Every problem says what, where and the mend."""
    for problem in error.problems():
        assert problem.message
        assert problem.hint
        assert (problem.path + problem.message + problem.hint).isprintable()
        within(problem)


def within(problem: Problem) -> None:
    """A place is inside the file that it names, or one past the end of its line."""
    if problem.where is None:
        return
    text = Path(problem.where.file).read_bytes().decode(errors="replace")
    for end in ("\r\n", "\r", "\x85", "\u2028", "\u2029"):
        text = text.replace(end, "\n")
    lines = text.split("\n")
    assert 1 <= problem.where.line <= len(lines), problem
    assert 1 <= problem.where.column <= len(lines[problem.where.line - 1]) + 1, problem


@pytest.mark.parametrize("batch", range(BATCHES))
def test_each_compiles_or_says_where_it_is_wrong(tmp_path: Path, batch: int) -> None:
    for beside in (ROOT / "tests/golden/policy").glob("*/*.txt"):
        shutil.copy(beside, tmp_path)
    seen: Counter[str] = Counter()
    path = tmp_path / "policy.yaml"
    for number in range(batch, MUTATIONS, BATCHES):
        random = Random(f"{SEED}/{number}")
        original = random.choice(random.choice((STARTERS, GOLDEN)))  # most of the golden ones are wrong already
        path.write_bytes(mutated(random, original.read_bytes()))
        try:
            seen.update(outcomes(path))
        except Exception as error:
            text = path.read_text(errors="replace")
            error.add_note(f"mutation {number} of seed {SEED}, of {original.relative_to(ROOT)}:\n{text}")
            raise
    assert seen["compiled"] > MUTATIONS / BATCHES / 20, f"hardly one is still a policy: {seen}"
    assert len(seen) > len(Kind) / 3, f"few kinds of problems are met: {seen}"
