"""Taking over a tree that is not ours, and letting go of one that is: on the verified fake, nothing is ever rebuilt."""

from __future__ import annotations

import errno
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from change_samples import Desk, die_everywhere
from hypothesis import given
from hypothesis import strategies as st

from shaper.compile import compile_interface
from shaper.errors import UnavailableError
from shaper.kernel.fake import FULL, FakeKernel
from shaper.kernel.protocol import StepError
from shaper.plan.impact import impacts
from shaper.plan.steps import Verb
from shaper.policy import parse_policy
from shaper.run import apply, changes
from shaper.run.adopt import adoption, standing_for
from shaper.run.look import look
from shaper.run.prepare import Prepared, prepare
from shaper.run.state import record_from_json, record_to_json
from shaper.tree import (
    ROOT,
    FifoOptions,
    FqCodelOptions,
    HtbClass,
    HtbOptions,
    Node,
    OtherFilter,
    Qdisc,
    RawOptions,
    Tree,
)

POLICY = """\
version: 1
interfaces:
  wan: {device: eth1, bandwidth: {egress: 20mbit}, policy: office}
policies:
  office:
    classes:
      voice: {tier: special, guarantee: 1mbit, limit: 2mbit, match: [{dscp: ef}]}
      bulk: {guarantee: 2mbit, match: [{dscp: cs1}]}
      rest: {guarantee: 12mbit, default: true}
"""
WIDER = POLICY.replace("      bulk:", "      video: {guarantee: 3mbit, match: [{dscp: af41}]}\n      bulk:").replace(
    "limit: 2mbit", "limit: 3mbit"
)
LEAF = FqCodelOptions(1000, 5000, 100000, 1514, 1024, 200_000, True)


def foreign(*, default: int = 0x30) -> list[Node]:
    """What a script of `tc` commands would have put there: its numbers, its quanta, its bursts."""

    def cls(minor: int, parent: int, rate: int, ceil: int, prio: int) -> HtbClass:
        return HtbClass(0x10000 | minor, parent, rate, ceil, 20000, 20000, prio, 60000)

    return [
        Qdisc(0x10000, ROOT, "htb", HtbOptions(default, 1000)),
        cls(0x1, 0x10000, 20_000_000, 20_000_000, 0),
        cls(0x10, 0x10001, 1_000_000, 2_000_000, 1),
        cls(0x20, 0x10001, 2_000_000, 20_000_000, 2),
        cls(0x30, 0x10001, 12_000_000, 20_000_000, 3),
        Qdisc(0x100000, 0x10010, "fq_codel", LEAF),
        Qdisc(0x200000, 0x10020, "fq_codel", LEAF),
        Qdisc(0x300000, 0x10030, "fq_codel", LEAF),
    ]


class Office(Desk):
    """A desk whose device carries somebody else's tree."""

    def __init__(self, folder: Path, nodes: list[Node] | None = None) -> None:
        super().__init__(folder)
        self.kernel.put("eth1", *(foreign() if nodes is None else nodes))

    def planned(self, text: str = POLICY, kernel: Any = None, **named: int) -> Prepared:
        policy = parse_policy(text, source="office.yaml")
        return adoption(kernel or self.kernel, self.state, policy, policy.interfaces[0], named=named)

    def adopt(self, text: str = POLICY, kernel: Any = None, **named: int) -> Tree:
        self.tidy(kernel)
        planned = self.planned(text, kernel, **named)
        changes.make(kernel or self.kernel, self.state, planned, what="adopt", order=self.order())
        return self.held()

    def release(self, kernel: Any = None) -> Tree:
        self.tidy(kernel)
        changes.release(kernel or self.kernel, self.state, order=self.order())
        return self.held()


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def numbers(held: Tree) -> set[tuple[str, int]]:
    return {(type(node).__name__, node.handle) for node in held.nodes() if isinstance(node, (Qdisc, HtbClass))}


def test_a_foreign_tree_is_changed_and_not_rebuilt(office: Office) -> None:
    before = office.held()
    planned = office.planned()
    taken = {path: number for path, number in standing_for(planned) if number}
    assert taken == {"voice": 0x10010, "bulk": 0x10020, "rest": 0x10030}
    assert not [str(one) for one in impacts(planned.plan) if one.disruptive]
    held = office.adopt()
    assert numbers(before) <= numbers(held)
    assert not [step for step in office.kernel.sent if step.verb is Verb.DELETE]
    assert office.told() == [("adopt", "done")]
    policy = parse_policy(POLICY, source="office.yaml")
    assert not prepare(office.kernel, office.state, policy, policy.interfaces[0]).plan.steps, "a second apply"
    assert not look(office.kernel, office.state, now=0.0).drift


