"""What a policy says of address translation, and of what is kept with a connection."""

from __future__ import annotations

import enum
from typing import NamedTuple


class Nat(enum.StrEnum):
    """Whether sources are translated where an interface sends: as the machine's rules say, surely, or not."""

    AUTO = "auto"
    YES = "yes"
    NO = "no"


class Connection(NamedTuple):
    """The bits of marks that are the shaper's, in one run, and whether a connection's DSCP is kept in them.

    The DSCP is kept in the highest six, and that it was in the next; numbers for networks and ports from the lowest up.
    """

    mark: int = 0xFFFF0000
    dscp: bool = False

    @property
    def lowest(self) -> int:
        """The number of the lowest bit."""
        return (self.mark & -self.mark).bit_length() - 1

    @property
    def room(self) -> int:
        """How many bits are left for numbers."""
        return self.mark.bit_count() - (_DSCP_BITS + 1 if self.dscp else 0)

    @property
    def dscp_bits(self) -> int:
        """The six bits of the DSCP as a mask."""
        return (1 << _DSCP_BITS) - 1 << self.mark.bit_length() - _DSCP_BITS

    @property
    def saved_bit(self) -> int:
        """The bit that says that a DSCP was saved."""
        return 1 << self.mark.bit_length() - _DSCP_BITS - 1


_DSCP_BITS = 6
