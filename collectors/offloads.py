"""Features of network devices, such as GRO: read and set through ethtool's ioctl, by the kernel's own names."""

from __future__ import annotations

import array
import errno as errors
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from collectors.link import HasFileno, ethtool

_GSTRINGS, _GSSET_INFO, _GFEATURES, _SFEATURES = 0x1B, 0x37, 0x3A, 0x3B
_FEATURES_SET = 4
_NAME_SIZE = 32
_BITS = 32
_NOWHERE = "lo"  # the names are the same for every device, and this one is in every namespace


class Feature(NamedTuple):
    """Whether a device does it now, and whether it can be told to do the other."""

    on: bool
    changeable: bool


def feature_names(sock: HasFileno) -> Mapping[str, int]:
    """Every feature that this kernel knows, such as `rx-gro`, with its number. Raises OSError."""
    info = array.array("I", [_GSSET_INFO, 0, 1 << _FEATURES_SET, 0, 0])
    ethtool(sock, _NOWHERE, info)
    count = info[4]
    words = array.array("I", [_GSTRINGS, _FEATURES_SET, count] + [0] * (count * _NAME_SIZE // 4))
    ethtool(sock, _NOWHERE, words)
    raw = words.tobytes()[12:]
    names = (raw[start : start + _NAME_SIZE] for start in range(0, count * _NAME_SIZE, _NAME_SIZE))
    return {name.split(b"\0", 1)[0].decode(): number for number, name in enumerate(names)}


def read_features(sock: HasFileno, device: str, numbers: Sequence[int], known: int) -> list[Feature] | None:
    """These features of a device, of `known` that there are; None where it is gone or has none. Raises OSError."""
    blocks = -(-known // _BITS)
    words = array.array("I", [_GFEATURES, blocks] + [0] * (4 * blocks))
    try:
        ethtool(sock, device, words)
    except OSError as error:
        if error.errno in (errors.ENODEV, errors.EOPNOTSUPP):
            return None
        raise
    found = []
    for number in numbers:
        available, _requested, active, never = words[2 + number // _BITS * 4 :][:4]
        bit = 1 << number % _BITS
        found.append(Feature(bool(active & bit), bool(available & ~never & bit)))
    return found


def set_feature(sock: HasFileno, device: str, number: int, known: int, *, on: bool) -> None:
    """Asks for one feature of a device to be on or off; what came of it, `read_features` says. Raises OSError."""
    blocks = -(-known // _BITS)
    words = array.array("I", [_SFEATURES, blocks] + [0] * (2 * blocks))
    place, bit = 2 + number // _BITS * 2, 1 << number % _BITS
    words[place] = bit
    words[place + 1] = bit if on else 0
    ethtool(sock, device, words)
