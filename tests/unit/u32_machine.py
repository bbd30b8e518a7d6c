"""What the kernel makes of a frame and of u32 filters.

Written after u32_classify and __tcf_classify of Linux 6.12: a stack of links, offsets that links move, and the end of a
preference where a key is outside the packet or the stack is full.
"""

from __future__ import annotations

from collections.abc import Sequence

from bpf_machine import Skb

from shaper.tree import ETH_P_ALL, U32_ROOT, Handle, U32Filter, U32Link, U32Table

_DEPTH = 8
_TABLE = 0xFFF00000


class _Over(Exception):  # noqa: N818 -- the kernel's goto out
    """Nothing more is asked in this preference."""


def run(nodes: Sequence[U32Filter | U32Table], skb: Skb) -> int | None:
    """The classid of the first filter that holds, by preference; None where none does."""
    filters = [node for node in nodes if isinstance(node, U32Filter)]
    for preference, protocol in sorted({(node.preference, node.protocol) for node in nodes}):
        if protocol in (ETH_P_ALL, skb.protocol):
            held = [one for one in filters if one.preference == preference]
            found = _classify(held, skb)
            if found is not None:
                return found
    return None


def _classify(filters: Sequence[U32Filter], skb: Skb) -> int | None:
    tables: dict[Handle, list[U32Filter]] = {}
    for one in sorted(filters, key=lambda each: each.handle):
        tables.setdefault(one.handle & _TABLE, []).append(one)
    stack: list[tuple[list[U32Filter], int]] = []  # what is still to be asked where a link was followed, and its offset
    waiting, offset = tables.get(U32_ROOT, []), skb.network
    try:
        while True:
            if not waiting:
                if not stack:
                    return None
                waiting, offset = stack.pop()
                continue
            one, *waiting = waiting
            if not all(_word(skb, offset + key.offset, 4) & key.mask == key.value for key in one.keys):
                continue
            if one.link is None:
                return one.classid
            if len(stack) >= _DEPTH:
                return None
            stack.append((waiting, offset))
            offset += _moved(one.link, skb, offset)
            waiting = tables.get(one.link.table, []) if offset < len(skb.data) else []
    except _Over:
        return None


def _moved(link: U32Link, skb: Skb, offset: int) -> int:
    further = (_word(skb, offset + link.at, 2) & link.mask) >> link.shift if link.mask else 0
    return link.skip + 3 + further & ~3


def _word(skb: Skb, at: int, size: int) -> int:
    if at < 0 or at + size > len(skb.data):
        raise _Over
    return int.from_bytes(skb.data[at : at + size], "big")
