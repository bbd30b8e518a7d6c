"""What the kernel holds or should hold for one interface, and what it can: values with one canonical form.

Two trees that mean the same are equal: every number is in the kernel's own unit and rounding (rates in whole
bytes a second, bursts in 64 ns clock ticks), every collection is sorted by its key.
"""

from shaper.tree.bands import MOST_BANDS, PRIORITIES, EtsOptions, PrioOptions, bands_of
from shaper.tree.cake import AckFilter, CakeOptions, Cells, Diffserv, FlowMode
from shaper.tree.facts import Capabilities, LinkFacts
from shaper.tree.filters import (
    ETH_P_ALL,
    FLOWER_FIELDS,
    IS_FRAGMENT,
    BpfFilter,
    Filter,
    FlowerFilter,
    FlowerKey,
    Insn,
    OtherFilter,
    flower_key,
)
from shaper.tree.grants import FieldBounds, queue_limit, with_grants
from shaper.tree.handles import (
    CLSACT,
    CLSACT_EGRESS,
    CLSACT_HANDLE,
    CLSACT_INGRESS,
    LEAF_MAJORS,
    ROOT,
    ROOT_MAJORS,
    TICK_NS,
    Handle,
    handle,
    handle_text,
    qdisc_of,
    ticks,
    ticks_to_bytes,
)
from shaper.tree.hfsc import LARGEST_CURVE, Curve, HfscClass, HfscOptions, straight
from shaper.tree.htb import BURST_NS, HtbClass, HtbOptions, burst_after
from shaper.tree.leaves import FifoOptions, FqCodelOptions, RawOptions
from shaper.tree.nodes import OUR_ROOTS, Class, Ifb, Node, Options, Qdisc, RootOptions, Tree, tree
from shaper.tree.sizetable import ATM, CELL, CELL_PAYLOAD, ETHERNET, SizeTable, size_table

__all__ = [
    "ATM",
    "BURST_NS",
    "CELL",
    "CELL_PAYLOAD",
    "CLSACT",
    "CLSACT_EGRESS",
    "CLSACT_HANDLE",
    "CLSACT_INGRESS",
    "ETHERNET",
    "ETH_P_ALL",
    "FLOWER_FIELDS",
    "IS_FRAGMENT",
    "LARGEST_CURVE",
    "LEAF_MAJORS",
    "MOST_BANDS",
    "OUR_ROOTS",
    "PRIORITIES",
    "ROOT",
    "ROOT_MAJORS",
    "TICK_NS",
    "AckFilter",
    "BpfFilter",
    "CakeOptions",
    "Capabilities",
    "Cells",
    "Class",
    "Curve",
    "Diffserv",
    "EtsOptions",
    "FieldBounds",
    "FifoOptions",
    "Filter",
    "FlowMode",
    "FlowerFilter",
    "FlowerKey",
    "FqCodelOptions",
    "Handle",
    "HfscClass",
    "HfscOptions",
    "HtbClass",
    "HtbOptions",
    "Ifb",
    "Insn",
    "LinkFacts",
    "Node",
    "Options",
    "OtherFilter",
    "PrioOptions",
    "Qdisc",
    "RawOptions",
    "RootOptions",
    "SizeTable",
    "Tree",
    "bands_of",
    "burst_after",
    "flower_key",
    "handle",
    "handle_text",
    "qdisc_of",
    "queue_limit",
    "size_table",
    "straight",
    "ticks",
    "ticks_to_bytes",
    "tree",
    "with_grants",
]
