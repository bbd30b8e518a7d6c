"""Classes that take turns: a sorted set with a pointer that goes round (the red-black trees of sch_htb.c)."""

from __future__ import annotations

from bisect import bisect_left, insort

from shaper.tree import Handle


class Feed:
    """Class handles in order. `here` is whose turn it is; `lost` where it stood when that one was taken out."""

    __slots__ = ("handles", "here", "lost")

    def __init__(self) -> None:
        self.handles: list[Handle] = []
        self.here: Handle | None = None
        self.lost: Handle | None = None

    def __bool__(self) -> bool:
        return bool(self.handles)

    def add(self, handle: Handle) -> None:
        insort(self.handles, handle)

    def remove(self, handle: Handle) -> None:
        del self.handles[bisect_left(self.handles, handle)]

    def advance(self) -> None:
        """To the next in order; behind the last one it stands nowhere."""
        if self.here is not None:
            after = bisect_left(self.handles, self.here + 1)
            self.here = self.handles[after] if after < len(self.handles) else None

    def recover(self) -> None:
        """Where the one that it stood on was taken out: to that if it is back, else to the next in order."""
        if self.here is None and self.lost is not None:
            at = bisect_left(self.handles, self.lost)
            self.here = self.handles[at] if at < len(self.handles) else None
        self.lost = None
