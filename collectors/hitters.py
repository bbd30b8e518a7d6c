"""Who sends the most: the flows of a class by bytes, in bounded memory.

A sketch of frequent items (J. Misra, D. Gries, 1982, with weights and in batches: D. Anderson and others, 2017): what a
flow is said to have sent is at most `error` too little, and `error` is at most a `capacity`th of all that was sent.
"""

from __future__ import annotations

import hashlib
import socket
from dataclasses import dataclass
from heapq import nlargest

from collectors.frames import flow_key

CAPACITY = 512


@dataclass(frozen=True, slots=True)
class Hitter:
    """A flow in words, and how many bytes and packets it sent: so many at least, and `error` bytes more at most."""

    flow: str
    bytes: int
    packets: int
    error: int


class Hitters:
    """Of one class. `add` costs next to nothing; once in `capacity` new flows the small ones are forgotten."""

    def __init__(self, *, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._flows: dict[bytes, list[int]] = {}
        self._error = 0

    def add(self, flow: bytes, size: int) -> None:
        """A packet of `size` bytes of a flow, as `dissect` names it."""
        known = self._flows.get(flow)
        if known is not None:
            known[0] += size
            known[1] += 1
            return
        self._flows[flow] = [size, 1]
        if len(self._flows) > 2 * self._capacity:
            self._shrink()

    def _shrink(self) -> None:
        """All lose as many bytes as the first that is not kept has: those that have none left go."""
        less = nlargest(self._capacity + 1, (each[0] for each in self._flows.values()))[-1]
        self._flows = {flow: [size - less, count] for flow, (size, count) in self._flows.items() if size > less}
        self._error += less

    def largest(self, count: int, *, secret: bytes = b"", detailed: bool = False) -> tuple[Hitter, ...]:
        """The flows that sent the most. With a `secret` addresses are told by a keyed hash, alike for alike."""
        found = nlargest(count, self._flows.items(), key=lambda item: item[1][0])
        return tuple(
            Hitter(words(flow, secret=secret, detailed=detailed), size, packets, self._error)
            for flow, (size, packets) in found
        )


def words(flow: bytes, *, secret: bytes = b"", detailed: bool = False) -> str:
    """`udp 10.0.0.1:5000 > 10.0.0.2:53`."""
    key = flow_key(flow, detailed=detailed)
    family = socket.AF_INET if key.ethertype == 0x0800 else socket.AF_INET6
    width = 4 if family == socket.AF_INET else 16

    def end(address: int | None, port: int | None) -> str:
        raw = (address or 0).to_bytes(width, "big")
        text = hashed(raw, secret)[:4].hex() if secret else socket.inet_ntop(family, raw)
        return text if port is None else f"[{text}]:{port}" if ":" in text else f"{text}:{port}"

    name = _PROTOCOLS.get(key.protocol or 0, f"proto {key.protocol}")
    return f"{name} {end(key.src, key.sport)} > {end(key.dst, key.dport)}"


def hashed(address: bytes, secret: bytes) -> bytes:
    """As many bytes, the same for the same address, that tell nobody which it was."""
    return hashlib.blake2b(address, digest_size=max(4, len(address)), key=secret).digest()[: max(4, len(address))]


_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 47: "gre", 50: "esp", 58: "icmpv6", 89: "ospf", 132: "sctp"}
