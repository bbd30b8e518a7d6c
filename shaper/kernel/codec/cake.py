"""CAKE's options. The kernel takes each in place and keeps what is left out, so all are sent.

NAT is the exception: a kernel without connection tracking refuses the very word, so it is sent only to turn it on.
"""

from __future__ import annotations

import struct

from collectors.netlink import attribute, attributes
from shaper.tree import AckFilter, CakeOptions, Cells, Diffserv, FlowMode

_RATE, _DIFFSERV, _ATM, _FLOWS, _OVERHEAD, _RTT, _TARGET, _AUTORATE, _MEMORY = range(2, 11)
_NAT, _RAW, _WASH, _MPU, _INGRESS, _ACK_FILTER, _SPLIT_GSO, _FWMARK = range(11, 19)
_U32, _S32, _U64 = struct.Struct("=I"), struct.Struct("=i"), struct.Struct("=Q")
_DIFFSERVS, _FLOW_MODES, _CELLS, _ACK_FILTERS = tuple(Diffserv), tuple(FlowMode), tuple(Cells), tuple(AckFilter)


def encode(options: CakeOptions) -> bytes:
    """Raises ValueError for an overhead or a least size beyond 16 bits, which the kernel would cut."""
    if not (-(2**15) <= (options.overhead or 0) < 2**15 and 0 <= options.mpu < 2**16):
        raise ValueError("CAKE's overhead and mpu are 16-bit numbers")
    values = [
        (_DIFFSERV, _DIFFSERVS.index(options.diffserv)),
        (_FLOWS, _FLOW_MODES.index(options.flows)),
        (_ATM, _CELLS.index(options.cells)),
        (_RTT, options.rtt),
        (_TARGET, options.target),
        (_AUTORATE, int(options.autorate)),
        (_MEMORY, options.memory),
        (_WASH, int(options.wash)),
        (_MPU, options.mpu),
        (_INGRESS, int(options.ingress)),
        (_ACK_FILTER, _ACK_FILTERS.index(options.ack_filter)),
        (_SPLIT_GSO, int(options.split_gso)),
        (_FWMARK, options.fwmark),
        *([(_NAT, 1)] if options.nat else []),
        *([(_RAW, 0)] if options.overhead is None else []),
    ]
    data = attribute(_RATE, _U64.pack(options.rate // 8))
    if options.overhead is not None:
        data += attribute(_OVERHEAD, _S32.pack(options.overhead))
    return data + b"".join(attribute(kind, _U32.pack(value)) for kind, value in values)


def decode(data: bytes) -> CakeOptions | None:
    """Of a dumped qdisc; what an old kernel leaves out counts as zero. None for a mode that is not known here."""
    found = attributes(data)

    def number(kind: int) -> int:
        return int(_U32.unpack_from(found[kind])[0]) if kind in found else 0

    try:
        return CakeOptions(
            rate=_U64.unpack_from(found[_RATE])[0] * 8 if _RATE in found else 0,
            diffserv=_DIFFSERVS[number(_DIFFSERV)],
            flows=_FLOW_MODES[number(_FLOWS)],
            rtt=number(_RTT),
            target=number(_TARGET),
            nat=bool(number(_NAT)),
            wash=bool(number(_WASH)),
            ack_filter=_ACK_FILTERS[number(_ACK_FILTER)],
            split_gso=bool(number(_SPLIT_GSO)),
            ingress=bool(number(_INGRESS)),
            autorate=bool(number(_AUTORATE)),
            overhead=_S32.unpack_from(found[_OVERHEAD])[0] if _OVERHEAD in found and _RAW not in found else None,
            mpu=number(_MPU),
            cells=_CELLS[number(_ATM)],
            memory=number(_MEMORY),
            fwmark=number(_FWMARK),
        )
    except IndexError:
        return None
