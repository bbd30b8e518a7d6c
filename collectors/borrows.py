"""By whose rate the packets of a class were sent, its own or its parent's, as HTB counts them."""

from __future__ import annotations

import struct

from collectors.netlink import attributes

WRAP = 1 << 32
"""Both counts begin at zero again after so many."""

_TCA_STATS_APP = 4
_XSTATS = struct.Struct("=II")  # struct tc_htb_xstats: lends, borrows; then giants, tokens, ctokens


def lent_and_borrowed(kind: str, stats2: bytes) -> tuple[int, int] | None:
    """From TCA_STATS2 of a class; None of a kind in which nobody borrows, or without its statistics.

    Of a leaf what HTB calls lends are packets that its own rate sent, borrows those that its parent's did, or that of a
    class above. A super-packet counts as one.
    """
    data = attributes(stats2).get(_TCA_STATS_APP, b"") if kind == "htb" else b""
    if len(data) < _XSTATS.size:
        return None
    lends, borrows = _XSTATS.unpack_from(data)
    return lends, borrows
