"""The measurement's place in the tree: copies of picked packets before the queue, and the same picking after it.

Both points pick by a hash of what does not change between them: addresses, the IP id, and the first bytes of the
transport header and its payload; never the TTL, the DS byte or a checksum (the stack fills that in after the queue).
A packet too short for the hash, and one whose headers are not in one piece, is picked at neither.
"""

from __future__ import annotations

import enum

from shaper.compile.bpf import NET, PACKET_TYPE, PROTOCOL, Assembler, Label
from shaper.model.match import ETHERTYPE_IPV4, ETHERTYPE_IPV6, Rules
from shaper.model.policy import ifb_name
from shaper.model.words import KEYS
from shaper.tree import CLSACT, CLSACT_EGRESS, CLSACT_HANDLE, BpfFilter, Capabilities, Ifb, Insn, Node, Qdisc, handle

SNAP_LENGTH = 192
"""Bytes of a picked packet that the tap keeps: headers, and the payload that tells packets apart."""
PREFERENCE, FILTER_HANDLE = 30, 1
_CLASSID = handle(0, 1)
"""What a match stands for on the hook; it selects nothing there, but must not be 0."""
_MATCH = 0xFFFFFFFF
_OUTGOING = 4
_LARGEST_RATE = 20_000
"""Packets a second that the capture is asked to take, of full frames at the link's rate."""
_FULL_FRAME = 1500

DETAILS = ("tcp_flags", "length")
"""Fields that a captured packet shows, at a price (`collectors.account.Account`)."""
_SEEN = frozenset(
    (
        *("ethertypes", "protocols", "src", "dst", "net", "sport", "dport", "port", "dscp", "tos", "ecn", "icmp"),
        *DETAILS,
        *("any_of", "all_of", "none_of"),
    )
)
"""The fields of a match that `collectors.sample.FlowKey` has."""

_GOLDEN = 0x9E3779B1
_HASH, _PROTOCOL, _TRANSPORT, _ROOM = range(4)
_TCP, _UDP = 6, 17
_ETHERNET, _NO_OPTIONS = 14, 0x45
"""The bytes of the link layer, which whatever is captured has, and the first byte of such an IPv4 header."""


def missing(capabilities: Capabilities) -> tuple[str, ...]:
    """What the kernel lacks for measuring delay, in tc's names."""
    wanted = (
        ("the clsact qdisc", "clsact" in capabilities.qdiscs),
        ("the bpf filter", "bpf" in capabilities.filters),
        ("the mirred action", "mirred" in capabilities.actions),
        ("ifb devices", "ifb" in capabilities.links),
    )
    return tuple(name for name, there in wanted if not there)


def unseen(rules: Rules) -> tuple[str, ...]:
    """The conditions that a captured packet does not show: then nobody can say to which class its delay belongs."""
    return tuple(
        f"`{KEYS[name]}`" + (f" (line {where.line})" if where else "")
        for name, where in rules.asked().items()
        if name not in _SEEN
    )


def sampling_of(bandwidth: int) -> int:
    """One packet in so many is picked: the least power of two that keeps full frames at bit/s under 20,000/s."""
    sampling = 1
    while bandwidth / (_FULL_FRAME * 8) / sampling > _LARGEST_RATE:
        sampling *= 2
    return sampling


def tap_name(device: str) -> str:
    """Of the ifb with the copies, such as `shp-eth1`."""
    return ifb_name("shp", device)


def nodes(device: str, sampling: int) -> tuple[Node, ...]:
    """The ifb, the hook and the filter that mirrors picked packets to it."""
    name = tap_name(device)
    return (
        Ifb(name, f"sla-shaper {device}"),
        Qdisc(CLSACT_HANDLE, CLSACT, "clsact"),
        BpfFilter(
            CLSACT_EGRESS,
            PREFERENCE,
            FILTER_HANDLE,
            picking(sampling, picked=_MATCH),
            classid=_CLASSID,
            mirror=name,
        ),
    )


def tap_filter(sampling: int) -> tuple[Insn, ...]:
    """The socket filter after the queue: the same picking, of outgoing packets only."""
    return picking(sampling, picked=SNAP_LENGTH, of=Way.OUT)


def arriving_filter(sampling: int) -> tuple[Insn, ...]:
    """The socket filter on the device before the queue of what comes in: of incoming packets only."""
    return picking(sampling, picked=SNAP_LENGTH, of=Way.IN)


def filters(sampling: int, *, incoming: bool) -> tuple[tuple[Insn, ...], tuple[Insn, ...]]:
    """Both for another rate, no denser than that of the tree: what a capture narrows itself to."""
    return tap_filter(sampling), arriving_filter(sampling) if incoming else ()


class Way(enum.Enum):
    """Which packets of a tap are looked at."""

    ANY = enum.auto()
    OUT = enum.auto()
    IN = enum.auto()


