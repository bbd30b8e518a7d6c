"""red: struct tc_red_qopt, the probability beside it, and a table of how the average falls while nothing waits.

The kernel does not dump the table, so it follows from the size of its cells: 31 halvings over 256 of them. Where RED
adapts, the kernel moves the probability, so that what is read of it says nothing.
"""

from __future__ import annotations

import struct

from collectors.netlink import attribute, attributes
from shaper.tree import RedOptions

_PARMS, _STAB, _MAX_P = 1, 2, 3
_QOPT = struct.Struct("=IIIBBBB")
_U32 = struct.Struct("=I")
_ECN, _HARDDROP, _ADAPTIVE = 1, 2, 4
_CELLS, _HALVINGS = 256, 31
_FIRST_PROBABILITY = 2**32 // 50
"""2 %, from where RED adapts by itself."""


def fault(options: RedOptions) -> str:
    """Why the kernel would refuse these (red_check_params() in include/net/red.h), "" when it would not."""
    if not 0 < options.least <= options.most:
        return "RED's thresholds are in the wrong order"
    if options.most.bit_length() + options.weight >= 32:
        return "RED's thresholds are too large for its average"
    if not (0 < options.weight < 32 and 0 <= options.cell < 32):
        return "RED's weight and cells are logarithms below 32"
    return ""


def encode(options: RedOptions) -> bytes:
    """The whole of it. Raises ValueError for what the kernel refuses without a word."""
    if said := fault(options):
        raise ValueError(said)
    flags = _ECN * options.ecn | _HARDDROP * options.harddrop | _ADAPTIVE * options.adaptive
    plog = 0  # stands for the probability where none is sent beside it
    parms = _QOPT.pack(options.limit, options.least, options.most, options.weight, plog, options.cell, flags)
    table = bytes(cell * _HALVINGS // (_CELLS - 1) for cell in range(_CELLS))
    probability = _FIRST_PROBABILITY if options.adaptive else options.probability
    return attribute(_PARMS, parms) + attribute(_STAB, table) + attribute(_MAX_P, _U32.pack(probability))


def decode(data: bytes) -> RedOptions:
    """Of a dumped qdisc."""
    found = attributes(data)
    limit, least, most, weight, _plog, cell, flags = _QOPT.unpack_from(found[_PARMS])
    adaptive = bool(flags & _ADAPTIVE)
    probability = _U32.unpack_from(found[_MAX_P])[0] if _MAX_P in found and not adaptive else 0
    return RedOptions(
        limit=limit,
        least=least,
        most=most,
        weight=weight,
        cell=cell,
        probability=probability,
        ecn=bool(flags & _ECN),
        adaptive=adaptive,
        harddrop=bool(flags & _HARDDROP),
    )
