"""What the fake does beyond a kernel's rules: it fails and dies on demand, and holds what somebody else has made."""

from __future__ import annotations

import errno

import pytest

from shaper.errors import Exit, UnavailableError
from shaper.kernel.fake import FULL, FakeKernel, Killed
from shaper.kernel.protocol import ClassCounters, StepError
from shaper.plan.steps import Plan, Step, Verb
from shaper.tree import (
    CLSACT,
    CLSACT_EGRESS,
    CLSACT_HANDLE,
    ROOT,
    BpfFilter,
    Capabilities,
    FifoOptions,
    FlowerFilter,
    FqCodelOptions,
    HtbClass,
    HtbOptions,
    Ifb,
    Insn,
    Node,
    OtherFilter,
    Qdisc,
    RawOptions,
    tree,
)

TOP = 0x5A000000
MATCH = (Insn(0x06, 0, 0, 0xFFFFFFFF),)
NODES: tuple[Node, ...] = (
    Ifb("tap0", "sla-shaper eth1"),
    Qdisc(TOP, ROOT, "htb", HtbOptions(0x10)),
    HtbClass(TOP | 1, TOP, 8_000_000, 8_000_000, 15625, 15625, 0, 1514),
    HtbClass(TOP | 0x10, TOP | 1, 8_000_000, 8_000_000, 15625, 15625, 0, 1514),
    Qdisc(0x5B100000, TOP | 0x10, "fq_codel", FqCodelOptions(1000, 5000, 100_000, 1514, 1024, 32 << 20, True)),
    BpfFilter(TOP, 10, 1, MATCH, classid=TOP | 0x10),
    Qdisc(CLSACT_HANDLE, CLSACT, "clsact"),
    BpfFilter(CLSACT_EGRESS, 100, 1, MATCH, mirror="tap0"),
)
STEPS = tuple(Step(Verb.ADD, None, node) for node in NODES)


def test_a_plan_and_its_inverse_leave_nothing() -> None:
    kernel = FakeKernel("eth1")
    kernel.send("eth1", STEPS)
    assert kernel.read("eth1") == tree("eth1", NODES)
    kernel.send("eth1", Plan("eth1", STEPS).inverse().steps)
    assert kernel.read("eth1") == tree("eth1", [])
    assert len(kernel.sent) == 2 * len(STEPS)


@pytest.mark.parametrize("place", range(len(STEPS)))
def test_a_fault_strikes_once_and_can_be_taken_back(place: int) -> None:
    kernel = FakeKernel("eth1")
    kernel.fail_at(place, errno.ENOMEM)
    with pytest.raises(StepError) as caught:
        kernel.send("eth1", STEPS)
    assert (caught.value.done, caught.value.errno) == (place, errno.ENOMEM)
    assert "Cannot allocate memory" in caught.value.message
    kernel.send("eth1", Plan("eth1", STEPS).inverse(place).steps)
    assert kernel.read("eth1") == tree("eth1", [])
    kernel.send("eth1", STEPS)


@pytest.mark.parametrize("place", range(len(STEPS)))
def test_a_dead_process_does_nothing_more(place: int) -> None:
    kernel = FakeKernel("eth1")
    kernel.die_at(place)
    with pytest.raises(Killed):
        kernel.send("eth1", STEPS)
    with pytest.raises(Killed):
        kernel.send("eth1", Plan("eth1", STEPS).inverse(place).steps)
    with pytest.raises(Killed):
        kernel.read("eth1")
    kernel.revive()
    assert kernel.read("eth1") == tree("eth1", NODES[:place])


def test_no_permission() -> None:
    kernel = FakeKernel("eth1")
    kernel.deny()
    with pytest.raises(StepError, match="Operation not permitted") as caught:
        kernel.send("eth1", STEPS)
    assert caught.value.exit == Exit.NOT_PERMITTED
    assert "CAP_NET_ADMIN" in caught.value.hint
    kernel.deny(denied=False)
    kernel.send("eth1", STEPS)


def test_no_such_device() -> None:
    kernel = FakeKernel("eth1", "eth2")
    for call in (kernel.link, kernel.read, kernel.counters, lambda name: kernel.send(name, STEPS)):
        with pytest.raises(UnavailableError, match="there is no interface 'eth9'") as caught:
            call("eth9")
        assert "eth1, eth2" in caught.value.hint


