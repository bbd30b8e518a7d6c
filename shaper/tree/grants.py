"""What the controller moves in a tree: rate, ceil and queue limit of leaf classes, and the rate of the link."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from shaper.tree.cake import CakeOptions
from shaper.tree.handles import ROOT, Handle
from shaper.tree.hfsc import HfscClass
from shaper.tree.htb import burst_after
from shaper.tree.leaves import FifoOptions, FqCodelOptions
from shaper.tree.nodes import Class, Options, Tree


@dataclass(frozen=True, slots=True)
class FieldBounds:
    """The controller's fields of one leaf class, or of the link: what an apply leaves alone while it lies inside.

    `rate` and `ceil` in bit/s, `queue` in the unit of the leaf's limit; both ends included.
    """

    rate: tuple[int, int]
    ceil: tuple[int, int]
    queue: tuple[int, int]


def with_grants(base: Tree, grants: Mapping[Handle, tuple[int, int, int]]) -> Tree:
    """The tree with other rate, ceil (bit/s) and leaf limit for some leaf classes; bursts follow the rates.

    The link's class is granted as a leaf is, a root that has the rate itself (CAKE) by its own handle.
    """
    classes = tuple(_with_rates(cls, *grants[cls.handle][:2]) if cls.handle in grants else cls for cls in base.classes)
    qdiscs = tuple(
        replace(qdisc, options=_with_limit(qdisc.options, grants[qdisc.parent][2]))
        if qdisc.parent in grants
        else replace(qdisc, options=qdisc.options._replace(rate=grants[qdisc.handle][0]))
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


def _with_limit(options: Options, limit: int) -> Options:
    if isinstance(options, FifoOptions):
        return options._replace(limit=limit)
    if isinstance(options, (FqCodelOptions, CakeOptions)):
        return options._replace(memory=limit)
    return options


def queue_limit(options: Options) -> int | None:
    """The limit that `with_grants` sets: bytes of a bfifo, of fq_codel's or CAKE's memory. None for other kinds."""
    if isinstance(options, FifoOptions):
        return options.limit
    if isinstance(options, (FqCodelOptions, CakeOptions)):
        return options.memory
    return None
