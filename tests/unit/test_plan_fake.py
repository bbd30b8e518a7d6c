"""Plans between compiled policies, carried out on the verified fake: there, back, and nothing left."""

from __future__ import annotations

from random import Random

from compile_samples import ETHERNET, FLOWER_KERNEL, FULL_KERNEL, SMALL_KERNEL, any_interface
from hypothesis import given
from hypothesis import strategies as st

from shaper.compile import compile_interface
from shaper.kernel.fake import FakeKernel
from shaper.plan import diff
from shaper.tree import Tree, tree

randoms = st.integers(0, 2**32).map(Random)
kernels = st.sampled_from([SMALL_KERNEL, FULL_KERNEL, FLOWER_KERNEL])


def compiled(random: Random, capabilities: object) -> Tree:
    held: Tree = compile_interface(any_interface(random), capabilities, ETHERNET).tree
    return held


@given(randoms, kernels, kernels)
def test_the_fake_goes_from_one_policy_to_another_and_back_and_nothing_is_left(random, before, after) -> None:
    empty = tree("eth1", ())
    first, second = compiled(random, before), compiled(random, after)
    kernel = FakeKernel("eth1")
    into = diff(empty, first, bounds={})
    kernel.send("eth1", into.steps)
    assert kernel.read("eth1") == first
    over = diff(first, second, bounds={})
    kernel.send("eth1", over.steps)
    assert kernel.read("eth1") == second
    kernel.send("eth1", over.inverse().steps)
    assert kernel.read("eth1") == first
    kernel.send("eth1", into.inverse().steps)
    assert kernel.read("eth1") == empty
    assert not diff(first, first, bounds={}).steps
