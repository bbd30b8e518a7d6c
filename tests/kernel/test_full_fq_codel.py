"""fq_codel on a kernel that has it: what is sent is what is read back, what tc shows, and what the fake says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shaper.compile.leaf import leaf_queue
from shaper.kernel.fake import FULL, FakeKernel
from shaper.plan.steps import Plan, Step, Verb
from shaper.policy import parse_policy
from shaper.tree import ROOT, FqCodelOptions, Handle, HtbClass, HtbOptions, LinkFacts, Qdisc, ticks

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.full

TOP: Handle = 0x5A000000
LEAF: Handle = 0x5B010000
SHAPER = Path(sys.executable).parent / "shaper"
POLICY = """\
version: 1
interfaces:
  wan: {{device: {device}, bandwidth: {{egress: 20mbit}}, policy: office}}
policies:
  office:
    classes:
      voice: {{tier: special, guarantee: 1mbit, limit: 2mbit, match: [{{dscp: ef}}], sla: {{delay-p99: 20ms}}}}
      video: {{tier: priority, guarantee: {video}, match: [{{dscp: af41}}], sla: {{delay-p95: 70ms, loss: 0.5%}}}}
      bulk: {{guarantee: 12mbit, adapt: {{min: 2mbit}}, default: true}}
"""


def fq_codel(**changed: int) -> Qdisc:
    options = FqCodelOptions(1000, 5000, 100_000, 1514, 1024, 4 << 20, True)._replace(**changed)
    return Qdisc(LEAF, TOP | 1, "fq_codel", options)


def ground() -> list[Step]:
    rate = 8_000_000
    top = HtbClass(TOP | 1, TOP, rate, rate, ticks(10_000, rate), ticks(10_000, rate), 3, 1514)
    return [Step(Verb.ADD, None, Qdisc(TOP, ROOT, "htb", HtbOptions(1))), Step(Verb.ADD, None, top)]


def shown(lab: Lab, device: str) -> list[dict[str, Any]]:
    """The fq_codel qdiscs as tc prints them."""
    found = json.loads(lab.run(f"tc -j qdisc show dev {device}"))
    return [one for one in found if one["kind"] == "fq_codel"]


OPTIONS = st.builds(
    FqCodelOptions,
    limit=st.integers(1, 2**20),
    target=st.integers(1, 4_000_000),
    interval=st.integers(1, 4_000_000),
    quantum=st.integers(1, 2**20),
    flows=st.integers(1, 65536),
    memory=st.integers(1, 2**31),
    ecn=st.booleans(),
)


def test_any_options_are_kept_as_the_fake_keeps_them(netns: Lab) -> None:
    kernel, device = netns.kernel(), netns.link_pair().a
    kernel.send(device, ground())

    @given(OPTIONS, OPTIONS)
    def keeps(first: FqCodelOptions, second: FqCodelOptions) -> None:
        fake = FakeKernel(device)
        fake.send(device, ground())
        before, after = (Qdisc(LEAF, TOP | 1, "fq_codel", options) for options in (first, second))
        for step in (Step(Verb.ADD, None, before), Step(Verb.CHANGE, before, after), Step(Verb.DELETE, after, None)):
            kernel.send(device, [step])
            fake.send(device, [step])
            assert kernel.read(device) == fake.read(device), step

    keeps()


def test_tc_shows_what_was_sent_and_its_own_are_read_as_it_shows_them(netns: Lab) -> None:
    device, kernel = netns.link_pair().a, netns.kernel()
    before = kernel.read(device)
    steps = [*ground(), Step(Verb.ADD, None, fq_codel(target=5120, interval=102_400))]
    kernel.send(device, steps)
    assert kernel.read(device).leaf_of(TOP | 1) == fq_codel(target=5120, interval=102_400)
    (one,) = shown(netns, device)
    assert (one["handle"], one["parent"]) == ("5b01:", "5a00:1")
    wanted = {"limit": 1000, "flows": 1024, "quantum": 1514, "memory_limit": 4 << 20, "ecn": True}
    assert {key: one["options"][key] for key in wanted} == wanted
    assert [round(one["options"][key], -1) for key in ("target", "interval")] == [5120, 102_400]

    kernel.send(device, [Step(Verb.DELETE, fq_codel(), None)])
    netns.run(f"tc qdisc add dev {device} parent 5a00:1 handle 5b01: fq_codel limit 77 target 8ms interval 80ms noecn")
    read = kernel.read(device).leaf_of(TOP | 1)
    assert read is not None
    assert read.options == FqCodelOptions(77, 8000, 80_000, 1514, 1024, 32 << 20, False)
    kernel.send(device, Plan(device, tuple(ground())).inverse().steps)
    assert kernel.read(device) == before


@pytest.mark.parametrize("delay", ["1ms", "20ms", "70ms", "333ms", "1500ms"])
def test_a_compiled_leaf_is_read_back_as_it_was_sent(netns: Lab, delay: str) -> None:
    device, kernel = netns.link_pair().a, netns.kernel()
    text = POLICY.format(device=device, video="3mbit").replace("70ms", delay)
    leaves = parse_policy(text, source="p.yaml").interfaces[0].leaves()
    video = next(leaf for leaf in leaves if leaf.path == "video")
    link = LinkFacts(name=device, index=2, mtu=1500, header=14, super_packet=1514, up=True)
    queue = leaf_queue(video, rate=3_000_000, ceil=20_000_000, handle=LEAF, parent=TOP | 1, link=link, have=FULL).qdisc
    kernel.send(device, [*ground(), Step(Verb.ADD, None, queue)])
    assert kernel.read(device).leaf_of(TOP | 1) == queue


def test_apply_makes_fq_codel_leaves_once_and_clear_takes_them_away(netns: Lab, tmp_path: Path) -> None:
    device = netns.link_pair().a
    policy = tmp_path / "policy.yaml"

    def shaper(command: str) -> tuple[int, Any]:
        argv = f"ip netns exec {netns.name} {SHAPER} {command} --state {tmp_path / 'state'} --json".split()
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    found = netns.run(f"tc qdisc show dev {device}")
    policy.write_text(POLICY.format(device=device, video="3mbit"))
    assert shaper(f"apply {policy}")[0] == 0
    leaves = {one["parent"]: one["options"] for one in shown(netns, device)}
    classes = netns.run(f"tc class show dev {device}").splitlines()
    assert set(leaves) == {line.split()[2] for line in classes if " leaf " in line}
    assert len(leaves) >= 4  # voice, video, bulk, and network control
    assert {round(options["target"], -1) for options in leaves.values()} == {4990, 7040}  # 5 ms, and 70 ms / 10

    code, again = shaper(f"apply {policy}")
    assert (code, again["interfaces"][0]["steps"]) == (0, [])
    policy.write_text(POLICY.format(device=device, video="5mbit"))
    code, changed = shaper(f"apply {policy}")
    assert code == 0
    assert changed["interfaces"][0]["steps"]
    assert {one["parent"] for one in shown(netns, device)} == set(leaves)
    assert shaper("clear")[0] == 0
    assert netns.run(f"tc qdisc show dev {device}") == found
