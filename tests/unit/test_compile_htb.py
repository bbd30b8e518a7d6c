"""The HTB tree: rates, tiers, bounds, handles for life, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from compile_samples import (
    ETHERNET,
    FLOWER_KERNEL,
    FULL_KERNEL,
    MBIT,
    PLACE,
    SMALL_KERNEL,
    VETH,
    a_class,
    an_interface,
    any_interface,
    branch_office,
    random_class,
)
from hypothesis import given
from hypothesis import strategies as st

from shaper.compile import compile_interface
from shaper.compile.handles import assign
from shaper.compile.program import Program
from shaper.errors import UnavailableError, Where
from shaper.model.match import Match, PortRange
from shaper.model.policy import Classifier, Tier
from shaper.plan import diff
from shaper.plan.live import leaf_sum
from shaper.tree import (
    BpfFilter,
    FifoOptions,
    FlowerFilter,
    FqCodelOptions,
    HtbClass,
    HtbOptions,
    Ifb,
    handle,
    ticks,
    ticks_to_bytes,
)

randoms = st.integers(0, 2**32).map(Random)
LINKS = (ETHERNET, VETH, replace(ETHERNET, mtu=9000, super_packet=9014), replace(ETHERNET, header=0, super_packet=1500))


def by_path(program: Program) -> dict[str, HtbClass]:
    classes = {cls.handle: cls for cls in program.tree.classes}
    return {path: classes[number] for path, number in program.handles.items()}


@given(randoms, st.sampled_from(LINKS), st.sampled_from([SMALL_KERNEL, FULL_KERNEL]), st.booleans())
def test_rates_stay_between_floor_and_limit_and_under_the_parent(random, link, kernel, structure):
    interface = any_interface(random)
    program = compile_interface(interface, kernel, link, structure=structure)
    classes = by_path(program)
    for cls in interface.walk():
        compiled = classes[cls.path]
        assert 0 < compiled.rate <= compiled.ceil <= max(8000, interface.bandwidth)
        assert compiled.rate % 8 == compiled.ceil % 8 == 0
        assert compiled.rate >= min(cls.floor, cls.guarantee) - 8
        frame = link.mtu + link.header
        for burst, rate in ((compiled.burst, compiled.rate), (compiled.cburst, compiled.ceil)):
            assert ticks_to_bytes(burst, rate) >= max(2 * frame, link.super_packet)
            assert burst >= ticks(rate // 8000, rate) and burst < 2**32
        if structure and cls.children:
            below = sum(classes[child.path].rate for child in cls.children)
            assert compiled.rate == max(below, cls.floor // 8 * 8, 8000)
    minimums = 8000 * len(interface.leaves())
    assert leaf_sum(program.tree) <= interface.bandwidth + minimums
    for path, grant in program.static.items():
        bounds, compiled = program.bounds[path], classes[path]
        assert (grant.rate, grant.ceil) == (compiled.rate, compiled.ceil)
        assert bounds.rate[0] <= grant.rate <= bounds.rate[1]
        assert bounds.ceil[0] <= grant.ceil <= bounds.ceil[1]
        assert max(3 * frame, link.super_packet) <= bounds.queue[0] <= grant.queue <= bounds.queue[1]
        assert frame <= compiled.quantum <= 60_000


@given(randoms)
def test_the_static_allocation_is_what_is_in_the_tree(random: Random) -> None:
    program = compile_interface(any_interface(random), SMALL_KERNEL, ETHERNET)
    assert program.with_allocation(program.static) == program.tree
    assert program.allocation_in(program.tree) == program.static
    assert diff(program.tree, program.tree, bounds=program.field_bounds()).steps == ()


@given(randoms)
def test_a_class_that_is_added_changes_no_other_node(random: Random) -> None:
    interface = any_interface(random)
    before = compile_interface(interface, SMALL_KERNEL, ETHERNET)
    added = replace(random_class(random, "added", 0, interface.bandwidth), share=100.0)
    tops = list(interface.classes)
    # Beside a leaf of its own tier whose weight is the least, so that it is not the least itself.
    tops.insert(random.randint(1, len(tops)), replace(added, tier=Tier.STANDARD))
    after = compile_interface(replace(interface, classes=tuple(tops)), SMALL_KERNEL, ETHERNET, previous=before.handles)
    assert {path: after.handles[path] for path in before.handles} == before.handles
    fresh = after.handles["added"]
    steps = diff(before.tree, after.tree, bounds={}).steps
    touched = {step.node.key[0]: step.node for step in steps}
    assert len(steps) == 3
    assert touched["class"].key == ("class", fresh, 0)
    assert touched["qdisc"].key == ("qdisc", fresh, 0)
    assert isinstance(touched["filter"], BpfFilter) and touched["filter"].parent == handle(0x5A00, 0)


def test_a_child_that_is_added_changes_its_ancestors_too() -> None:
    interface = branch_office()
    before = compile_interface(interface, SMALL_KERNEL, ETHERNET)
    mail = a_class("office/mail", MBIT, 20 * MBIT, share=50.0, matches=(Match(dscp=(10,)),))
    tops = tuple(
        replace(top, children=(*top.children, mail)) if top.path == "office" else top for top in interface.classes
    )
    after = compile_interface(replace(interface, classes=tops), SMALL_KERNEL, ETHERNET, previous=before.handles)
    changed = [step.node for step in diff(before.tree, after.tree, bounds={}).steps]
    rates = {node.handle for node in changed if isinstance(node, HtbClass)}
    assert after.handles["office"] in rates and before.handles["voice"] not in rates


def test_compilation_is_deterministic_whatever_the_order_of_previous_handles() -> None:
    first = compile_interface(branch_office(), SMALL_KERNEL, ETHERNET)
    turned = dict(reversed(list(first.handles.items())))
    assert compile_interface(branch_office(), SMALL_KERNEL, ETHERNET, previous=turned) == first


def test_a_number_is_never_given_to_another_path_while_it_is_known() -> None:
    known = {"gone": handle(0x5A00, 0x10), "kept": handle(0x5A00, 0x12)}
    assert assign(["new", "kept", "newer"], known) == {
        "new": handle(0x5A00, 0x11),
        "kept": handle(0x5A00, 0x12),
        "newer": handle(0x5A00, 0x13),
    }


def test_structured_tiers_are_priorities_and_rates_are_floors() -> None:
    program = compile_interface(branch_office(), SMALL_KERNEL, ETHERNET)
    classes = by_path(program)
    assert {path: classes[path].prio for path in program.static} == {
        "network-control": 0,
        "voice": 0,
        "video": 1,
        "office/web": 2,
        "office/rest": 2,
        "backup": 2,
    }
    assert classes["backup"].rate == MBIT // 2 and classes["backup"].ceil == 10 * MBIT
    assert program.bounds["backup"].rate == (MBIT // 2, 10 * MBIT)
    assert program.bounds["backup"].ceil == (4 * MBIT, 10 * MBIT)
    assert classes["voice"].rate == 2 * MBIT
    assert classes["office"].rate == 16_000, "promised nothing: HTB's least for each child"


def test_static_rates_are_guarantees_at_one_priority_with_the_same_leaves() -> None:
    structured = compile_interface(branch_office(), SMALL_KERNEL, ETHERNET)
    static = compile_interface(branch_office(), SMALL_KERNEL, ETHERNET, structure=False)
    assert {cls.prio for cls in static.tree.classes} == {0}
    assert by_path(static)["backup"].rate == 4 * MBIT
    assert static.tree.qdiscs == structured.tree.qdiscs
    assert static.handles == structured.handles


def test_quanta_follow_the_shares_down_the_tree() -> None:
    classes = by_path(compile_interface(branch_office(), SMALL_KERNEL, ETHERNET))
    web, rest, backup = (classes[path].quantum for path in ("office/web", "office/rest", "backup"))
    assert rest == 1514, "the least weight has one frame"
    assert web / rest == pytest.approx(0.42 / 0.18, rel=0.001)
    assert backup / rest == pytest.approx(0.40 / 0.18, rel=0.001)
    assert classes["voice"].quantum == classes["network-control"].quantum == 1514


def test_the_root_has_the_default_leaf_and_the_classifier_names_it() -> None:
    program = compile_interface(branch_office(), SMALL_KERNEL, ETHERNET)
    root = program.tree.root()
    assert root is not None
    assert root.options == HtbOptions(program.handles["office/rest"] & 0xFFFF)
    (classifier,) = (one for one in program.tree.filters if one.parent == root.handle)
    assert isinstance(classifier, BpfFilter) and classifier.program[-1].k == program.handles["office/rest"]


@pytest.mark.parametrize(
    ("link", "path", "limit", "largest"),
    [
        (ETHERNET, "voice", 3 * 1514, 6250),  # 2 mbit x 10 ms is less than three frames
        (ETHERNET, "video", 18_750, 125_000),  # 3 mbit x 50 ms
        (ETHERNET, "backup", 50_000, 125_000),  # 4 mbit x 100 ms
        (ETHERNET, "office/web", 62_500, 250_000),  # promised nothing: a quarter of its limit x 100 ms
        (VETH, "voice", 196_608, 196_608),
        (VETH, "video", 196_608, 196_608),
    ],
)
def test_a_fifo_is_sized_in_time(link, path: str, limit: int, largest: int) -> None:
    program = compile_interface(branch_office(), SMALL_KERNEL, link)
    leaf = program.tree.leaf_of(program.handles[path])
    assert leaf is not None and leaf.kind == "bfifo" and leaf.options == FifoOptions(limit)
    assert program.static[path].queue == limit
    assert program.bounds[path].queue == (3 * max(1514, link.super_packet), largest)


def test_fq_codel_where_the_kernel_has_it() -> None:
    program = compile_interface(branch_office(), FULL_KERNEL, ETHERNET)
    leaf = program.tree.leaf_of(program.handles["video"])
    assert leaf is not None and isinstance(leaf.options, FqCodelOptions)
    assert (leaf.options.target, leaf.options.interval) == (4992, 99_968)
    assert leaf.options.memory == program.static["video"].queue == 37_500
    for microseconds in (leaf.options.target, leaf.options.interval):
        clock = microseconds * 1000 >> 10  # the kernel's codel_time_t, and back
        assert (clock << 10) // 1000 == microseconds
    assert not any("FIFO" in note for note in program.notes)


def test_notes_say_what_stands_in_and_what_delay_a_super_packet_costs() -> None:
    fifo, large, yields = compile_interface(branch_office(), SMALL_KERNEL, VETH).notes
    assert "lacks fq_codel" in fifo and "video 196.61kb (524.29ms at 3mbit)" in fifo
    assert "one holds the link for 26.21ms at 20mbit" in large and "voice 196.61kb (786.43ms at 2mbit)" in large
    assert "ethtool -K DEV gro off" in large
    assert "backup (500kbit of 4mbit)" in yields


def test_without_the_means_there_is_no_measurement_and_a_note_says_why() -> None:
    blind = replace(SMALL_KERNEL, links=frozenset())
    program = compile_interface(branch_office(), blind, ETHERNET)
    assert program.tap == "" and program.tap_filter == () and not program.tree.links
    assert "delay: no data, because the kernel lacks ifb devices" in program.notes
    quiet = compile_interface(branch_office(), blind, ETHERNET, tap=False)
    assert not any("no data" in note for note in quiet.notes)


def test_the_measurement_is_in_the_tree() -> None:
    program = compile_interface(branch_office(), SMALL_KERNEL, ETHERNET)
    assert program.tree.links == (Ifb("shp-eth1", "sla-shaper eth1"),)
    assert program.tap == "shp-eth1" and program.sampling == 1
    (mirror,) = (one for one in program.tree.filters if isinstance(one, BpfFilter) and one.mirror)
    assert mirror.mirror == program.tap and mirror.classid
    long = compile_interface(an_interface(branch_office().classes[1:], device="enp130s0f0np0"), SMALL_KERNEL, ETHERNET)
    assert len(long.tap) <= 15 and long.tree.links[0].alias == "sla-shaper enp130s0f0np0"


@pytest.mark.parametrize(
    ("lacking", "what"),
    [
        ({"qdiscs": frozenset()}, "sch_htb"),
        ({"filters": frozenset({"fw"})}, "`modprobe cls_bpf` or `modprobe cls_flower` or `modprobe cls_u32`"),
    ],
)
def test_a_kernel_that_cannot_is_refused_with_the_way_out(lacking, what: str) -> None:
    with pytest.raises(UnavailableError) as failure:
        compile_interface(branch_office(), replace(SMALL_KERNEL, **lacking), ETHERNET)
    assert what in failure.value.hint and failure.value.where == PLACE


@pytest.mark.parametrize(
    ("asked", "there", "used"),
    [
        (Classifier.AUTO, {"bpf", "flower"}, BpfFilter),
        (Classifier.AUTO, {"flower"}, FlowerFilter),
        (Classifier.FLOWER, {"bpf", "flower"}, FlowerFilter),
        (Classifier.BPF, {"bpf", "flower"}, BpfFilter),
    ],
)
def test_the_classifier_is_what_is_asked_for_and_there(asked: Classifier, there: set[str], used: type) -> None:
    kernel = replace(SMALL_KERNEL, filters=frozenset(there))
    program = compile_interface(replace(branch_office(), classifier=asked), kernel, ETHERNET)
    assert {type(one) for one in program.tree.filters if one.parent == handle(0x5A00, 0)} == {used}
    said = [note for note in program.notes if "flower filters" in note]
    assert len(said) == (used is FlowerFilter)
    if said:
        assert "While an apply changes them" in said[0] and "To office/rest go" in said[0]
        assert said[0].startswith("the kernel lacks the bpf filter: ") == ("bpf" not in there)


@pytest.mark.parametrize("asked", [Classifier.BPF, Classifier.FLOWER])
def test_a_classifier_that_is_asked_for_and_not_there_is_refused_at_its_line(asked: Classifier) -> None:
    line = Where("branch.yaml", 3, 60)
    kernel = replace(SMALL_KERNEL, filters={"bpf", "flower"} - {asked})
    with pytest.raises(UnavailableError, match=f"lacks the {asked} filter") as refused:
        compile_interface(replace(branch_office(), classifier=asked, classifier_where=line), kernel, ETHERNET)
    assert refused.value.where == line
    assert f"modprobe cls_{asked}" in refused.value.hint and "leave `classifier` out" in refused.value.hint


def test_rules_that_flower_cannot_say_are_refused_at_their_line() -> None:
    line = Where("branch.yaml", 9, 12)
    odd = a_class("odd", 0, MBIT, matches=(Match(protocols=(136,), dport=(PortRange(80, 80),), where=line),))
    interface = an_interface([odd, a_class("rest", 0, MBIT, default=True)])
    with pytest.raises(UnavailableError, match="a rule of odd asks for ports") as refused:
        compile_interface(replace(interface, classifier=Classifier.FLOWER), FLOWER_KERNEL, ETHERNET)
    assert refused.value.where == line and "proto: [tcp, udp, sctp]" in refused.value.hint


def test_a_rate_that_htb_cannot_express_is_refused() -> None:
    slow = an_interface([a_class("crawl", 0, 4000), a_class("rest", 0, MBIT, default=True)])
    with pytest.raises(UnavailableError, match="crawl: a limit of 4kbit"):
        compile_interface(slow, SMALL_KERNEL, ETHERNET)


def test_more_rules_than_a_classifier_holds_are_refused_with_the_mend() -> None:
    spread = tuple(PortRange(3 * number, 3 * number + 1) for number in range(2500))
    greedy = a_class("greedy", 0, MBIT, matches=(Match(protocols=(6,), dport=spread),))
    with pytest.raises(UnavailableError, match="more than one classifier holds") as failure:
        compile_interface(an_interface([greedy, a_class("rest", 0, MBIT, default=True)]), SMALL_KERNEL, ETHERNET)
    assert "ranges" in failure.value.hint
