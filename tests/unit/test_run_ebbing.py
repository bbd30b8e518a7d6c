"""Limits follow queues down: no step of an apply or of the controller makes the fake's queues throw anything away."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shaper.kernel.fake import FakeKernel
from shaper.model.change import Who
from shaper.plan.fingerprint import carried
from shaper.plan.steps import Step, Verb
from shaper.policy import parse_policy
from shaper.run import apply, changes, ebbing
from shaper.run.changes import Order
from shaper.run.holding import Holding
from shaper.run.prepare import Prepared
from shaper.run.state import DeviceState
from shaper.tree import ROOT, FqCodelOptions, HtbClass, HtbOptions, Occupancy, Qdisc, ticks

TOP, LEAF = 0x5A000000, 0x5B100000
UNDER = TOP | 0x10
FQ = FqCodelOptions(1000, 4992, 99968, 1514, 1024, 640_000, True)
QUEUE = Qdisc(LEAF, UNDER, "fq_codel", FQ)
LOWERED = replace(QUEUE, options=FQ._replace(limit=100, memory=64_000))
CHANGE = Step(Verb.CHANGE, QUEUE, LOWERED)
POLICY = """\
version: 1
interfaces: {{wan: {{device: eth1, bandwidth: {{egress: 20mbit}}, policy: p}}}}
policies:
  p:
    classes:
      bulk: {{limit: {limit}, aqm: {{kind: fq_codel, limit: {packets}}}, match: [{{proto: tcp}}]}}
      rest: {{default: true, guarantee: 1mbit}}
"""


def queue() -> FakeKernel:
    kernel = FakeKernel("eth1")
    rate = HtbClass(UNDER, TOP, 8_000_000, 8_000_000, ticks(10_000, 8_000_000), ticks(10_000, 8_000_000), 3, 1514)
    nodes = (Qdisc(TOP, ROOT, "htb", HtbOptions(0x10)), rate, QUEUE)
    kernel.send("eth1", [Step(Verb.ADD, None, node) for node in nodes])
    return kernel


def held(*packets: int) -> list[Occupancy]:
    return [Occupancy(count, 640 * count) for count in packets]


def test_told_at_once_the_queue_would_throw_away_the_rest() -> None:
    kernel = queue()
    kernel.fill("eth1", LEAF, *held(400))
    kernel.send("eth1", [CHANGE])
    assert kernel.thrown_away("eth1") == 300


def test_the_limit_follows_the_queue_and_ends_where_it_should() -> None:
    kernel = queue()
    kernel.fill("eth1", LEAF, *held(800, 400, 300, 200, 100, 50))
    assert not ebbing.send(kernel, "eth1", [CHANGE], patience=20.0)
    sent = [step.after.options for step in kernel.sent if step.verb is Verb.CHANGE and isinstance(step.after, Qdisc)]
    limits = [options.limit for options in sent if isinstance(options, FqCodelOptions)]
    assert limits == sorted(limits, reverse=True)
    assert limits[0] == 1000
    assert kernel.read("eth1").leaf_of(UNDER) == LOWERED
    assert kernel.thrown_away("eth1") == 0


@given(st.lists(st.integers(0, 900), min_size=2, max_size=8))
def test_nothing_of_a_queue_that_drains_is_thrown_away(counts: list[int]) -> None:
    kernel = queue()
    kernel.fill("eth1", LEAF, *held(*sorted(counts, reverse=True)))
    left = ebbing.send(kernel, "eth1", [CHANGE], patience=0.0)
    for _ in counts:
        left = ebbing.lower(kernel, "eth1", left)
    assert kernel.thrown_away("eth1") == 0
    assert kernel.read("eth1").leaf_of(UNDER) == (left[0].before if left else LOWERED)
    assert bool(left) == (min(counts) > 88)  # 100, but for some room


def made(kernel: FakeKernel, state: DeviceState, limit: str, packets: int) -> Prepared:
    policy = parse_policy(POLICY.format(limit=limit, packets=packets), source="p.yaml")
    prepared = apply.prepare(kernel, state, policy, policy.interfaces[0])
    return changes.make(kernel, state, prepared, what="apply", order=Order(Who(0), 1.0))


def test_a_queue_that_stays_full_keeps_its_limit_and_another_apply_lowers_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ebbing, "PATIENCE", 0.0)
    kernel, state = FakeKernel("eth1"), DeviceState(tmp_path, "eth1")
    first = made(kernel, state, "10mbit", 1000)
    leaf = first.target.leaf_of(first.program.handles["bulk"])
    assert leaf is not None
    kernel.fill("eth1", leaf.handle, *held(500))
    second = made(kernel, state, "8mbit", 100)
    assert len(second.left) == 1
    assert any("class bulk" in note and "stays full" in note for note in second.program.notes)
    stands = kernel.read("eth1").leaf_of(leaf.parent)
    assert stands == second.target.leaf_of(leaf.parent)
    assert isinstance(stands.options, FqCodelOptions)
    assert 500 <= stands.options.limit < 1000
    kernel.fill("eth1", leaf.handle, *held(0))
    third = made(kernel, state, "8mbit", 100)
    assert [type(step.node) for step in third.plan.steps] == [Qdisc]
    assert not third.left
    assert kernel.read("eth1").leaf_of(leaf.parent) == third.program.tree.leaf_of(leaf.parent)
    assert kernel.thrown_away("eth1") == 0


def test_a_run_lowers_what_is_left_as_the_queue_drains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ebbing, "PATIENCE", 0.0)
    kernel, state = FakeKernel("eth1"), DeviceState(tmp_path, "eth1")
    holding = Holding(kernel, state, structure=True)
    policy = parse_policy(POLICY.format(limit="10mbit", packets=100), source="p.yaml")
    holding.apply(policy, policy.interfaces[0], what="run", order=Order(Who(0), 1.0), keep_live=False)
    leaf = holding.tree.leaf_of(holding.program.handles["bulk"])
    assert leaf is not None
    assert isinstance(leaf.options, FqCodelOptions)
    raised = replace(leaf, options=leaf.options._replace(memory=4 * leaf.options.memory))
    holding.send(carried(holding.tree, [Step(Verb.CHANGE, leaf, raised)]))
    kernel.fill("eth1", leaf.handle, Occupancy(50, 2 * leaf.options.memory))
    holding.send(holding.program.tree)
    between = holding.tree.leaf_of(leaf.parent)
    assert between == kernel.read("eth1").leaf_of(leaf.parent)
    assert isinstance(between, Qdisc)
    assert isinstance(between.options, FqCodelOptions)
    assert 2 * leaf.options.memory <= between.options.memory < 4 * leaf.options.memory
    assert holding.drifted() == ((), ())
    kernel.fill("eth1", leaf.handle, Occupancy())
    assert holding.lower()
    assert holding.tree == holding.program.tree
    assert holding.drifted() == ((), ())
    assert not holding.lower()
    assert kernel.thrown_away("eth1") == 0
