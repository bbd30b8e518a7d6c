"""What the kernel makes of u32 filters and their tables at one place: the rules of u32_change and u32_delete."""

from __future__ import annotations

import errno as errors
from collections.abc import Iterable, MutableMapping

from shaper.kernel.encode import Refused
from shaper.plan.steps import Verb
from shaper.tree import U32_ROOT, Filter, Handle, U32Filter, U32Table

Filters = MutableMapping[tuple[str, int, int], Filter]
_TABLE = 0xFFF00000


def check(verb: Verb, node: U32Filter | U32Table, filters: Filters) -> None:
    """Raises Refused. That what is changed or taken away is there has been seen to."""
    there = _tables(filters.values(), node.parent)
    if isinstance(node, U32Table):
        linked = any(isinstance(one, U32Filter) and one.link and one.link.table == node.handle for one in _u32(filters))
        if verb is Verb.DELETE and node.handle and linked:
            raise Refused(errors.EBUSY, "Can not delete in-use filter")
        if verb is Verb.ADD and node.handle and node.handle in there:
            raise Refused(errors.EEXIST, "Filter already exists")
        return
    if verb is not Verb.ADD:
        return
    table = node.handle & _TABLE
    if node.key in filters:  # in the first table it has no name by which the kernel would look for it
        raise Refused(errors.ENOSPC if table == U32_ROOT else errors.EEXIST, "")
    if table != U32_ROOT and table not in there:
        raise Refused(errors.EINVAL, "Specified hash table not found")
    if node.link is not None and node.link.table not in there:
        raise Refused(errors.EINVAL, "Link hash table not found")


def with_head(node: U32Filter | U32Table) -> U32Table:
    """The preference, which comes with the first that is put there."""
    return U32Table(node.parent, node.preference, 0, node.protocol, node.device)


def gone_with(node: U32Filter | U32Table, filters: Filters) -> list[Filter]:
    """What the kernel takes along with one that goes."""
    beside = [one for one in _u32(filters) if one.parent == node.parent]
    left = [one for one in beside if one.key != node.key]
    if isinstance(node, U32Table):
        table = U32_ROOT if not node.handle else node.handle
        within = [one for one in left if isinstance(one, U32Filter) and one.handle & _TABLE == table]
        return [one for one in within if one.preference == node.preference]
    heads = [one for one in left if isinstance(one, U32Table) and not one.handle]
    return list(left) if len(heads) == 1 and not any(isinstance(one, U32Filter) for one in left) else []


def _u32(filters: Filters) -> list[U32Filter | U32Table]:
    return [one for one in filters.values() if isinstance(one, (U32Filter, U32Table))]


def _tables(filters: Iterable[Filter], parent: Handle) -> set[Handle]:
    return {one.handle for one in filters if isinstance(one, U32Table) and one.parent == parent and one.handle}
