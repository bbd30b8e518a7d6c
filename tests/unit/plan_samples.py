"""Trees from a seeded random, and a small model of a kernel that refuses steps which a kernel would refuse."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from random import Random

from shaper.plan.steps import Step, Verb
from shaper.plan.trees import hangs_on, inner_classes, is_changeable
from shaper.tree import (
    CLSACT,
    CLSACT_EGRESS,
    CLSACT_HANDLE,
    ROOT,
    U32_ROOT,
    BpfFilter,
    FifoOptions,
    Filter,
    FlowerFilter,
    FqCodelOptions,
    Handle,
    HtbClass,
    HtbOptions,
    Ifb,
    Insn,
    Node,
    OtherFilter,
    Qdisc,
    RawOptions,
    Tree,
    U32Filter,
    U32Key,
    U32Link,
    U32Table,
    flower_key,
    handle,
    kind_of_filter,
    tree,
)

LINK_RATES = (10_000_000, 20_000_000)


def a_tree(random: Random) -> Tree:
    """A whole shaper's tree, one of its halves, somebody else's root, or nothing."""
    nodes: list[Node] = []
    kind = random.choice(("ours", "ours", "ours", "ours", "bare", "foreign", "none"))
    if kind == "foreign":
        nodes.append(Qdisc(handle(0x8001, 0), ROOT, "fq", RawOptions(random.randbytes(4))))
    if kind in ("ours", "bare"):
        nodes.extend(_htb(random, classes=kind == "ours"))
    if random.random() < 0.5:
        nodes.extend(_hook(random))
    return tree("eth1", nodes)


def _htb(random: Random, *, classes: bool) -> Iterable[Node]:
    root = handle(0x5A00, 0)
    yield Qdisc(root, ROOT, "htb", HtbOptions(random.choice((0x10, 0x10, 0x10, 0x11)), 1000))
    if not classes:
        return
    link = random.choice(LINK_RATES)
    numbers = random.sample(range(0x10, 0x18), k=random.randint(1, 7))
    parents = {}
    inner = [handle(0x5A00, 1)]
    for number in numbers:
        parents[handle(0x5A00, number)] = random.choice(inner)
        if random.random() < 0.2:
            inner.append(handle(0x5A00, number))
    leaves = [number for number in parents if number not in parents.values()]
    share = link // len(leaves) // 8
    yield HtbClass(handle(0x5A00, 1), root, link, link, 9, 9, 0, 1514)
    for number, parent in parents.items():
        if number in leaves:
            rate = random.randint(1, share) * 8
            yield HtbClass(number, parent, rate, random.choice((rate, link)), 5, 6, random.choice((0, 1)), 1514)
            if random.random() < 0.9:
                yield _leaf(random, number)
        else:
            yield HtbClass(number, parent, random.randint(1, link // 8) * 8, link, 5, 6, 0, random.choice((1514, 3028)))
    if random.random() < 0.5:
        yield BpfFilter(root, 10, 1, (Insn(6, 0, 0, random.choice(leaves)),))
    elif random.random() < 0.5:
        yield from _flower(random, root, leaves)
    else:
        yield from _u32(random, root, leaves)


def _flower(random: Random, root: Handle, leaves: Sequence[Handle]) -> Iterable[Node]:
    """Few preferences, protocols and keys, so that two trees often want one place for different things."""
    for preference in random.sample((10, 11, 12), k=random.randint(1, 3)):
        protocol, classid = random.choice((0x0800, 0x86DD)), random.choice(leaves)
        masks = [(8, 0xFC), (16, 0xFC), (0, 0x80), (0, 0x40)]
        for number, (value, mask) in enumerate(random.sample(masks, k=random.randint(1, 3)), 1):
            keys = (flower_key("eth_type", protocol), flower_key("ip_tos", value, mask))
            yield FlowerFilter(root, preference, number, protocol, keys, classid)


def _u32(random: Random, root: Handle, leaves: Sequence[Handle]) -> Iterable[Node]:
    """Up to three tables, each below the next, and filters in them and in the first."""
    protocol, preference = 0x0800, 11
    yield U32Table(root, preference, 0, protocol)
    tables = [number << 20 for number in random.sample(range(1, 4), k=random.randint(0, 3))]
    for table in (*sorted(tables), U32_ROOT):
        if table != U32_ROOT:
            yield U32Table(root, preference, table, protocol)
        for number in random.sample(range(1, 4), k=random.randint(1, 3)):
            place = root, preference, table | number, protocol
            keys = (U32Key(4 * random.randrange(3), 1, random.choice((1, 3))),)
            below = [one for one in tables if one <= table]
            if below and random.random() < 0.4:
                yield U32Filter(*place, keys, link=U32Link(random.choice(below), 8))
            else:
                yield U32Filter(*place, keys, random.choice(leaves))


def _leaf(random: Random, number: int) -> Qdisc:
    own = handle(0x5B00 + (number & 0xFFFF), 0)
    if random.random() < 0.3:
        return Qdisc(own, number, "fq_codel", FqCodelOptions(10240, 4992, 99968, 1514, 1024, 64000, True))
    return Qdisc(own, number, "bfifo", FifoOptions(random.choice((4542, 20000, 64000))))


def _hook(random: Random) -> Iterable[Node]:
    yield Qdisc(CLSACT_HANDLE, CLSACT, "clsact")
    if random.random() < 0.7:
        yield Ifb("shp-eth1", "sla-shaper eth1")
        program = (Insn(6, 0, 0, random.choice((0, 0xFFFFFFFF))),)
        yield BpfFilter(CLSACT_EGRESS, 30, 1, program, classid=1, mirror="shp-eth1")
    if random.random() < 0.2:
        yield OtherFilter(CLSACT_EGRESS, 40, 1, 3, "flower")


def moved(random: Random, held: Tree) -> Tree:
    """The same tree with some of its leaf classes at other rates, as a controller leaves them."""
    inner = inner_classes(held)
    classes = tuple(
        replace(cls, rate=random.choice((cls.rate, max(8, cls.rate // 16 * 8)))) if cls.handle not in inner else cls
        for cls in held.classes
    )
    return replace(held, classes=classes)


class ModelKernel:
    """Carries out steps on a tree, one at a time; AssertionError where a kernel would say no."""

    def __init__(self, held: Tree) -> None:
        self.device = held.device
        self.nodes = {node.key: node for node in held.nodes()}

    @property
    def tree(self) -> Tree:
        return tree(self.device, self.nodes.values())

    def send(self, step: Step) -> None:
        key = step.node.key
        assert self.nodes.get(key) == step.before, "a step must start from what is there"
        if step.verb is Verb.ADD:
            assert step.after is not None
            self._may_stand(step.after)
            self.nodes[key] = step.after
        elif step.verb is Verb.DELETE:
            del self.nodes[key]
            self._must_be_free(step.node)
        else:
            assert step.before is not None and step.after is not None and step.before != step.after
            inner = isinstance(step.before, HtbClass) and step.before.handle in inner_classes(self.tree)
            assert is_changeable(step.before, step.after, inner=inner)
            self.nodes[key] = step.after

    def _may_stand(self, node: Node) -> None:
        handles = {held.handle: held for held in self.nodes.values() if isinstance(held, (Qdisc, HtbClass))}
        below = hangs_on(node)
        assert below in (None, ROOT, CLSACT) or below in handles, f"{node} has nothing to stand on"
        if isinstance(node, HtbClass):
            assert self.tree.leaf_of(node.parent) is None, "a class under a class with a queue takes the queue away"
        if isinstance(node, Qdisc):
            assert node.handle not in handles
            assert node.parent not in inner_classes(self.tree), "an inner class has no queue"
        if isinstance(node, BpfFilter) and node.mirror:
            assert ("ifb:" + node.mirror, 0, 0) in self.nodes
        if isinstance(node, Filter):
            beside = [
                one for one in self.tree.filters if (one.parent, one.preference) == (node.parent, node.preference)
            ]
            kinds = {(kind_of_filter(one), one.protocol) for one in (node, *beside)}
            assert len(kinds) == 1, "a preference has one"
            if isinstance(node, FlowerFilter):
                assert all(one.keys != node.keys for one in beside if isinstance(one, FlowerFilter)), "asked already"
                assert node.classid in handles
            if isinstance(node, U32Filter):
                assert not node.classid or node.classid in handles
                tables = {one.handle for one in beside if isinstance(one, U32Table)}
                wanted = {node.handle & 0xFFF00000, *([node.link.table] if node.link else [])}
                assert wanted - {U32_ROOT} <= tables and 0 in tables, "no such table"

    def _must_be_free(self, node: Node) -> None:
        if isinstance(node, (Qdisc, HtbClass)):
            assert all(hangs_on(held) != node.handle for held in self.nodes.values()), f"{node} is in use"
        if isinstance(node, HtbClass):
            named = {held.classid for held in self.nodes.values() if isinstance(held, (FlowerFilter, U32Filter))}
            assert node.handle not in named, f"{node} is held by a filter"
        if isinstance(node, U32Table):
            links = (held for held in self.nodes.values() if isinstance(held, U32Filter))
            beside = [held for held in links if held.preference == node.preference]
            linked = {held.link.table for held in beside if held.link}
            assert node.handle not in linked or not node.handle, "a filter links to it"
            assert node.handle or not beside, "its filters would go with it"
            assert all(held.handle & 0xFFF00000 != node.handle or not node.handle for held in beside)
        if isinstance(node, Ifb):
            assert all(not isinstance(held, BpfFilter) or held.mirror != node.name for held in self.nodes.values())
