"""The numbers of a tree that was taken over, as its record keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shaper.tree import Handle


@dataclass(frozen=True, slots=True)
class Adopted:
    """`numbers` maps compiled handles to those in the kernel; `default` and `direct_queue` are the root's options.

    `inner` has priority and quantum of classes that hold others, by their handles in the kernel.
    """

    numbers: Mapping[Handle, Handle]
    default: int
    direct_queue: int
    inner: Mapping[Handle, tuple[int, int]]

    def compiled(self, number: Handle) -> Handle:
        """The compiled handle of one in the kernel."""
        return next((own for own, there in self.numbers.items() if there == number), number)
