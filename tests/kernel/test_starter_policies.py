"""The policies that ship, by the commands on the machine's own kernel, each on a device of the name it has in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starters import SHIPPED, on_device
from test_cli_kernel import Box

from shaper.policy import read_policy

pytestmark = pytest.mark.kernel

ROUND = list(zip(SHIPPED, [*SHIPPED[1:], SHIPPED[0]], strict=True))
"""Each with the one after it: so each is gone to, left, and come back to."""


@pytest.fixture
def box(netns: Any, tmp_path: Path) -> Iterator[Box]:
    yield Box(netns, tmp_path)


def dump(box: Box, device: str) -> list[str]:
    """What tc sees of the device and its ifb, sorted, without counters and the numbers that the kernel gives to
    actions; its offloads; and all devices."""
    links = sorted(line.split()[0] for line in box.lab.run("ip -br link").splitlines())
    shown = [box.lab.run(f"tc filter show dev {device} {hook}", check=False) for hook in ("ingress", "egress")]
    for one in (device, *(name for name in links if name == f"shi-{device}")):
        shown += [box.lab.run(f"tc {what} show dev {one}") for what in ("qdisc", "class", "filter")]
    offloads = box.lab.run(f"ip -d link show dev {device}"), box.lab.run(f"ethtool -k {device}")
    shown.append("\n".join(re.findall(r"gso_max_segs \d+|(?:generic|large)-receive-offload: \w+", " ".join(offloads))))
    lines = (line for text in shown for line in text.splitlines() if not line.startswith("class fq_codel"))
    bare = (re.sub(r"direct_packets_stat \d+ |^\tindex \d+ ", "", line) for line in lines)
    return [*sorted(bare), *links]


def applied(box: Box, path: Path) -> list[dict[str, Any]]:
    """The steps that an apply took, in both directions."""
    code, out, err = box.shaper(f"apply {path} --json")
    assert code == 0, err
    return [step for one in json.loads(out)["interfaces"] for step in one["steps"]]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_checked_applied_and_cleared_with_nothing_left(box: Box, path: Path) -> None:
    device = read_policy(path).interfaces[0].device
    box.lab.run(f"ip link set {box.pair.a} down")
    box.lab.run(f"ip link set {box.pair.a} name {device}")
    box.lab.run(f"ip link set {device} up")
    found = dump(box, device)
    assert box.shaper(f"check {path}")[0] == 0
    assert applied(box, path)
    assert dump(box, device) != found
    assert applied(box, path) == []
    code, _, err = box.shaper("clear")
    assert code == 0, err
    assert dump(box, device) == found


@pytest.mark.parametrize(("first", "second"), ROUND, ids=lambda path: path.stem)
def test_to_a_neighbour_and_back_is_the_same_dump(box: Box, tmp_path: Path, first: Path, second: Path) -> None:
    device = box.pair.a
    for path in (first, second):
        tmp_path.joinpath(path.name).write_text(on_device(path, device))
    found = dump(box, device)
    applied(box, tmp_path / first.name)
    before = dump(box, device)
    assert applied(box, tmp_path / second.name)
    assert dump(box, device) != before
    applied(box, tmp_path / first.name)
    assert dump(box, device) == before
    assert box.shaper("clear")[0] == 0
    assert dump(box, device) == found
