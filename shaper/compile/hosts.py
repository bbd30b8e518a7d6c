"""A filter on a leaf's queue that gives each host a flow of its own: a classic-BPF program that hashes addresses.

The queue takes the minor of the class that the filter names as the number of the flow, from 1, and drops what names
none, so that every packet gets one: what is not IP, the first. The hash is Fibonacci's (Knuth, 6.4): the hosts of one
network, whose addresses follow each other, are spread evenly over the flows.
"""

from __future__ import annotations

from shaper.compile.bpf import NET, PROTOCOL, Assembler, Label
from shaper.compile.filters import FILTER_HANDLE, PREFERENCE
from shaper.model.match import ETHERTYPE_IPV4, ETHERTYPE_IPV6
from shaper.tree import BpfFilter, FlowMode, Handle

_GOLDEN = 0x9E3779B1
"""2**32 divided by the golden ratio, and odd."""
_SUM = 0
_ADDRESSES = {
    FlowMode.SRCHOST: ((12,), (8, 12, 16, 20)),
    FlowMode.DSTHOST: ((16,), (24, 28, 32, 36)),
    FlowMode.HOSTS: ((12, 16), (8, 12, 16, 20, 24, 28, 32, 36)),
}
"""Where the words of the addresses are in a header, IPv4 and IPv6."""


def host_filter(leaf: Handle, fairness: FlowMode, flows: int) -> BpfFilter:
    """On the queue `leaf`, for its first `flows` flows; a power of two less is used where it is none."""
    bits = max(0, flows.bit_length() - 1)
    code, other, ipv6, done = Assembler(), Label(), Label(), Label()
    code.load(PROTOCOL, 2)
    code.jump("eq", ETHERTYPE_IPV6, yes=ipv6)
    code.jump("eq", ETHERTYPE_IPV4, no=other)
    four, six = _ADDRESSES[fairness]
    _hash(code, four)
    code.goto(done)
    code.place(ipv6)
    _hash(code, six)
    code.place(done)
    if bits:
        code.alu("rsh", 32 - bits)
    else:
        code.set(0)
    code.alu("add", 1)
    code.ret_a()
    code.place(other)
    code.ret(1)
    return BpfFilter(leaf, PREFERENCE, FILTER_HANDLE, code.assemble())


def _hash(code: Assembler, offsets: tuple[int, ...]) -> None:
    """A = the hash of the words: each is added to the sum, folded upon itself, and the new sum multiplied."""
    for place, offset in enumerate(offsets):
        if place:
            code.to_x()
            code.alu("rsh", 16)
            code.alu_x("xor")
            code.store(_SUM)
        code.load(NET + offset)
        if place:
            code.recall_x(_SUM)
            code.alu_x("add")
        code.alu("mul", _GOLDEN)
