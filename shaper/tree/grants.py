"""What the controller moves in a tree: rate, ceil, queue limit and AQM target of leaf classes, and the link's rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from shaper.tree.cake import CakeOptions
from shaper.tree.handles import ROOT, Handle
from shaper.tree.hfsc import HfscClass
from shaper.tree.htb import burst_after
from shaper.tree.leaves import FifoOptions, FqCodelOptions
from shaper.tree.nodes import Class, Options, Tree
from shaper.tree.queues import CodelOptions, FqPieOptions, PieOptions

_Targeted = FqCodelOptions | CodelOptions | PieOptions | FqPieOptions | CakeOptions


class Granted(NamedTuple):
    """The controller's fields of one class: `rate` and `ceil` in bit/s, `queue` in the unit of the leaf's limit.

    `target` is that of the leaf's AQM in microseconds; 0 leaves it as it is. Of a CAKE at the root they are the rate
    of the link and the target of all its tins.
    """

    rate: int
    ceil: int
    queue: int
    target: int = 0


@dataclass(frozen=True, slots=True)
class FieldBounds:
    """The controller's fields of one leaf class, or of the link: what an apply leaves alone while it lies inside.

    `rate` and `ceil` in bit/s, `queue` in the unit of the leaf's limit, `target` in microseconds; both ends included.
    """

    rate: tuple[int, int]
    ceil: tuple[int, int]
    queue: tuple[int, int]
    target: tuple[int, int] = (0, 0)


def with_grants(base: Tree, grants: Mapping[Handle, Granted]) -> Tree:
    """The tree with other rate, ceil (bit/s), leaf limit and target for some leaf classes; bursts follow the rates.

    The link's class is granted as a leaf is, a root that is the link and the queue of all (CAKE) by its own handle.
    """
    classes = tuple(
        _with_rates(cls, grants[cls.handle].rate, grants[cls.handle].ceil) if cls.handle in grants else cls
        for cls in base.classes
    )
    qdiscs = tuple(
        replace(qdisc, options=_granted(qdisc.options, grants[qdisc.parent]))
        if qdisc.parent in grants
        else replace(qdisc, options=_root(qdisc.options, grants[qdisc.handle]))
        if qdisc.handle in grants and qdisc.parent == ROOT and isinstance(qdisc.options, CakeOptions)
        else qdisc
        for qdisc in base.qdiscs
    )
    return replace(base, classes=classes, qdiscs=qdiscs)


def link_of(held: Tree) -> tuple[Handle, int] | None:
    """The handle of what holds the rate of the whole link, and that rate in bit/s; None where nothing does, or several
    do: a root with a rate of its own, or the one class right under the root."""
    root = held.root()
    if root is None:
        return None
    if isinstance(root.options, CakeOptions):
        return root.handle, root.options.rate
    tops = [cls for cls in held.classes if cls.parent == root.handle]
    return (tops[0].handle, tops[0].rate) if len(tops) == 1 else None


def _with_rates(cls: Class, rate: int, ceil: int) -> Class:
    if isinstance(cls, HfscClass):
        return cls.granted(rate, ceil)
    return replace(
        cls,
        rate=rate,
        ceil=ceil,
        burst=burst_after(cls.burst, cls.rate, rate),
        cburst=burst_after(cls.cburst, cls.ceil, ceil),
    )


def _root(options: CakeOptions, granted: Granted) -> CakeOptions:
    return options._replace(rate=granted.rate).aimed(granted.target or options.target)


def _granted(options: Options, granted: Granted) -> Options:
    if granted.target and isinstance(options, _Targeted):
        options = options._replace(target=granted.target)
    if isinstance(options, FifoOptions):
        return options._replace(limit=granted.queue)
    if isinstance(options, (FqCodelOptions, CakeOptions)):
        return options._replace(memory=granted.queue)
    return options


def queue_limit(options: Options) -> int | None:
    """The limit that `with_grants` sets: bytes of a bfifo, of fq_codel's or CAKE's memory. None for other kinds."""
    if isinstance(options, FifoOptions):
        return options.limit
    if isinstance(options, (FqCodelOptions, CakeOptions)):
        return options.memory
    return None


def aqm_target(options: Options) -> int:
    """The target that `with_grants` sets, in microseconds; 0 for kinds that have none."""
    return options.target if isinstance(options, _Targeted) else 0
