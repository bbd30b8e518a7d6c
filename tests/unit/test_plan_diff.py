"""Plans lead where they should, step by step and back, and at no step is the link oversold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from plan_samples import ModelKernel, a_tree, moved

from shaper.plan import adopt_live, diff
from shaper.plan.live import capacity, leaf_sum
from shaper.plan.steps import Plan, Verb
from shaper.plan.trees import inner_classes
from shaper.tree import (
    BpfFilter,
    FieldBounds,
    FifoOptions,
    Handle,
    HtbClass,
    Insn,
    Node,
    Qdisc,
    Tree,
    handle,
    queue_limit,
    tree,
)

LINK = handle(0x5A00, 1)
randoms = st.integers(0, 2**32).map(Random)


def carried_out(start: Tree, plan: Plan) -> list[Tree]:
    """The tree after every step."""
    kernel = ModelKernel(start)
    trees = [kernel.tree]
    for step in plan.steps:
        kernel.send(step)
        trees.append(kernel.tree)
    return trees


def bounds_of(desired: Tree) -> dict[Handle, FieldBounds]:
    """Wide ones for the leaves of a tree."""
    inner = inner_classes(desired)
    return {
        cls.handle: FieldBounds((8, cls.ceil), (cls.rate, cls.ceil), (4542, 30_000))
        for cls in desired.classes
        if cls.handle not in inner
    }


@given(randoms)
def test_nothing_to_do_between_equal_trees(random: Random) -> None:
    held = a_tree(random)
    assert diff(held, held, bounds={}).steps == ()
    assert diff(held, held, bounds=bounds_of(held)).steps == ()


@given(randoms)
def test_a_plan_leads_from_one_tree_to_the_other_and_its_inverse_back(random: Random) -> None:
    observed, desired = a_tree(random), a_tree(random)
    plan = diff(observed, desired, bounds={})
    forward = carried_out(observed, plan)
    assert forward[-1] == desired
    assert carried_out(desired, plan.inverse()) == forward[::-1]


@given(randoms)
def test_a_plan_that_stopped_anywhere_can_be_taken_back(random: Random) -> None:
    observed, desired = a_tree(random), a_tree(random)
    plan = diff(observed, desired, bounds={})
    done = random.randint(0, len(plan.steps))
    stopped = carried_out(observed, Plan(plan.device, plan.steps[:done]))[-1]
    assert carried_out(stopped, plan.inverse(done))[-1] == observed
    assert carried_out(stopped, diff(stopped, observed, bounds={}))[-1] == observed


@given(randoms)
def test_the_leaves_never_hold_more_than_the_link(random: Random) -> None:
    observed, desired = a_tree(random), a_tree(random)
    plan = diff(observed, desired, bounds={})
    going = 8 * len(observed.classes)  # a class that is about to go keeps one byte a second
    for held in carried_out(observed, plan):
        link = next((cls.rate for cls in held.classes if cls.handle == LINK), 0)
        leaves = [
            cls
            for cls in held.classes
            if cls.handle not in inner_classes(desired if cls in desired.classes else observed)
        ]
        assert sum(cls.rate for cls in leaves) <= link + going


@given(randoms)
def test_live_fields_inside_their_bounds_stay(random: Random) -> None:
    desired = a_tree(random)
    observed = moved(random, desired)
    bounds = bounds_of(desired)
    target = adopt_live(observed, desired, bounds=bounds)
    plan = diff(observed, desired, bounds=bounds)
    assert carried_out(observed, plan)[-1] == target
    assert adopt_live(target, desired, bounds=bounds) == target
    assert diff(target, desired, bounds=bounds).steps == ()
    rates = {cls.handle: cls.rate for cls in observed.classes}
    assert all(cls.rate == rates[cls.handle] for cls in target.classes)


@given(randoms)
def test_adopting_any_tree_stays_inside_the_bounds_and_the_link(random: Random) -> None:
    observed, desired = a_tree(random), a_tree(random)
    bounds = bounds_of(desired)
    target = adopt_live(observed, desired, bounds=bounds)
    assert leaf_sum(target) <= max(capacity(desired), leaf_sum(desired))
    for cls in target.classes:
        assert cls.rate <= cls.ceil
        if cls.handle in bounds:
            low, high = bounds[cls.handle].rate
            assert low <= cls.rate <= high
    assert carried_out(observed, diff(observed, desired, bounds=bounds))[-1] == target


def _example() -> Tree:
    root, link, voice, bulk = (handle(0x5A00, minor) for minor in (0, 1, 0x10, 0x11))
    return tree(
        "eth1",
        [
            Qdisc(root, 0xFFFFFFFF, "htb"),
            HtbClass(link, root, 20_000_000, 20_000_000, 900, 900, 0, 1514),
            HtbClass(voice, link, 2_000_000, 5_000_000, 90_000, 40_000, 0, 15140),
            HtbClass(bulk, link, 18_000_000, 20_000_000, 9_000, 9_000, 2, 15140),
            Qdisc(handle(0x5B10, 0), voice, "bfifo", FifoOptions(20_000)),
            Qdisc(handle(0x5B11, 0), bulk, "bfifo", FifoOptions(64_000)),
        ],
    )


def test_a_live_rate_outside_its_new_bounds_gives_way_to_the_static_one() -> None:
    held = _example()
    voice, bulk = handle(0x5A00, 0x10), handle(0x5A00, 0x11)
    bounds = {
        voice: FieldBounds((1_000_000, 5_000_000), (2_000_000, 5_000_000), (4542, 30_000)),
        bulk: FieldBounds((500_000, 20_000_000), (18_000_000, 20_000_000), (4542, 30_000)),
    }
    live = {voice: 800_000, bulk: 12_000_000}
    observed = replace(held, classes=tuple(replace(cls, rate=live.get(cls.handle, cls.rate)) for cls in held.classes))
    target = adopt_live(observed, held, bounds=bounds)
    assert {cls.handle: cls.rate for cls in target.classes} == {
        held.classes[0].handle: 20_000_000,
        voice: 2_000_000,
        bulk: 12_000_000,
    }
    leaf = target.leaf_of(bulk)
    assert leaf is not None and queue_limit(leaf.options) == 64_000


def test_live_rates_that_a_new_class_leaves_no_room_for_give_way_to_the_static_ones() -> None:
    desired = _example()
    voice, bulk = handle(0x5A00, 0x10), handle(0x5A00, 0x11)
    bounds = {voice: FieldBounds((1_000_000, 5_000_000), (2_000_000, 5_000_000), (4542, 30_000))}
    live = {voice: 4_000_000}
    observed = replace(
        desired, classes=tuple(replace(cls, rate=live.get(cls.handle, cls.rate)) for cls in desired.classes)
    )
    target = adopt_live(observed, desired, bounds=bounds)
    assert {cls.rate for cls in target.classes if cls.handle in (voice, bulk)} == {2_000_000, 18_000_000}


def test_moving_one_rate_is_one_step_with_the_burst_that_belongs_to_it() -> None:
    held = _example()
    voice = handle(0x5A00, 0x10)
    faster = replace(
        held, classes=tuple(replace(cls, rate=3_000_000) if cls.handle == voice else cls for cls in held.classes)
    )
    (step,) = diff(held, faster, bounds={}).steps
    assert step.verb is Verb.CHANGE and step.node.key == ("class", voice, 0)


def test_the_classifier_changes_after_new_classes_came_and_before_old_ones_go() -> None:
    held = _example()
    bulk, fresh = handle(0x5A00, 0x11), handle(0x5A00, 0x12)
    before = tree("eth1", [*held.nodes(), BpfFilter(handle(0x5A00, 0), 10, 1, (Insn(6, 0, 0, bulk),))])
    renamed = {bulk: fresh, handle(0x5B11, 0): handle(0x5B12, 0)}
    after = tree("eth1", [_renumbered(node, renamed) for node in before.nodes()])
    seen = [
        (step.verb, step.node.key[0], getattr(step.node, "handle", 0)) for step in diff(before, after, bounds={}).steps
    ]
    assert seen == [
        (Verb.CHANGE, "class", bulk),  # gives up its rate for the new one
        (Verb.ADD, "class", fresh),
        (Verb.ADD, "qdisc", handle(0x5B12, 0)),
        (Verb.CHANGE, "filter", 1),
        (Verb.DELETE, "qdisc", handle(0x5B11, 0)),
        (Verb.DELETE, "class", bulk),
    ]


def _renumbered(node: Node, numbers: Mapping[int, int]) -> Node:
    if isinstance(node, BpfFilter):
        return replace(node, program=tuple(insn._replace(k=numbers.get(insn.k, insn.k)) for insn in node.program))
    if isinstance(node, (Qdisc, HtbClass)):
        own, parent = numbers.get(node.handle, node.handle), numbers.get(node.parent, node.parent)
        return replace(node, handle=own, parent=parent)
    return node


def test_clearing_takes_away_leaves_up_and_its_inverse_builds_all_again() -> None:
    held = _example()
    plan = diff(held, tree("eth1", ()), bounds={})
    assert {step.verb for step in plan.steps} == {Verb.DELETE}
    assert isinstance(plan.steps[-1].node, Qdisc) and plan.steps[-1].node.parent == 0xFFFFFFFF
    assert carried_out(tree("eth1", ()), plan.inverse())[-1] == held