def test_the_rates_are_those_of_the_policy(office: Office) -> None:
    held = office.adopt()
    compiled = compile_interface(parse_policy(POLICY, source="x").interfaces[0], FULL, office.kernel.link("eth1"))
    wanted = sorted((cls.rate, cls.ceil) for cls in compiled.tree.classes)
    assert sorted((cls.rate, cls.ceil) for cls in held.classes) == wanted


def test_later_changes_keep_its_numbers_and_new_classes_get_free_ones(office: Office) -> None:
    first = office.adopt()
    office.kernel.sent.clear()
    wider = office.apply(WIDER)
    assert numbers(first) <= numbers(wider)
    assert len(wider.classes) == len(first.classes) + 1
    assert {cls.handle >> 16 for cls in wider.classes} == {1}
    assert office.apply(POLICY) == first
    assert office.rollback() == wider


def test_a_tree_of_ours_whose_record_was_lost_is_taken_over_with_no_step(tmp_path: Path) -> None:
    office = Office(tmp_path, [])
    before = office.apply(WIDER)
    shutil.rmtree(office.state.folder)
    with pytest.raises(UnavailableError, match="no record of") as caught:
        office.apply(WIDER)
    assert "shaper adopt eth1 POLICY" in caught.value.hint
    assert not office.planned(WIDER).plan.steps
    assert office.adopt(WIDER) == before
    office.clear()
    assert not office.held().nodes()


def test_its_own_classes_after_other_changes_are_found_by_their_rates(tmp_path: Path) -> None:
    """`video` came last, so its number is not where the policy alone would put it."""
    office = Office(tmp_path, [])
    office.apply(POLICY)
    before = office.apply(WIDER)
    shutil.rmtree(office.state.folder)
    assert numbers(office.adopt(WIDER)) == numbers(before)
    assert {cls.handle for cls in office.held().classes} == {cls.handle for cls in before.classes}


def test_a_person_may_say_which_class_is_which(office: Office) -> None:
    planned = office.planned(voice=0x10020)
    assert dict(standing_for(planned))["voice"] == 0x10020
    assert dict(standing_for(planned))["bulk"] == 0x10010
    with pytest.raises(UnavailableError, match="no class 1:99"):
        office.planned(voice=0x10099)
    with pytest.raises(UnavailableError, match="no class video"):
        office.planned(video=0x10020)


def without(nodes: list[Node], *handles: int) -> list[Node]:
    return [node for node in nodes if getattr(node, "handle", 0) not in handles]


FLAT = [
    foreign()[0],
    HtbClass(0x10010, 0x10000, 1_000_000, 2_000_000, 20000, 20000, 1, 60000),
]
SFQ = [
    replace(node, kind="sfq", options=RawOptions(b"1")) if getattr(node, "handle", 0) == 0x300000 else node
    for node in foreign()
]
FILTERED = [*foreign(), OtherFilter(0x10000, 1, 0x80000800, 0x0800, "u32")]


@pytest.mark.parametrize(
    ("nodes", "why", "mend"),
    [
        ([], "only the kernel's default qdisc", "shaper apply"),
        ([Qdisc(0x10000, ROOT, "tbf", RawOptions(b""))], "only an HTB tree", "tc qdisc del dev eth1 root"),
        (FLAT, "hang on the root", "tc qdisc del dev eth1 root"),
        (SFQ, "the sfq queue under class 1:30", "tc qdisc replace dev eth1 parent 1:30 bfifo"),
        (FILTERED, "a u32 filter of preference 1", "tc filter del dev eth1 parent 1: pref 1;"),
    ],
    ids=["nothing", "no htb", "no link class", "unknown queue", "filter before ours"],
)
def test_what_cannot_be_taken_over_is_refused_with_its_reason(
    tmp_path: Path, nodes: list[Node], why: str, mend: str
) -> None:
    office = Office(tmp_path, nodes)
    before = office.held()
    with pytest.raises(UnavailableError, match=why) as caught:
        office.adopt()
    assert mend in caught.value.hint
    assert office.held() == before
    assert office.state.record() is None


