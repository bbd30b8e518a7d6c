"""codel, pie, fq_pie, red and sfq on a kernel that has them: read back as sent, shown by tc, and as the fake says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from backend_bench import Bench
from hypothesis import given
from hypothesis import strategies as st
from leaf_options import ALL, leaf

from shaper.kernel.fake import FULL, FakeKernel
from shaper.plan.steps import Step, Verb
from shaper.plan.trees import is_changeable
from shaper.report.tc_options import qdisc_words
from shaper.tree import (
    ROOT,
    CakeOptions,
    CodelOptions,
    Diffserv,
    FlowMode,
    FqPieOptions,
    Handle,
    HtbClass,
    HtbOptions,
    LeafOptions,
    PieOptions,
    Qdisc,
    RedOptions,
    SfqOptions,
    ticks,
)

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.full

TOP: Handle = 0x5A000000
LEAF: Handle = 0x5B100000
UNDER: Handle = TOP | 0x10

SAMPLES: dict[str, LeafOptions] = {
    "codel": CodelOptions(1000, 5120, 102_400, True),
    "pie": PieOptions(500, 16_000, True, 3, 24),
    "fq_pie": FqPieOptions(2000, 512, 16_000, 1514, 4 << 20, True, 20, 3, 24),
    "red": RedOptions(120_000, 10_000, 30_000, 5, 12, 2**32 // 10, True, False),
    "sfq": SfqOptions(300, 1514, 10, 512, 100, 90, True),
}
SHOWN: dict[str, dict[str, Any]] = {
    "codel": {"limit": 1000, "target": 5119, "interval": 102_399, "ecn": True},
    "pie": {"limit": 500, "target": 16_000, "alpha": 3, "beta": 24, "ecn": True},
    "fq_pie": {"limit": 2000, "flows": 512, "target": 16_000, "quantum": 1514, "memory_limit": 4 << 20, "ecn_prob": 20},
    "red": {"limit": 120_000, "min": 10_000, "max": 30_000, "ecn": True, "adaptive": False, "probability": 0.1},
    "sfq": {"limit": 300, "quantum": 1514, "perturb": 10, "depth": 90, "headdrop": True, "divisor": 512},
}


def ground() -> list[Step]:
    rate = 8_000_000
    top = HtbClass(UNDER, TOP, rate, rate, ticks(10_000, rate), ticks(10_000, rate), 3, 1514)
    return [Step(Verb.ADD, None, Qdisc(TOP, ROOT, "htb", HtbOptions(0x10))), Step(Verb.ADD, None, top)]


def shown(lab: Lab, device: str) -> dict[str, Any]:
    """The leaf's options as tc prints them."""
    found = json.loads(lab.run(f"tc -d -j qdisc show dev {device}"))
    options: dict[str, Any] = next(one for one in found if one["handle"] == "5b10:")["options"]
    return options


@pytest.mark.parametrize("kind", ALL)
def test_any_options_are_kept_as_the_fake_keeps_them(netns: Lab, kind: str) -> None:
    kernel, device = netns.kernel(), netns.link_pair().a
    kernel.send(device, ground())

    @given(ALL[kind], ALL[kind])
    def keeps(first: LeafOptions, second: LeafOptions) -> None:
        if (held := kernel.read(device).leaf_of(UNDER)) is not None:  # of an example that failed
            kernel.send(device, [Step(Verb.DELETE, held, None)])
        fake = FakeKernel(device)
        fake.send(device, ground())
        before, after = (leaf(options, handle=LEAF, parent=UNDER) for options in (first, second))
        steps = [Step(Verb.ADD, None, before)]
        if before != after and is_changeable(before, after, inner=False):
            steps.append(Step(Verb.CHANGE, before, after))
        for step in (*steps, Step(Verb.DELETE, steps[-1].after, None)):
            kernel.send(device, [step])
            fake.send(device, [step])
            assert kernel.read(device) == fake.read(device), step

    keeps()


@pytest.mark.parametrize("kind", ALL)
def test_tc_shows_what_was_sent_and_its_own_words_make_the_same(netns: Lab, kind: str) -> None:
    device, kernel, sent = netns.link_pair().a, netns.kernel(), leaf(SAMPLES[kind], handle=LEAF, parent=UNDER)
    assert kind in FULL.qdiscs
    kernel.send(device, [*ground(), Step(Verb.ADD, None, sent)])
    assert kernel.read(device).leaf_of(UNDER) == sent
    options = shown(netns, device)
    found = {key: value.strip() if isinstance(value, str) else value for key, value in options.items()}
    assert {key: found.get(key) for key in SHOWN[kind]} == {
        key: pytest.approx(value, rel=1e-3) for key, value in SHOWN[kind].items()
    }
    kernel.send(device, [Step(Verb.DELETE, sent, None)])
    netns.run(f"tc qdisc add dev {device} parent 5a00:10 handle 5b10: {qdisc_words(kind, sent.options)}")
    assert kernel.read(device).leaf_of(UNDER) == sent


def test_a_cake_without_a_rate_is_a_leaf(netns: Lab) -> None:
    device, kernel = netns.link_pair().a, netns.kernel()
    options = CakeOptions(0, Diffserv.BESTEFFORT, FlowMode.DUAL_SRCHOST, memory=1 << 20)
    sent = Qdisc(LEAF, UNDER, "cake", options)
    kernel.send(device, [*ground(), Step(Verb.ADD, None, sent)])
    assert kernel.read(device).leaf_of(UNDER) == sent
    found = shown(netns, device)
    assert (found["bandwidth"], found["flowmode"], found["memlimit"]) == ("unlimited", "dual-srchost", 1 << 20)
    changed = Qdisc(LEAF, UNDER, "cake", options._replace(flows=FlowMode.FLOWS, memory=2 << 20))
    kernel.send(device, [Step(Verb.CHANGE, sent, changed)])
    assert kernel.read(device).leaf_of(UNDER) == changed


@given(st.sampled_from(sorted(ALL)).flatmap(lambda kind: st.tuples(ALL[kind], ALL[kind])))
def test_every_field_that_differs_is_a_change_that_is_seen(case: tuple[LeafOptions, LeafOptions]) -> None:
    first, second = case
    assert (leaf(first, handle=LEAF, parent=UNDER) == leaf(second, handle=LEAF, parent=UNDER)) == (first == second)


def test_a_filter_on_a_queue_comes_goes_and_is_mended(netns: Lab, tmp_path: Path) -> None:
    bench = Bench(netns, netns.link_pair().a, tmp_path, backend="htb")
    empty = bench.found()
    fair, plain = ("all: {aqm: fq_codel, fairness: srchost, default: true}", "all: {aqm: fq_codel, default: true}")
    bench.apply(fair)
    held = bench.found()
    (leaf,) = {line.split()[2] for line in bench.tc("qdisc").splitlines() if "parent 5a00:11 " in line}
    assert "bpf" in netns.run(f"tc filter show dev {bench.device} parent {leaf}")
    assert [step["verb"] for step in bench.apply(plain)] == ["delete"]
    assert netns.run(f"tc filter show dev {bench.device} parent {leaf}") == ""
    bench.apply(fair)
    assert bench.found() == held
    netns.run(f"tc filter del dev {bench.device} parent {leaf}")
    assert [step["verb"] for step in bench.apply(fair)] == ["add"]
    bench.apply("all: {aqm: {kind: fq_codel, flows: 256}, fairness: dsthost, default: true}")  # another queue
    assert "bpf" in netns.run(f"tc filter show dev {bench.device} parent {leaf}")
    assert bench.shaper("clear")[0] == 0
    assert bench.found() == empty
