"""A packet-level model of the compiled HTB tree with FIFO leaves, by the kernel's own algorithm. Pure: no clock."""

from shaper.simulate.htb import HtbModel, LeafCounters
from shaper.simulate.leaf import Packet, unmodelled

__all__ = ["HtbModel", "LeafCounters", "Packet", "unmodelled"]