def test_filters_that_are_never_asked_stay_and_are_nobody_s(tmp_path: Path) -> None:
    other = OtherFilter(0x10000, 49152, 0x80000800, 0x0800, "u32")
    office = Office(tmp_path, [*foreign(), other])
    office.adopt()
    assert other in office.held().filters
    assert not look(office.kernel, office.state, now=0.0).drift


def test_it_is_ours_only_once(office: Office) -> None:
    office.adopt()
    with pytest.raises(UnavailableError, match="ours already"):
        office.adopt()


def test_what_is_refused_in_the_middle_leaves_it_as_it_was(tmp_path: Path) -> None:
    for at in range(len(Office(tmp_path / "probe").planned().plan.steps)):
        office = Office(tmp_path / f"{at}")
        before = office.held()
        office.kernel.fail_at(at, errno.EINVAL)
        with pytest.raises(StepError):
            office.adopt()
        assert office.held() == before
        assert office.state.record() is None
        assert office.told() == [("adopt", "failed")]


@pytest.mark.slow
def test_killed_anywhere_it_is_theirs_or_ours(tmp_path: Path) -> None:
    count = 0

    def fresh() -> Office:
        nonlocal count
        count += 1
        return Office(tmp_path / f"{count}")

    theirs, ours = fresh().held(), fresh().adopt()
    for _, desk in die_everywhere(lambda on: on[0].adopt(kernel=on[1]), fresh):  # type: ignore[attr-defined]
        desk.tidy()
        assert desk.held() in (theirs, ours)
        assert (desk.state.record() is None) == (desk.held() == theirs)
        assert not desk.state.pending()


def test_a_release_leaves_the_tree_and_takes_the_measurement(tmp_path: Path) -> None:
    office = Office(tmp_path, [])
    held = office.apply(POLICY)
    after = office.release()
    assert after.classes == held.classes
    assert after.root() == held.root()
    assert list(after.filters) == [node for node in held.filters if node.parent >> 16 == 0x5A00]
    assert not after.links
    assert office.state.record() is None
    assert not office.state.known()
    assert office.told() == [("apply", "done"), ("release", "done")]
    assert office.adopt() == held


@pytest.mark.slow
def test_a_release_that_is_killed(tmp_path: Path) -> None:
    count = 0

    def fresh() -> Office:
        nonlocal count
        count += 1
        office = Office(tmp_path / f"{count}", [])
        office.apply(POLICY)
        return office

    ours = fresh().held()
    gone = fresh().release()
    for _, desk in die_everywhere(lambda on: on[0].release(kernel=on[1]), fresh):  # type: ignore[attr-defined]
        desk.tidy()
        assert desk.held() in (ours, gone)
        assert (desk.state.record() is None) == (desk.held() == gone)


def test_a_record_of_an_adopted_tree_survives_its_json(office: Office) -> None:
    office.adopt()
    record = office.state.record()
    assert record is not None
    assert record.adopted is not None
    assert record_from_json(record_to_json(record)) == record


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(50, 160), st.integers(0, 7)), min_size=1, max_size=6),
    st.integers(0, 0xFF),
)
def test_any_tree_of_the_shape_keeps_all_its_numbers_or_loses_only_classes(
    rows: list[tuple[int, int, int]], default: int
) -> None:
    kernel = FakeKernel("eth1")
    nodes: list[Node] = foreign(default=default)[:2]
    for number, (rate, ceil, prio) in enumerate(rows, 2):
        cls = HtbClass(0x10000 | number, 0x10001, rate * 80_000, ceil * 80_000, 20000, 20000, prio, 3000)
        nodes += [cls, Qdisc(number << 20, cls.handle, "bfifo", FifoOptions(30_000))]
    kernel.put("eth1", *nodes)
    before = kernel.read("eth1")
    policy = parse_policy(POLICY, source="office.yaml")

    class Nothing:
        device, title = "eth1", "eth1"

        def record(self) -> None: ...
        def beside(self) -> None: ...
        def let_go(self) -> None: ...
        def others(self) -> tuple[()]:
            return ()

    planned = adoption(kernel, Nothing(), policy, policy.interfaces[0], named={})  # type: ignore[arg-type]
    kernel.send("eth1", planned.plan.steps)
    after = kernel.read("eth1")
    assert apply.ours(after, planned.after) == planned.target
    assert after.root() == before.root()
    assert {cls.parent for cls in after.classes} == {0x10000, 0x10001}
    kept = {cls.handle for cls in before.classes} & {cls.handle for cls in after.classes}
    assert len(kept) == min(len(rows), 4) + 1
