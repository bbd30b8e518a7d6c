"""The commands killed by SIGKILL at their steps to a real kernel, both directions of a device being one change.

`scripts/bench kills` is the full size: every step, before and after it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kill_everywhere import BACK, CASES
from killing import killed

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("case", CASES)
def test_before_or_after_and_never_between(netns: Lab, tmp_path: Path, case: str) -> None:
    """Each case is come back from in another way first, so that all are seen in some case."""
    seen = killed(netns, tmp_path, case, seed=list(CASES).index(case), count=3)
    assert seen["wrong"] == []
    assert seen["deaths"] == 3
    assert len(CASES) >= len(BACK)
