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
