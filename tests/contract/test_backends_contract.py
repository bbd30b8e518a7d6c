"""The same steps against the fake and against a full kernel, for the roots beside HTB."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from test_kernel_contract import DEVICE, TOP, add, change, classifier, compare, delete, either, fake, leaf, real

from shaper.kernel.netlink import NetlinkKernel
from shaper.plan.steps import Step, Verb
from shaper.tree import (
    ROOT,
    AckFilter,
    CakeOptions,
    Cells,
    Curve,
    Diffserv,
    EtsOptions,
    FlowMode,
    HfscClass,
    HfscOptions,
    Node,
    PrioOptions,
    Qdisc,
    straight,
)

__all__ = ["real"]

M = 1_000_000
RT, LS, UL = Curve(10 * M, 10_000, M), straight(2 * M), straight(4 * M)


def hfsc(default: int = 0x30) -> Qdisc:
    return Qdisc(TOP, ROOT, "hfsc", HfscOptions(default))


def cls(
    minor: int, parent: int = 0, *, rt: Curve | None = RT, ls: Curve | None = LS, ul: Curve | None = UL
) -> HfscClass:
    return HfscClass(TOP | minor, TOP | parent, rt, ls, ul)


LINK = cls(1, rt=None, ls=straight(20 * M), ul=straight(20 * M))
BASE = [add(hfsc()), add(LINK), add(cls(0x10, 1)), add(cls(0x20, 1)), add(leaf(0x10)), add(leaf(0x20))]

SCENARIOS: dict[str, list[Step]] = {
    "a tree up and down": [*BASE, *(step.inverse() for step in reversed(BASE))],
    "everything twice": [step for step in BASE for _ in range(2)],
    "nothing there": [
        *(verb(node) for node in (hfsc(), LINK, leaf(0x10)) for verb in (delete, change)),
        add(LINK),
    ],
    "a change keeps the curves that it leaves out": [
        *BASE,
        change(cls(0x10, 1, rt=Curve(M, 1, 8)), before=cls(0x10, 1)),
        change(cls(0x10, 1, rt=None), before=cls(0x10, 1)),
        change(cls(0x10, 1, ls=None, ul=None), before=cls(0x10, 1)),
        change(cls(0x10, 1, rt=Curve(0, 5, 0), ls=straight(8), ul=straight(7)), before=cls(0x10, 1)),
        change(cls(0x20, 1, rt=None, ls=None, ul=None), before=cls(0x20, 1)),
    ],
    "curves": [
        add(hfsc()),
        add(cls(1, rt=None, ls=None, ul=None)),
        add(cls(1, rt=None, ls=None)),
        add(cls(1, rt=Curve(7, 7, 7), ls=straight(0))),
        add(cls(1, rt=Curve(8, 1, 0), ls=None, ul=None)),
        add(cls(2, rt=Curve((2**32 - 1) * 8, 2**32 - 1, 8), ls=straight((2**32 - 1) * 8))),
        add(cls(3, rt=straight(2**32 * 8))),
        add(cls(4, ls=None)),
    ],
    "a default can be changed": [*BASE, change(hfsc(0x10), before=hfsc()), change(hfsc(0), before=hfsc(0x10))],
    "a parent that is not there": [add(hfsc()), add(cls(0x10, 0x99)), add(leaf(0x98)), delete(leaf(0x98))],
    "classes in use": [*BASE, delete(LINK), delete(cls(0x10, 1)), delete(cls(0x20, 1)), delete(LINK)],
    "a filter holds its class": [
        *BASE,
        add(classifier(classid=TOP | 0x10)),
        delete(cls(0x10, 1)),
        delete(classifier()),
        delete(cls(0x10, 1)),
    ],
    "a leaf becomes inner and a leaf again": [
        add(hfsc()),
        add(cls(1, ls=None)),
        add(leaf(1)),
        add(cls(0x10, 1)),
        add(leaf(1)),
        change(leaf(1)),
        delete(leaf(1)),
        change(cls(1, ul=straight(M)), before=cls(1)),
        delete(cls(0x10, 1)),
        delete(leaf(1)),
        add(leaf(1)),
    ],
    "deep": [add(hfsc()), *(add(cls(depth, depth - 1)) for depth in range(1, 12))],
    "options of another kind": [add(Qdisc(TOP, ROOT, "hfsc", leaf(1).options)), add(hfsc()), add(hfsc(0x31))],
}

SPREAD = (1, 2, 2, 2, 1, 2, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1)
CAKE = CakeOptions(20 * M, Diffserv.DIFFSERV4)


def cake(**changed: object) -> Qdisc:
    return Qdisc(TOP, ROOT, "cake", CAKE._replace(**changed))


def ets(bands: int = 5, strict: int = 2, *quanta: int, priomap: tuple[int, ...] = SPREAD) -> Qdisc:
    return Qdisc(TOP, ROOT, "ets", EtsOptions(bands, strict, quanta or (1514,) * (bands - strict), priomap))


def prio(bands: int = 3, *, priomap: tuple[int, ...] = SPREAD) -> Qdisc:
    return Qdisc(TOP, ROOT, "prio", PrioOptions(bands, priomap))


def banded(root: Qdisc, larger: Qdisc, smaller: Qdisc) -> list[Step]:
    """A root with bands, its queues, and what may be asked of both."""
    return [
        *(step for step in (add(root), add(leaf(1)), add(leaf(2)), add(leaf(3))) for _ in range(2)),
        add(leaf(17)),
        add(leaf(0x99)),
        change(leaf(1, 40_000), before=leaf(1)),
        change(leaf(1, kind="pfifo"), before=leaf(1)),
        delete(leaf(4)),
        add(classifier()),
        add(classifier(11, classid=TOP | 2)),
        add(cls(0x10)),
        change(larger, before=root),
        add(leaf(4)),
        change(smaller, before=larger),
        change(leaf(3)),
        change(larger, before=smaller),
        delete(leaf(1)),
        delete(leaf(1)),
        delete(root),
        delete(root),
    ]


OTHERS: dict[str, list[Step]] = {
    "cake": [
        *(step for step in (add(cake()), delete(cake()), change(cake())) for _ in range(2)),
        add(cake(rate=0, overhead=-4, mpu=64, cells=Cells.ATM, memory=3 << 20, fwmark=0xFF0, split_gso=False)),
        change(cake(diffserv=Diffserv.DIFFSERV8, flows=FlowMode.DUAL_SRCHOST, ack_filter=AckFilter.AGGRESSIVE)),
        change(cake(rtt=0, target=0, wash=True, ingress=True, autorate=True, overhead=18)),
        change(cake(overhead=2**15)),
        change(cake(mpu=2**16)),
        add(leaf(1)),
        add(cls(1)),
        add(classifier()),
        delete(classifier()),
        delete(cake()),
    ],
    "prio": banded(prio(), prio(16), prio(2, priomap=(1,) * 16)),
    "ets": banded(ets(), ets(16, 3), ets(2, 1, 3000, priomap=(1,) * 16)),
    "prio's numbers": [add(prio(1)), add(prio(17)), add(prio(2)), add(prio(2, priomap=(0,) * 16))],
    "ets's numbers": [
        add(ets(0, 0)),
        add(ets(17, 1)),
        add(ets(5, 2, 1514, 0, 1514)),
        add(ets(5, 2, 1514, 9000)),
        add(ets(5, 2, 255, 1, 256)),
        change(ets(5, 2, priomap=(5,) * 16)),
        change(ets(5, 5)),
        change(ets(1, 0, priomap=(0,) * 16)),
    ],
    "options of another": [add(Qdisc(TOP, ROOT, "ets", prio().options)), add(Qdisc(TOP, ROOT, "cake", hfsc().options))],
}


def wander(seed: int, count: int) -> list[Step]:
    """A sequence of steps, legal and illegal, over few enough places that they often meet."""
    rng = random.Random(seed)

    def curve() -> Curve | None:
        return rng.choice((None, straight(rng.randrange(4 * M)), Curve(*(rng.randrange(4 * M) for _ in range(3)))))

    def node() -> Node:
        minor, parent = rng.choice((1, 2, 0x10, 0x20)), rng.choice((0, 0, 1, 2))
        kinds: list[Callable[[], Node]] = [
            lambda: hfsc(rng.choice((0x10, 0x20))),
            lambda: _whole_bytes(cls(minor, parent, rt=curve(), ls=curve(), ul=curve())),
            lambda: either(rng, minor),
            lambda: classifier(rng.choice((10, 11)), rng.choice((1, 2)), classid=rng.choice((0, TOP | minor))),
        ]
        return rng.choices(kinds, weights=(1, 8, 6, 4))[0]()

    steps = [add(hfsc())]
    while len(steps) < count:
        one = rng.choices((add, change, delete), weights=(6, 3, 2))[0](node())
        if not (one.verb is Verb.DELETE and one.node.key == hfsc().key and rng.random() < 0.7):
            steps.append(one)
    return steps


def _whole_bytes(node: HfscClass) -> HfscClass:
    def even(curve: Curve | None) -> Curve | None:
        return curve and Curve(curve.m1 // 8 * 8, curve.d, curve.m2 // 8 * 8)

    return HfscClass(node.handle, node.parent, even(node.rt), even(node.ls), even(node.ul))


@pytest.mark.full
@pytest.mark.parametrize("name", SCENARIOS)
def test_the_fake_answers_as_the_kernel_does(name: str, real: Callable[[], NetlinkKernel]) -> None:
    compare(SCENARIOS[name], fake(), real())


@pytest.mark.full
@pytest.mark.parametrize("name", OTHERS)
def test_the_fake_answers_as_the_kernel_does_without_classes(name: str, real: Callable[[], NetlinkKernel]) -> None:
    compare(OTHERS[name], fake(), real())


@pytest.mark.full
@pytest.mark.parametrize("seed", range(12))
def test_the_fake_goes_where_the_kernel_goes(seed: int, real: Callable[[], NetlinkKernel]) -> None:
    compare(wander(seed, 250), fake(), real())


@pytest.mark.parametrize("seed", range(100, 120))
def test_a_refused_step_changes_nothing(seed: int) -> None:
    model = fake()
    for step in wander(seed, 100):
        before = model.read(DEVICE)
        try:
            model.send(DEVICE, [step])
        except Exception:
            assert model.read(DEVICE) == before
