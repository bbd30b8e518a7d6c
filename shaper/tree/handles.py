"""Where a node stands: tc's handles, the hooks, and the majors that are ours; and the scheduler's clock."""

from __future__ import annotations

Handle = int
"""A tc handle, major << 16 | minor."""

ROOT: Handle = 0xFFFFFFFF
CLSACT: Handle = 0xFFFFFFF1
"""The parent of a clsact qdisc (TC_H_CLSACT)."""

CLSACT_HANDLE: Handle = 0xFFFF0000
CLSACT_INGRESS: Handle = 0xFFFFFFF2
CLSACT_EGRESS: Handle = 0xFFFFFFF3
"""The parents of filters on the two hooks (TC_H_MAJ(TC_H_CLSACT) | TC_H_MIN_INGRESS, TC_H_MIN_EGRESS)."""

# Majors that are ours. Users and tools number by hand from 1: up, the kernel by itself from 8000: up.
ROOT_MAJORS = range(0x5A00, 0x5B00)
LEAF_MAJORS = range(0x5B00, 0x8000)
TICK_NS = 64
"""The kernel's packet-scheduler clock, PSCHED_TICKS2NS(1)."""


def handle(major: int, minor: int) -> Handle:
    """Raises ValueError outside 16 bits each."""
    if not (0 <= major <= 0xFFFF and 0 <= minor <= 0xFFFF):
        raise ValueError(f"handle {major:x}:{minor:x} is out of range")
    return major << 16 | minor


def qdisc_of(parent: Handle) -> Handle:
    """The handle of the qdisc that a parent is, or is a class or band of; the hooks and the root are themselves."""
    return parent if parent >= CLSACT_HANDLE else parent & 0xFFFF0000


def handle_text(value: Handle) -> str:
    """As tc writes it: `5a00:10`, `5a00:`, `root`, `clsact`."""
    names = {ROOT: "root", CLSACT: "clsact", CLSACT_EGRESS: "egress", CLSACT_INGRESS: "ingress"}
    if value in names:
        return names[value]
    return f"{value >> 16:x}:{value & 0xFFFF:x}" if value & 0xFFFF else f"{value >> 16:x}:"


def kind_at(kind: str, device: str) -> str:
    """The first part of a key: what stands on another device than the tree's has places of its own."""
    return f"{kind}@{device}" if device else kind


def ticks(size: int, rate: int) -> int:
    """Bytes at a rate in bit/s as scheduler ticks, rounded up: the form in which the kernel keeps a burst."""
    return max(1, -(-size * 8 * 10**9 // (rate * TICK_NS)))


def ticks_to_bytes(count: int, rate: int) -> int:
    """Scheduler ticks at a rate in bit/s as bytes."""
    return count * TICK_NS * rate // (8 * 10**9)