@pytest.mark.parametrize(
    ("lack", "hint"),
    [
        ({"qdiscs": frozenset({"clsact"})}, "sch_htb"),
        ({"qdiscs": FULL.qdiscs - {"fq_codel"}}, "CONFIG_NET_SCH_FQ_CODEL"),
        ({"filters": frozenset({"u32"})}, "cls_bpf"),
        ({"actions": frozenset()}, "act_mirred"),
        ({"links": frozenset({"veth"})}, "modprobe ifb"),
    ],
)
def test_what_the_kernel_lacks_is_named(lack: dict[str, frozenset[str]], hint: str) -> None:
    able = {
        "qdiscs": FULL.qdiscs,
        "filters": FULL.filters,
        "actions": FULL.actions,
        "links": FULL.links,
    } | lack
    kernel = FakeKernel("eth1", capabilities=Capabilities("6.1", **able))
    with pytest.raises(StepError) as caught:
        kernel.send("eth1", STEPS)
    assert hint in caught.value.hint
    assert caught.value.exit == Exit.UNAVAILABLE


def test_a_kernel_without_flower_names_its_module() -> None:
    able = Capabilities("6.1", FULL.qdiscs, frozenset({"bpf"}), FULL.actions, FULL.links)
    kernel = FakeKernel("eth1", capabilities=able)
    kernel.send("eth1", STEPS[1:4])
    with pytest.raises(StepError, match="filter 0x1 pref 100") as caught:
        kernel.send("eth1", [Step(Verb.ADD, None, FlowerFilter(TOP, 100, 1, 3, (), TOP | 0x10))])
    assert "cls_flower" in caught.value.hint and caught.value.exit is Exit.UNAVAILABLE


def test_somebody_elses_nodes_stay_and_are_in_the_way() -> None:
    kernel = FakeKernel("eth1")
    foreign = Qdisc(0x10000, ROOT, "cake", RawOptions(b"x"))
    other = OtherFilter(CLSACT_EGRESS, 1, 1, 3, "flower")
    kernel.put("eth1", foreign, other)
    assert kernel.read("eth1") == tree("eth1", [foreign, other])
    with pytest.raises(StepError) as caught:
        kernel.send("eth1", STEPS[1:])
    assert caught.value.errno == errno.EEXIST
    assert "tc qdisc show dev eth1" in caught.value.hint


def test_an_ifb_of_another_device_is_not_listed() -> None:
    kernel = FakeKernel("eth1", "eth2")
    kernel.put("eth2", Ifb("tap1", "sla-shaper eth2"))
    assert kernel.read("eth1").links == ()
    assert kernel.read("eth2").links == (Ifb("tap1", "sla-shaper eth2"),)


def test_counters_are_of_the_leaves() -> None:
    kernel = FakeKernel("eth1")
    kernel.send("eth1", STEPS)
    assert set(kernel.counters("eth1").classes) == {TOP | 0x10}
    seen = ClassCounters(1500, 1, 2, 3, 4, 5)
    kernel.count("eth1", {TOP | 0x10: seen}, unshaped=7)
    counters = kernel.counters("eth1")
    assert (counters.classes[TOP | 0x10], counters.unshaped) == (seen, 7)


def test_a_change_of_fq_codel_keeps_its_flows() -> None:
    kernel = FakeKernel("eth1")
    kernel.send("eth1", STEPS)
    leaf = kernel.read("eth1").leaf_of(TOP | 0x10)
    assert leaf is not None
    assert isinstance(leaf.options, FqCodelOptions)
    after = Qdisc(leaf.handle, leaf.parent, leaf.kind, leaf.options._replace(flows=1, limit=500))
    kernel.send("eth1", [Step(Verb.CHANGE, leaf, after)])
    changed = kernel.read("eth1").leaf_of(TOP | 0x10)
    assert changed is not None
    assert changed.options == leaf.options._replace(limit=500)


def test_options_belong_to_their_kind() -> None:
    kernel = FakeKernel("eth1")
    with pytest.raises(StepError, match="a bfifo qdisc takes no HtbOptions"):
        kernel.send("eth1", [Step(Verb.ADD, None, Qdisc(TOP, ROOT, "bfifo", HtbOptions(0)))])
    kernel.send("eth1", [Step(Verb.ADD, None, Qdisc(TOP, ROOT, "bfifo", FifoOptions(9)))])
