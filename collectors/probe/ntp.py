"""Timestamps and their error as OWAMP, TWAMP and STAMP write them (RFC 5905, RFC 4656 section 4.1.2, RFC 8186)."""

from __future__ import annotations

import math
from dataclasses import dataclass

_UNIX_EPOCH = 2_208_988_800
"""Unix time 0 in seconds of NTP's first era, which began with 1900."""

_ERA = 1 << 32
_PTP_AHEAD = 37
"""Seconds that TAI, the time of PTP, is ahead of UTC since 2017."""

_SYNCHRONISED, _PTP = 0x8000, 0x4000
_SCALES = 64


def to_ntp(wall: int) -> int:
    """Unix time in nanoseconds as the 64 bits of an NTP timestamp."""
    seconds, nanoseconds = divmod(wall, 10**9)
    return (seconds + _UNIX_EPOCH) % _ERA << 32 | ((nanoseconds << 32) + 5 * 10**8) // 10**9


def from_ntp(stamp: int) -> int:
    """Unix time in ns; what lies before 1968 is of the era that begins in 2036 (RFC 4330, section 3)."""
    seconds, fraction = stamp >> 32, stamp & 0xFFFFFFFF
    seconds += -_UNIX_EPOCH + (0 if seconds & 0x80000000 else _ERA)
    return seconds * 10**9 + (fraction * 10**9 + (1 << 31) >> 32)


def from_ptp(stamp: int) -> int:
    """Unix time in ns of a truncated PTPv2 timestamp (RFC 8186), which counts TAI in seconds and nanoseconds."""
    return ((stamp >> 32) - _PTP_AHEAD) * 10**9 + (stamp & 0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class ErrorEstimate:
    """How far a clock may be off, in seconds, and whether something outside keeps it (S); `ptp` is the format (Z)."""

    error: float
    synchronised: bool
    ptp: bool = False

    def pack(self) -> int:
        """Sixteen bits; the error is rounded up to what they can hold, and nothing is beyond the most that they can."""
        units = max(1, math.ceil(min(self.error, 1e9) * _ERA))
        scale = max(0, (units - 1).bit_length() - 8)
        multiplier = -(-units >> scale)
        if multiplier > 0xFF:
            scale, multiplier = scale + 1, -(-units >> scale + 1)
        if scale >= _SCALES:
            scale, multiplier = _SCALES - 1, 0xFF
        return (_SYNCHRONISED if self.synchronised else 0) | (_PTP if self.ptp else 0) | scale << 8 | multiplier

    @classmethod
    def unpack(cls, bits: int) -> ErrorEstimate:
        """Raises ValueError for a multiplier of 0, which marks a packet as corrupt (RFC 4656, section 4.1.2)."""
        multiplier = bits & 0xFF
        if not multiplier:
            raise ValueError("the error estimate has a multiplier of 0")
        error = math.ldexp(multiplier, (bits >> 8 & 0x3F) - 32)
        return cls(error, bool(bits & _SYNCHRONISED), bool(bits & _PTP))
