"""HTB's qdisc and classes.

The 1 KB rate tables are left out: the kernel derives nothing from them when the link layer is said to be Ethernet.
Rates cross the wire in bytes a second; what does not fit in 32 bits (34.36 Gbit/s) goes into its own 64-bit attribute.
"""

from __future__ import annotations

import struct

from collectors.netlink import attribute, attributes
from shaper.tree import ROOT, Handle, HtbClass, HtbOptions

_PARMS, _INIT, _DIRECT_QLEN, _RATE64, _CEIL64 = 1, 2, 5, 6, 7
_GLOB = struct.Struct("=IIIII")  # struct tc_htb_glob: version, rate2quantum, defcls, debug, direct_pkts
# struct tc_htb_opt: twice a struct tc_ratespec (cell_log, linklayer, overhead, cell_align, mpu, rate),
# then buffer, cbuffer, quantum, level, prio.
_OPT = struct.Struct("=BBHhHIBBHhHIIIIII")
_VERSION, _RATE_TO_QUANTUM = 3, 10
_LINKLAYER_ETHERNET = 1
_MAX32 = 0xFFFFFFFF


def encode_qdisc(options: HtbOptions) -> bytes:
    """The options of the qdisc itself."""
    data = attribute(_INIT, _GLOB.pack(_VERSION, _RATE_TO_QUANTUM, options.default, 0, 0))
    if options.direct_queue:
        data += attribute(_DIRECT_QLEN, struct.pack("=I", options.direct_queue))
    return data


def decode_qdisc(data: bytes) -> HtbOptions:
    """Of a dumped qdisc."""
    found = attributes(data)
    default = _GLOB.unpack_from(found[_INIT])[2] if _INIT in found else 0
    direct = struct.unpack_from("=I", found[_DIRECT_QLEN])[0] if _DIRECT_QLEN in found else 0
    return HtbOptions(default, direct)


def encode_class(cls: HtbClass) -> bytes:
    """A class whole, since the kernel resets what a change leaves out."""
    rate, ceil = cls.rate // 8, cls.ceil // 8
    data = attribute(
        _PARMS,
        _OPT.pack(
            *(0, _LINKLAYER_ETHERNET, 0, 0, 0, min(rate, _MAX32)),
            *(0, _LINKLAYER_ETHERNET, 0, 0, 0, min(ceil, _MAX32)),
            *(cls.burst, cls.cburst, cls.quantum, 0, cls.prio),
        ),
    )
    if rate > _MAX32:
        data += attribute(_RATE64, struct.pack("=Q", rate))
    if ceil > _MAX32:
        data += attribute(_CEIL64, struct.pack("=Q", ceil))
    return data


def decode_class(handle: Handle, parent: Handle, data: bytes) -> HtbClass:
    """Of a dumped class. The kernel calls the parent of a top class root; here it is the qdisc's own handle."""
    found = attributes(data)
    values = _OPT.unpack_from(found[_PARMS])
    burst, cburst, quantum, _level, prio = values[12:]
    return HtbClass(
        handle=handle,
        parent=handle & 0xFFFF0000 if parent == ROOT else parent,
        rate=_rate(found, _RATE64, values[5]),
        ceil=_rate(found, _CEIL64, values[11]),
        burst=burst,
        cburst=cburst,
        prio=prio,
        quantum=quantum,
    )


def _rate(found: dict[int, bytes], wide: int, narrow: int) -> int:
    """In bit/s."""
    return int(struct.unpack_from("=Q", found[wide])[0] if wide in found else narrow) * 8
