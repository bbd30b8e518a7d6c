"""A second opinion: a few frames a second decoded by scapy, to catch what the cheap parser or the classes get wrong."""

from __future__ import annotations

import logging
import socket
from typing import Any

from collectors.frames import flow_key
from collectors.sample import Classifier, FlowKey

_LONGEST, _NO_NEXT = 65535, 59
_BARE_PORTS = frozenset((33, 132, 136))  # DCCP, SCTP, UDP-Lite: scapy's core leaves them undecoded


class Audit:
    """At most `rate` frames in a second of the frames' own time stamps, evenly spread; none with a rate of 0.

    `audited` and `misclassified` count since the last `take()`.
    """

    def __init__(self, *, rate: int, classify: Classifier, detailed: bool = False) -> None:
        self._gap = -(-1_000_000_000 // rate) if rate else 0
        self._classify = classify
        self._detailed = detailed
        self._audited = 0
        self._misclassified = 0
        self.due: float = 0 if rate else float("inf")
        """The time stamp (ns) from which the next frame is looked at."""
        if rate:
            # Here and not at the first frame: the import takes a second, in which a running capture would fall behind.
            self._scapy = _Scapy()

    def check(self, stamp: int, frame: bytes, flow: bytes, classid: int) -> None:
        """Compares scapy's view of a frame with the flow that the parser found and the class that it was given."""
        self.due = stamp + self._gap
        view = self._scapy.flow_key(frame)
        if view is None:
            return
        if not self._detailed:
            view = view._replace(tcp_flags=None, length=None)
        self._audited += 1
        if view != flow_key(flow, detailed=self._detailed) or self._classify(view) != classid:
            self._misclassified += 1

    def take(self) -> tuple[int, int]:
        """`(audited, misclassified)` since the last call."""
        counts = self._audited, self._misclassified
        self._audited = self._misclassified = 0
        return counts


class _Scapy:
    """scapy's layers 2 to 4 and nothing else of it."""

    def __init__(self) -> None:
        logging.getLogger("scapy").setLevel(logging.ERROR)  # it warns of addresses and routes that we never ask for
        from scapy.layers import inet, inet6, l2  # noqa: PLC0415

        self._l2, self._inet, self._inet6 = l2, inet, inet6

    def flow_key(self, frame: bytes) -> FlowKey | None:
        """scapy's view of the frame; None where it has none."""
        layer: Any = self._l2.Ether(frame).payload
        while isinstance(layer, (self._l2.Dot1Q, self._l2.Dot1AD)):
            layer = layer.payload
        if isinstance(layer, self._inet.IP):
            return self._with_ports(
                layer.payload if not (layer.frag or layer.flags.MF) else None,
                ethertype=0x0800,
                protocol=layer.proto,
                src=int.from_bytes(socket.inet_pton(socket.AF_INET, layer.src), "big"),
                dst=int.from_bytes(socket.inet_pton(socket.AF_INET, layer.dst), "big"),
                tos=layer.tos,
                length=layer.len or _LONGEST,
            )
        if isinstance(layer, self._inet6.IPv6):
            return self._ipv6(layer)
        return None

    def _ipv6(self, header: Any) -> FlowKey | None:
        protocol, layer = header.nh, header.payload
        while isinstance(layer, self._inet6._IPv6ExtHdr) and layer is not None:
            protocol = layer.nh
            layer = None if isinstance(layer, self._inet6.IPv6ExtHdrFragment) else layer.payload
        return self._with_ports(
            layer,
            ethertype=0x86DD,
            protocol=protocol,
            src=int.from_bytes(socket.inet_pton(socket.AF_INET6, header.src), "big"),
            dst=int.from_bytes(socket.inet_pton(socket.AF_INET6, header.dst), "big"),
            tos=header.tc,
            length=self._ipv6_length(header),
        )

    @staticmethod
    def _ipv6_length(header: Any) -> int:
        if header.plen:
            return min(40 + int(header.plen), _LONGEST)
        return 40 if header.nh == _NO_NEXT else _LONGEST

    def _with_ports(
        self, upper: Any, *, ethertype: int, protocol: int, src: int, dst: int, tos: int, length: int
    ) -> FlowKey:
        """`upper` is the layer above IP, None in fragments."""
        sport = dport = icmp_type = tcp_flags = None
        if upper is not None:
            if isinstance(upper, (self._inet.TCP, self._inet.UDP)):
                sport, dport = upper.sport, upper.dport
                if isinstance(upper, self._inet.TCP):
                    tcp_flags = int(upper.flags) & 0xFF
            elif protocol in _BARE_PORTS:
                raw = upper.original
                sport, dport = int.from_bytes(raw[:2], "big"), int.from_bytes(raw[2:4], "big")
            elif protocol in {1, 58}:
                icmp_type = upper.original[0]
        return FlowKey(ethertype, protocol, src, dst, sport, dport, tos >> 2, icmp_type, tos & 3, tcp_flags, length)
