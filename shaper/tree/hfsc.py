"""HFSC's service curves, options and classes; rates are bit/s in whole bytes a second, times microseconds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

LARGEST_CURVE = (2**32 - 1) * 8
"""bit/s: HFSC's curves are 32-bit bytes a second, and there is no wider attribute."""


class Curve(NamedTuple):
    """HFSC's service curve: `m1` bit/s for `d` microseconds after a class becomes busy, then `m2` bit/s."""

    m1: int
    d: int
    m2: int


def straight(rate: int) -> Curve:
    """One rate from the first moment on, as tc's `rate` writes it."""
    return Curve(0, 0, rate)


class HfscOptions(NamedTuple):
    """`default` is the minor of the class for what no filter matches; with 0 it is dropped."""

    default: int


@dataclass(frozen=True, slots=True)
class HfscClass:
    """`rt` is what a leaf is served in real time, `ls` how siblings share the rest, `ul` what it never passes.

    None stands for a curve that is not there: the kernel has no real-time service for inner classes, and no change
    takes a curve away. `parent` is the root qdisc's handle for a top class.
    """

    handle: int
    parent: int
    rt: Curve | None
    ls: Curve | None
    ul: Curve | None

    @property
    def key(self) -> tuple[str, int, int]:
        return ("class", self.handle, 0)

    @property
    def rate(self) -> int:
        """What it is served in the long run whatever the others want, in bit/s; an inner class, its share."""
        curve = self.rt or self.ls
        return curve.m2 if curve else 0

    @property
    def ceil(self) -> int:
        """In bit/s; without an upper limit its rate."""
        return self.ul.m2 if self.ul else self.rate

    def granted(self, rate: int, ceil: int) -> HfscClass:
        """With another rate and limit. The first slope stays where the new rate is below it: it makes the delay."""
        if (rate, ceil) == (self.rate, self.ceil):
            return self
        rt = self.rt
        if rt is not None:
            rt = Curve(max(rt.m1, rate), rt.d, rate) if rt.m1 > rt.m2 else straight(rate)
        return replace(self, rt=rt, ul=self.ul and straight(ceil))
