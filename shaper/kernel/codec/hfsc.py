"""HFSC's qdisc, a bare default minor, and its classes: up to three service curves.

Curves cross the wire in bytes a second and microseconds. The kernel keeps them as slopes in its own clock and gives
back exactly what it was given; a curve of zero slopes counts as none. What a change leaves out stays.
"""

from __future__ import annotations

import struct

from collectors.netlink import attribute, attributes
from shaper.tree import LARGEST_CURVE, Curve, Handle, HfscClass, HfscOptions

_RT, _LS, _UL = 1, 2, 3  # TCA_HFSC_RSC, TCA_HFSC_FSC, TCA_HFSC_USC
_CURVE = struct.Struct("=III")  # struct tc_service_curve: m1, d, m2
_QOPT = struct.Struct("=H")  # struct tc_hfsc_qopt: defcls


def encode_qdisc(options: HfscOptions) -> bytes:
    """The options of the qdisc itself."""
    return _QOPT.pack(options.default)


def decode_qdisc(data: bytes) -> HfscOptions:
    """Of a dumped qdisc."""
    return HfscOptions(*_QOPT.unpack_from(data))


def encode_class(cls: HfscClass) -> bytes:
    """Every curve that the class has. Raises ValueError for a slope beyond 32 bits."""
    data = b""
    for kind, curve in ((_RT, cls.rt), (_LS, cls.ls), (_UL, cls.ul)):
        if curve is None:
            continue
        if max(curve.m1, curve.m2) > LARGEST_CURVE:
            raise ValueError(f"HFSC's curves end at {LARGEST_CURVE} bit/s")
        data += attribute(kind, _CURVE.pack(curve.m1 // 8, curve.d, curve.m2 // 8))
    return data


def decode_class(handle: Handle, parent: Handle, data: bytes) -> HfscClass:
    """Of a dumped class."""
    found = attributes(data)
    return HfscClass(handle, parent, *(_curve(found.get(kind, b"")) for kind in (_RT, _LS, _UL)))


def _curve(data: bytes) -> Curve | None:
    if len(data) < _CURVE.size:
        return None
    m1, d, m2 = _CURVE.unpack_from(data)
    return Curve(m1 * 8, d, m2 * 8)
