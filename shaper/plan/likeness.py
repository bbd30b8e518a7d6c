"""Which class of a tree that somebody made stands for which class of ours: by place, then by rates, then in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from shaper.plan.trees import inner_classes
from shaper.tree import Handle, HtbClass, Tree


def likeness(
    held: Tree,
    wanted: Tree,
    *,
    tops: tuple[HtbClass, HtbClass],
    named: Mapping[Handle, Handle],
    spare: frozenset[Handle] = frozenset(),
) -> dict[Handle, Handle]:
    """From our classes' handles to those of theirs, below the two `tops`, ours second; `named` was said by a person.

    A class with classes below it stands only for one that has some, too. Our `spare` ones, which nobody wrote, come
    last. What has no counterpart is left out.
    """
    theirs, ours = tops
    pairs = {ours.handle: theirs.handle}
    inner = inner_classes(held) | inner_classes(wanted)
    waiting = [(theirs.handle, ours.handle)]
    while waiting:
        their_parent, our_parent = waiting.pop(0)
        ours_below = _below(wanted, our_parent)
        written = [cls for cls in ours_below if cls.handle not in spare]
        found = _paired(_below(held, their_parent), written, inner, named)
        taken = {there.handle for there, _ in found}
        rest = [cls for cls in _below(held, their_parent) if cls.handle not in taken]
        found += _paired(rest, [cls for cls in ours_below if cls.handle in spare], inner, named)
        for there, own in found:
            pairs[own.handle] = there.handle
            waiting.append((there.handle, own.handle))
    return pairs


def _below(held: Tree, parent: Handle) -> list[HtbClass]:
    return [cls for cls in held.classes if isinstance(cls, HtbClass) and cls.parent == parent]


def _paired(
    theirs: Sequence[HtbClass], ours: Sequence[HtbClass], inner: frozenset[Handle], named: Mapping[Handle, Handle]
) -> list[tuple[HtbClass, HtbClass]]:
    pairs: list[tuple[HtbClass, HtbClass]] = []
    left, free = list(ours), list(theirs)
    alike: tuple[Callable[[HtbClass, HtbClass], bool], ...] = (
        lambda one, own: named.get(own.handle) == one.handle,
        lambda one, own: _rates(one) == _rates(own) and one.prio == own.prio and one.handle == own.handle,
        lambda one, own: _rates(one) == _rates(own) and one.prio == own.prio,
        lambda one, own: _rates(one) == _rates(own),
        lambda one, own: one.ceil == own.ceil or one.rate == own.rate,
        lambda one, own: True,
    )
    said = set(named.values())
    for number, test in enumerate(alike):
        for own in tuple(left):
            if number and own.handle in named:
                continue
            fits = (
                one
                for one in free
                if (one.handle in inner) == (own.handle in inner)
                and (not number or one.handle not in said)
                and test(one, own)
            )
            found = next(fits, None)
            if found is not None:
                pairs.append((found, own))
                left.remove(own)
                free.remove(found)
    return pairs


def _rates(cls: HtbClass) -> tuple[int, int]:
    return cls.rate, cls.ceil
