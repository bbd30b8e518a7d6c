"""How the nodes of a tree hang together, as far as the order of steps depends on it."""

from __future__ import annotations

from shaper.tree import (
    CLSACT_HANDLE,
    ROOT,
    BpfFilter,
    CakeOptions,
    CodelOptions,
    EtsOptions,
    FifoOptions,
    Filter,
    FlowerFilter,
    FqCodelOptions,
    FqPieOptions,
    Handle,
    HfscClass,
    HfscOptions,
    HtbClass,
    Ifb,
    LoadedFilter,
    MarkTable,
    Node,
    Offload,
    Options,
    PieOptions,
    PrioOptions,
    Qdisc,
    RedOptions,
    Tree,
    U32Filter,
    bands_of,
)

Key = tuple[str, int, int]


def inner_classes(held: Tree) -> frozenset[Handle]:
    """The classes that have classes below them."""
    return frozenset(cls.parent for cls in held.classes)


def hangs_on(node: Node) -> Handle | None:
    """The handle of what must be there for the node to be; None for devices, what they are set to, and tables."""
    if isinstance(node, (Ifb, MarkTable, Offload)):
        return None
    if isinstance(node, Filter) and is_hook(node.parent):
        return CLSACT_HANDLE
    return node.parent


def is_hook(parent: Handle) -> bool:
    """Whether it is the clsact hook's place, beside the queues: for its qdisc and for the filters on it."""
    return parent != ROOT and parent >> 16 == CLSACT_HANDLE >> 16


def is_changeable(before: Node, after: Node, *, inner: bool) -> bool:
    """Whether the kernel can turn one into the other in place. `inner` says that it is a class with classes below.

    The kernel keeps prio and quantum of an inner class whatever a change says; of an HTB root only the size table can
    be changed. Of an HFSC class it keeps every curve that a change leaves out. A flower filter may name another class;
    one that asks for something else is another filter, since no two of a preference may ask for the same, not even
    between two steps. So may a u32 filter, of which the kernel keeps the keys whatever a change says.
    """
    if isinstance(before, Ifb) and isinstance(after, Ifb):
        return (before.name, before.alias) == (after.name, after.alias)
    if isinstance(before, HfscClass) and isinstance(after, HfscClass):
        curves = zip((before.rt, before.ls, before.ul), (after.rt, after.ls, after.ul), strict=True)
        return before.parent == after.parent and not any(had and not has for had, has in curves)
    if isinstance(before, HtbClass) and isinstance(after, HtbClass):
        kept = not inner or (before.prio, before.quantum) == (after.prio, after.quantum)
        return before.parent == after.parent and kept
    if isinstance(before, Qdisc) and isinstance(after, Qdisc):
        same = (before.handle, before.kind) == (after.handle, after.kind)
        if same and before.options == after.options:
            return True  # but for its size table, which any kind takes anew
        return same and _options_change(before.options, after.options)
    if isinstance(before, MarkTable) and isinstance(after, MarkTable):
        return before.name == after.name
    if isinstance(before, (BpfFilter, LoadedFilter)) and isinstance(after, (BpfFilter, LoadedFilter)):
        return before.protocol == after.protocol  # a preference belongs to one protocol
    if isinstance(before, Offload) and isinstance(after, Offload):
        return True
    if isinstance(before, FlowerFilter) and isinstance(after, FlowerFilter):
        return (before.protocol, before.keys) == (after.protocol, after.keys)
    if isinstance(before, U32Filter) and isinstance(after, U32Filter):
        return (before.protocol, before.keys, before.link) == (after.protocol, after.keys, after.link)
    return False


def _options_change(before: Options, after: Options) -> bool:
    """fq_codel's and fq_pie's number of flows is for life, all of SFQ is, and CAKE's NAT goes on but not off; a band
    fewer takes a queue along."""
    match before, after:
        case (FqCodelOptions(flows=flows), FqCodelOptions(flows=kept)) | (
            FqPieOptions(flows=flows),
            FqPieOptions(flows=kept),
        ):
            return flows == kept
        case (CodelOptions(), CodelOptions()) | (PieOptions(), PieOptions()) | (RedOptions(), RedOptions()):
            return True
        case CakeOptions(nat=nat), CakeOptions():
            return after.nat or not nat
        case (EtsOptions(), EtsOptions()) | (PrioOptions(), PrioOptions()):
            return bands_of(before) == bands_of(after)
        case (FifoOptions(), FifoOptions()) | (HfscOptions(), HfscOptions()):
            return True
    return False
