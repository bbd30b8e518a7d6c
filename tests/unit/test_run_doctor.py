"""What is said of a kernel that lacks something."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from shaper.kernel.fake import FULL, FakeKernel
from shaper.run.doctor import Finding, examine


@pytest.mark.parametrize(
    ("filters", "bpf", "flower", "instead"),
    [
        ({"bpf", "flower"}, Finding.OK, Finding.OK, ""),
        ({"bpf"}, Finding.OK, Finding.MISSING, ""),
        ({"flower"}, Finding.MISSING, Finding.OK, "flower filters"),
        ({"u32"}, Finding.MISSING, Finding.MISSING, "u32 filters"),
        (set(), Finding.NEEDED, Finding.MISSING, "nothing can be classified"),
    ],
)
def test_one_classifier_is_enough(
    tmp_path: Path, filters: set[str], bpf: Finding, flower: Finding, instead: str
) -> None:
    kernel = FakeKernel("lo", capabilities=replace(FULL, filters=frozenset(filters)))
    rows = {row.name: row for row in examine(kernel, tmp_path)}
    assert (rows["filter bpf"].finding, rows["filter flower"].finding) == (bpf, flower)
    assert instead in rows["filter bpf"].instead


def test_it_says_by_what_a_run_measures_and_why_by_nothing_better(tmp_path: Path) -> None:
    rows = {row.name: row for row in examine(FakeKernel("lo", capabilities=FULL), tmp_path)}
    best = rows["measuring programs"].finding is Finding.OK
    assert ("programs in the kernel" in rows["measurement"].detail) == best
    assert (rows["measurement"].finding is Finding.OK) == best
    if not best:
        assert rows["measuring programs"].detail in rows["measurement"].instead
    hookless = FakeKernel("lo", capabilities=replace(FULL, qdiscs=FULL.qdiscs - {"clsact"}))
    row = {row.name: row for row in examine(hookless, tmp_path)}["measurement"]
    assert (row.finding, row.detail) == (Finding.MISSING, "`run` takes counters alone: delay is no data")
    if best:
        assert row.instead.count("the kernel lacks the clsact qdisc") == 2