def picking(sampling: int, *, picked: int, of: Way = Way.ANY) -> tuple[Insn, ...]:
    """A program that returns `picked` for one IP packet in `sampling` (a power of two), else 0."""
    asm = Assembler()
    take, leave, ipv4, ipv6 = (Label() for _ in range(4))
    if of is not Way.ANY:
        asm.load(PACKET_TYPE, 1)
        asm.jump("eq", _OUTGOING, **{"no" if of is Way.OUT else "yes": leave})
    asm.load(PROTOCOL, 2)
    asm.jump("eq", ETHERTYPE_IPV4, yes=take if sampling == 1 else ipv4)
    asm.jump("eq", ETHERTYPE_IPV6, yes=take if sampling == 1 else ipv6, no=leave)
    if sampling > 1:
        decide, transport, other = (Label() for _ in range(3))
        asm.place(ipv4)
        _common(asm, decide, other)
        asm.place(other)
        _ipv4(asm, decide)
        asm.goto(transport)
        asm.place(ipv6)
        _ipv6(asm)
        asm.place(transport)
        _transport(asm)
        asm.place(decide)
        asm.recall(_HASH)
        asm.alu("rsh", 32 - (sampling.bit_length() - 1))
        asm.jump("eq", 0, no=leave)
    asm.place(take)
    asm.ret(picked)
    asm.place(leave)
    asm.ret(0)
    return asm.assemble()


def _mix(asm: Assembler) -> None:
    """hash = (hash xor A) x the golden ratio: its top bits depend on every bit so far (Fibonacci hashing)."""
    asm.recall_x(_HASH)
    asm.alu_x("xor")
    asm.alu("mul", _GOLDEN)
    asm.store(_HASH)


def _start(asm: Assembler, *offsets: int, network: int = NET) -> None:
    asm.set(0)
    asm.store(_HASH)
    for offset in offsets:
        asm.load(network + offset)
        _mix(asm)


def _common(asm: Assembler, decide: Label, other: Label) -> None:
    """The hash of IPv4 without a tag and without options, as the rest makes it, or on to `other`.

    The kernel turns loads at offsets from the packet's start into a few instructions, those from its network header
    into a call each: this is a third of the cost.
    """
    asm.load(_ETHERNET - 2, 2)
    asm.jump("eq", ETHERTYPE_IPV4, no=other)
    asm.load(_ETHERNET, 1)
    asm.jump("eq", _NO_OPTIONS, no=other)
    asm.load(_ETHERNET + 6, 2)
    asm.jump("set", 0x1FFF, yes=other)
    _start(asm, 12, 16, 4, network=_ETHERNET)
    asm.load(_ETHERNET + 2, 2)
    asm.alu("sub", 20)
    asm.store(_ROOM)
    asm.load(_ETHERNET + 9, 1)
    _transport(asm, at=_ETHERNET + 20)
    asm.goto(decide)


def _ipv4(asm: Assembler, decide: Label) -> None:
    _start(asm, 12, 16, 4)  # source, destination, id with the fragment's offset
    asm.load(NET + 6, 2)
    asm.jump("set", 0x1FFF, yes=decide)
    asm.load(NET + 9, 1)
    asm.store(_PROTOCOL)
    asm.load(NET, 1)
    asm.alu("and", 0x0F)
    asm.alu("lsh", 2)
    asm.store(_TRANSPORT)
    asm.to_x()
    asm.load(NET + 2, 2)
    asm.alu_x("sub")
    asm.store(_ROOM)


def _ipv6(asm: Assembler) -> None:
    _start(asm, 16, 20, 32, 36)  # the lower halves of source and destination
    asm.load(NET + 6, 1)
    asm.store(_PROTOCOL)
    asm.set(40)
    asm.store(_TRANSPORT)
    asm.load(NET + 4, 2)
    asm.store(_ROOM)


def _transport(asm: Assembler, *, at: int | None = None) -> None:
    """Mixes in TCP's sequence numbers; UDP's ports, length and payload; of the rest the second word.

    The protocol is A, and the header begins `at` so many bytes of the packet; else both are in their words.
    """
    tcp, udp, done = Label(), Label(), Label()
    if at is None:
        asm.recall(_PROTOCOL)
    asm.jump("eq", _TCP, yes=tcp)
    asm.jump("eq", _UDP, yes=udp)
    asm.recall(_ROOM)
    asm.jump("ge", 8, no=done)
    _mix_words(asm, 4, at=at)
    asm.goto(done)
    asm.place(tcp)
    _mix_words(asm, 0, 4, 8, at=at)
    asm.goto(done)
    asm.place(udp)
    _mix_words(asm, 0, at=at)
    _load(asm, 4, 2, at=at)
    asm.store(_ROOM)
    _mix(asm)
    for word in (8, 12, 16, 20):
        asm.recall(_ROOM)
        asm.jump("ge", word + 4, no=done)
        _mix_words(asm, word, at=at)
    asm.place(done)


def _load(asm: Assembler, offset: int, width: int, *, at: int | None) -> None:
    if at is not None:
        asm.load(at + offset, width)
        return
    asm.recall_x(_TRANSPORT)
    asm.load(NET + offset, width, indexed=True)


def _mix_words(asm: Assembler, *offsets: int, at: int | None) -> None:
    for offset in offsets:
        _load(asm, offset, 4, at=at)
        _mix(asm)
