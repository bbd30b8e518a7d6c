"""Packets of random sizes at random times through a policed class, in virtual time, and what two models say of them.

No time passes there while the kernel works on a packet, but each reading of the clock takes the same 256 ns. So the
time that the sender reads just before it sends is the time that the policers read, to the nanosecond; unless the second
reading, after it, shows that a timer came in between: then both times are kept, and both must give one colour.
"""

from __future__ import annotations

import socket
import struct
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from backend_bench import Bench
from rfc2698 import Bucket, ExactBucket, KernelBucket, TwoRates

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from conftest import Lab

PORT = 5040
COLOURS = {10: "green", 12: "yellow", 14: "red"}
"""By the DSCP that the policy writes: AF11, AF12, AF13."""
OVERHEAD = 14 + 20 + 8
SMALLEST, LARGEST = 64, 1514
LOAD = 1.5
"""Of the peak rate: so that all three colours come."""
_SO_RCVBUFFORCE = 33


@dataclass(frozen=True, slots=True)
class Profile:
    """Rates in bit/s, bursts in bytes."""

    cir: int
    cbs: int
    pir: int
    pbs: int

    def __str__(self) -> str:
        return f"CIR {self.cir / 1e6:g} Mbit/s, CBS {self.cbs} B, PIR {self.pir / 1e6:g} Mbit/s, PBS {self.pbs} B"

    @property
    def exact(self) -> bool:
        """Whether a byte takes whole nanoseconds at both rates, and a burst whole ticks of 64: nothing is rounded."""
        pairs = ((self.cir // 8, self.cbs), (self.pir // 8, self.pbs))
        return all(not 10**9 % rate and not size * (10**9 // rate) % 64 for rate, size in pairs)

    def marker(self, bucket: Callable[[int, int], Bucket]) -> TwoRates:
        """The model, of buckets of one kind."""
        return TwoRates(bucket(self.cir // 8, self.cbs), bucket(self.pir // 8, self.pbs))


EXACT = Profile(8_000_000, 10_000, 16_000_000, 20_000)
ODD = Profile(1_234_568, 4_567, 3_300_000, 9_999)


@dataclass(frozen=True, slots=True)
class Policed:
    """One packet: when (ns) at the earliest and at the latest, how many bytes of layer 2, and the colour that came."""

    at: int
    until: int
    size: int
    colour: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many packets of each colour, and of how many each model says another.

    `unsure` are those whose colour hangs on which of their two times is right.
    """

    colours: Counter[str]
    rfc: int
    kernel: int
    unsure: int

    def __str__(self) -> str:
        seen = ", ".join(f"{self.colours[colour]} {colour}" for colour in COLOURS.values())
        differ = f"differ from RFC 2698: {self.rfc}, from the kernel's rounding of it: {self.kernel}"
        return f"{seen}; {differ}" + (f"; unsure: {self.unsure}" if self.unsure else "")


def judged(packets: Sequence[Policed], profile: Profile) -> Verdict:
    """Every packet's colour against both models."""

    def said(bucket: Callable[[int, int], Bucket]) -> list[set[str]]:
        """One colour for each packet, or two."""
        early, late = profile.marker(bucket), profile.marker(bucket)
        return [{early.colour(one.size, one.at), late.colour(one.size, one.until)} for one in packets]

    def differing(colours: list[set[str]]) -> int:
        return sum(one.colour not in each for one, each in zip(packets, colours, strict=True))

    rfc, kernel = said(ExactBucket), said(KernelBucket)
    unsure = sum(len(each) > 1 for each in rfc)
    return Verdict(Counter(one.colour for one in packets), differing(rfc), differing(kernel), unsure)


def counted(bench: Bench) -> dict[str, int]:
    """The packets of each colour by the kernel's policers, as `status` has them."""
    _, status = bench.shaper("status")
    (metered,) = (one for one in status["interfaces"][0]["classes"] if one["path"] == "metered")
    return {colour: metered["policed"][f"{colour}_packets"] for colour in COLOURS.values()}


def policed(
    lab: Lab, folder: Path, profile: Profile, *, packets: int, seed: int, classifier: str = "auto"
) -> list[Policed]:
    """What became of so many packets of a class with that profile, in the order in which they were sent."""
    pair = lab.link_pair()
    bench = Bench(lab, pair.a, folder, backend=f"htb, classifier: {classifier}", bandwidth="1gbit")
    bench.apply(f"""
        metered: {{match: [{{proto: udp, dport: {PORT}}}], police: {{cir: {profile.cir}bit, cbs: {profile.cbs}b, \
pir: {profile.pir}bit, pbs: {profile.pbs}b, green: {{dscp: af11}}, yellow: {{dscp: af12}}, red: {{dscp: af13}}}}}}
        rest: {{default: true}}
    """)
    receiver = lab.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM), peer=True)
    receiver.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
    receiver.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 26)
    receiver.settimeout(5)
    receiver.bind((pair.b_v4, PORT))
    chance = Random(seed)
    gap = (SMALLEST + LARGEST) / 2 * 8 / (LOAD * profile.pir)
    found: list[Policed] = []
    reading = _reading()
    with receiver, lab.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sender:
        sender.sendto(b"", (pair.b_v4, 9))  # the neighbour is known after this
        time.sleep(1)
        for number in range(packets):
            size = chance.randrange(SMALLEST, LARGEST + 1)
            payload = struct.pack("!I", number) + bytes(size - OVERHEAD - 4)
            at = time.monotonic_ns()
            sender.sendto(payload, (pair.b_v4, PORT))
            after = time.monotonic_ns()
            data, ancillary, *_ = receiver.recvmsg(2048, 64)
            assert data[:4] == payload[:4], "the packets come in another order"
            found.append(Policed(at, at if after - at == reading else after, size, COLOURS[ancillary[0][2][0] >> 2]))
            time.sleep(chance.expovariate(1 / gap))
    seen = Counter(one.colour for one in found)
    assert counted(bench) == {colour: seen[colour] for colour in COLOURS.values()}, "the policers count otherwise"
    return found


def _reading() -> int:
    """The ns that one reading of the clock takes."""
    at = time.monotonic_ns()
    return time.monotonic_ns() - at
