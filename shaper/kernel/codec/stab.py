"""TCA_STAB: a root qdisc's size table. The kernel takes the fields and the table, and dumps the fields alone."""

from __future__ import annotations

import struct

from collectors.netlink import TCA_STAB, attribute, attributes
from shaper.tree import SizeTable

_BASE, _DATA = 1, 2
_SPEC = struct.Struct("=BBhiIIII")  # struct tc_sizespec: cell_log, size_log, cell_align, overhead, linklayer, mpu, ...


def encode(table: SizeTable) -> bytes:
    """The whole attribute."""
    data = attribute(_BASE, _SPEC.pack(*table))
    if table.slots:
        data += attribute(_DATA, struct.pack(f"={table.slots}H", *table.sizes()))
    return attribute(TCA_STAB, data)


def decode(data: bytes) -> SizeTable | None:
    """Of a dumped qdisc: the content of the attribute, empty where it has none."""
    base = attributes(data).get(_BASE, b"")
    return SizeTable(*_SPEC.unpack_from(base)) if len(base) >= _SPEC.size else None
