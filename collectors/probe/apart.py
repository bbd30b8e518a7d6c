"""A mark on the packets of a probe's socket, by which programs in the kernel know them: they count for no class.

It is all of the packet's priority but the last four bits. The program that stamps (`bpf/measure.bpf.c`) takes it off
again, so that nothing behind it sees a difference.
"""

from __future__ import annotations

import socket

PROBE = 0x50726F60
_OWN = 0xF


def set_apart(made: socket.socket) -> None:
    """Whatever the socket sends from now on; its DSCP, from which it has its priority, comes before.

    Raises OSError without CAP_NET_ADMIN.
    """
    priority = made.getsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, PROBE | priority & _OWN)
