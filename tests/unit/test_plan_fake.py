"""Plans between compiled policies, carried out on the verified fake: there, back, and nothing left."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from random import Random

from compile_samples import (
    ETHERNET,
    FLOWER_KERNEL,
    FULL_KERNEL,
    MBIT,
    SMALL_KERNEL,
    a_class,
    an_interface,
    any_interface,
)
from hypothesis import given
from hypothesis import strategies as st

from shaper.compile import compile_interface
from shaper.errors import ShaperError
from shaper.kernel.fake import FakeKernel
from shaper.model.cake import TINS
from shaper.model.match import Match
from shaper.model.policy import Backend, Interface
from shaper.plan import diff
from shaper.tree import Capabilities, Tree, tree

randoms = st.integers(0, 2**32).map(Random)
kernels = st.sampled_from(
    [SMALL_KERNEL, FLOWER_KERNEL, replace(FULL_KERNEL, qdiscs=FULL_KERNEL.qdiscs | {"hfsc", "cake", "ets", "prio"})]
)


def tinned(random: Random) -> Interface:
    """A class for each tin of one of CAKE's ways to sort."""
    table = random.choice(tuple(TINS.values()))
    bandwidth = random.choice((1, 20, 1000)) * MBIT
    return an_interface(
        [
            a_class(f"t{tin}", 0, bandwidth, matches=(Match(dscp=tuple(table.dscps(tin))),), default=tin == 0)
            for tin in range(len(table.names))
        ],
        bandwidth,
    )


def compiled(random: Random, capabilities: Capabilities) -> Tree:
    """By any backend; HTB where the policy has delays that the link cannot keep, or more classes than bands."""
    backend = random.choice([backend for backend in Backend if backend is not Backend.AUTO])
    interface = tinned(random) if backend is Backend.CAKE else any_interface(random)
    with contextlib.suppress(ShaperError):
        return compile_interface(replace(interface, backend=backend), capabilities, ETHERNET).tree
    return compile_interface(interface, capabilities, ETHERNET).tree


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
