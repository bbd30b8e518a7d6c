"""How well the kernel's clock is kept: adjtimex(2), which a daemon such as chrony or ntpd tells what it knows."""

from __future__ import annotations

import ctypes
import errno
import functools
import os

from collectors.probe.ntp import ErrorEstimate

_STA_UNSYNC = 0x0040
_TIME_ERROR = 5
_UNKNOWN = ErrorEstimate(16.0, synchronised=False)
"""What the kernel itself says of a clock that nobody keeps (NTP_PHASE_LIMIT)."""


class _Timex(ctypes.Structure):
    """struct timex of <linux/timex.h>, as far as it is read; the rest is room."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_long * 32),
    )


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def clock_error() -> ErrorEstimate:
    """The most that CLOCK_REALTIME may be off in seconds, and whether it is synchronised at all.

    The bound is the kernel's `maxerror`, not the hopeful `esterror`; unsynchronised it grows up to 16 s and means
    nothing. A program that may not ask, as under systemd's ProtectClock, has to take its clock for such a one. Raises
    OSError.
    """
    timex = _Timex()
    state = _libc().adjtimex(ctypes.byref(timex))
    if state < 0:
        code = ctypes.get_errno()
        if code in (errno.EPERM, errno.EACCES, errno.ENOSYS):
            return _UNKNOWN
        raise OSError(code, os.strerror(code))
    return ErrorEstimate(timex.maxerror * 1e-6, state != _TIME_ERROR and not timex.status & _STA_UNSYNC)
