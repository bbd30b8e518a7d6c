"""Filters of loaded programs, against the fake and against a real kernel: the same answers, the same trees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from pyroute2 import IPRoute
from test_kernel_contract import TOP, add, change, classifier, cls, clsact, compare, delete, fake, real, root

from collectors.bpf import lookup
from collectors.bpf.delays import KernelDelays, refusal
from collectors.netlink import inside
from shaper.compile.classifier import lookup_classifier
from shaper.kernel.fake import FakeKernel
from shaper.kernel.netlink import NetlinkKernel
from shaper.model.match import Match, Prefix, Rule, Rules
from shaper.tree import CLSACT_EGRESS, FORGED, LoadedFilter, SetMeta

__all__ = ["real"]

STAMP = LoadedFilter(CLSACT_EGRESS, 20, 1, "shaper-stamp-1")
OTHER = replace(STAMP, name="shaper-stamp-2")
CHOICE = LoadedFilter(TOP, 10, 1, "shaper-stamp-1", direct=False)
STEPS = [
    add(STAMP),  # no hook yet
    add(clsact()),
    change(STAMP),
    add(replace(STAMP, name="shaper-gone")),
    add(replace(STAMP, name="somebody-else")),
    add(replace(STAMP, name="shaper-" + "x" * 249)),
    add(replace(STAMP, preference=0)),
    add(STAMP),
    add(STAMP),
    change(OTHER, before=STAMP),
    change(replace(STAMP, name="shaper-gone"), before=OTHER),
    change(replace(OTHER, direct=False), before=OTHER),
    add(replace(STAMP, handle=2, protocol=0x0800)),
    add(replace(STAMP, handle=2)),
    delete(replace(STAMP, handle=3)),
    delete(replace(OTHER, direct=False)),
    # in front of the queue it may name classes, and take the place of a classic program in one message
    add(root()),
    add(cls(1)),
    add(classifier()),
    change(CHOICE, before=classifier()),
    change(replace(CHOICE, classid=TOP | 1), before=CHOICE),
    delete(cls(1)),
    change(classifier(), before=CHOICE),
    add(replace(CHOICE, preference=11)),
    delete(clsact()),
    delete(root()),
]


@pytest.fixture
def programs() -> Iterator[dict[str, int]]:
    """Two names for a program that some process has loaded."""
    if why := refusal():
        pytest.skip(f"missing capability: eBPF ({why})")
    loaded = KernelDelays(classifier=((0x06, 0, 0, 0),), handles=(), stamps=1)
    yield {"shaper-stamp-1": loaded.entry, "shaper-stamp-2": loaded.entry, "somebody-else": loaded.entry}
    loaded.close()


def lending(kernel: FakeKernel | NetlinkKernel, programs: dict[str, int]) -> FakeKernel | NetlinkKernel:
    kernel.programs.update(programs)
    return kernel


@pytest.mark.kernel
def test_the_fake_takes_loaded_programs_as_the_kernel_does(
    real: Callable[[], NetlinkKernel], programs: dict[str, int]
) -> None:
    model, kernel = fake(), real()
    lending(model, programs)
    lending(kernel, programs)
    compare(STEPS, model, kernel)


@pytest.mark.kernel
def test_a_program_stays_on_its_hook_when_who_loaded_it_is_gone(
    real: Callable[[], NetlinkKernel], programs: dict[str, int]
) -> None:
    kernel = real()
    lending(kernel, programs)
    kernel.send("dev0", [add(clsact()), add(STAMP)])
    kernel.programs.clear()
    assert STAMP in kernel.read("dev0").filters
    kernel.send("dev0", [delete(STAMP), delete(clsact())])
    assert not kernel.read("dev0").filters


@pytest.mark.kernel
@pytest.mark.parametrize("name", ["shaper-stamp-1", "shaper-stamp-1#1"], ids=["bare", "of another's number"])
def test_a_program_that_only_bears_the_name_is_not_taken_for_ours(
    real: Callable[[], NetlinkKernel], programs: dict[str, int], name: str
) -> None:
    kernel = real()
    lending(kernel, programs)
    kernel.send("dev0", [add(clsact()), add(STAMP)])

    def forge() -> None:
        with IPRoute() as route:
            (index,) = route.link_lookup(ifname="dev0")
            place = {"parent": CLSACT_EGRESS, "prio": STAMP.preference, "handle": STAMP.handle}
            route.tc("replace-filter", "bpf", index, fd=programs["somebody-else"], name=name, flags=1, **place)

    inside(str(kernel._netns), forge)
    (held,) = kernel.read("dev0").filters
    assert held == replace(STAMP, name=name + FORGED)
    kernel.send("dev0", [change(STAMP, before=held)])
    assert kernel.read("dev0").filters == (STAMP,)


LISTED = Rules((Rule((Match(dst=(Prefix(4, 0x0A000000, 8), Prefix(6, 0x20010DB8 << 96, 32))),), "a"),), "b")
LOOKUP = lookup_classifier(LISTED, {"a": TOP | 1, "b": TOP | 2})
SORTING = LoadedFilter(TOP, 10, 1, LOOKUP.name, direct=False)
MARKING = replace(SORTING, actions=(SetMeta(mark=7),))
SORTS = [
    add(SORTING),  # no root yet
    add(root()),
    add(classifier()),
    change(SORTING, before=classifier()),
    change(MARKING, before=SORTING),
    change(SORTING, before=MARKING),
    add(replace(MARKING, handle=2)),
    delete(replace(MARKING, handle=2)),
    change(classifier(), before=SORTING),
]


@pytest.mark.kernel
def test_the_fake_takes_programs_with_tables_as_the_kernel_does(real: Callable[[], NetlinkKernel]) -> None:
    if why := lookup.refusal():
        pytest.skip(f"missing capability: eBPF ({why})")
    model, kernel = fake(), real()
    marks = "skbedit" in kernel.capabilities().actions
    steps = [
        step for step in SORTS if marks or not any(getattr(one, "actions", ()) for one in (step.before, step.after))
    ]
    with model.lending(LOOKUP), kernel.lending(LOOKUP):
        compare(steps, model, kernel)


@pytest.mark.kernel
def test_a_program_with_tables_stays_on_its_filter_and_is_lent_no_more(real: Callable[[], NetlinkKernel]) -> None:
    if why := lookup.refusal():
        pytest.skip(f"missing capability: eBPF ({why})")
    kernel = real()
    with kernel.lending(LOOKUP):
        kernel.send("dev0", [add(root()), add(SORTING)])
    assert not kernel.programs
    assert kernel.read("dev0").filters == (SORTING,)
