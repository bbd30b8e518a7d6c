"""A Session-Reflector (RFC 8762) for senders of STAMP and TWAMP-light: which packets it answers, and what.

It is no amplifier: an answer is never longer than its request, goes to allowed networks only and not to services that
would answer it in turn, and there are only so many a second.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address

from collectors.probe import stamp
from collectors.probe.endpoint import Arrival
from collectors.probe.ntp import ErrorEstimate, to_ntp

Network = IPv4Network | IPv6Network

_LOWEST_PORT = 1024
"""Below it are services that answer whatever comes, other reflectors too: an answer to one would begin a loop."""

_SESSIONS = 4096
_SOURCES = 4096
_IDLE = 900.0
"""Seconds (RFC 5357, REFWAIT) after which a session is forgotten."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled: float

    def take(self, now: float, rate: float) -> bool:
        """One token of as many as come in a second."""
        self.tokens = min(rate, self.tokens + (now - self.filled) * rate)
        self.filled = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@dataclass(slots=True)
class Reflector:
    """Answers the packets of `allowed` networks, at most `rate` a second of each address.

    With a `key` it answers authenticated packets only. `stateful` counts its answers by session, so that a sender can
    tell loss on the way there from loss on the way back; stateless it gives back the sender's numbers. `port` is its
    own: what comes from the same port would be another reflector's answer. `counts` says how many packets were
    answered, and why the others were not.
    """

    allowed: Sequence[Network]
    clock: Callable[[], ErrorEstimate]
    key: bytes = b""
    stateful: bool = False
    rate: float = 1000.0
    port: int = 862
    counts: Counter[str] = field(default_factory=Counter)
    _sessions: OrderedDict[tuple[str, int, int], tuple[int, float]] = field(default_factory=OrderedDict)
    _buckets: OrderedDict[str, _Bucket] = field(default_factory=OrderedDict)

    def answer(self, packet: Arrival, *, now: float, wall: Callable[[], int]) -> bytes | None:
        """The answer to a packet at `now` (boot time, s), None where it gets none; `wall` reads the wall clock (ns)."""
        reason = self._refused(packet, now)
        if reason:
            self.counts[reason] += 1
            return None
        try:
            request = stamp.unpack_request(packet.data, key=self.key)
            sequence = self._sequence(packet, request, now)
            estimate = self.clock().pack()
            sent = wall()
            reply = stamp.Reply(
                sequence=sequence,
                stamp=to_ntp(sent),
                error=estimate,
                session=request.session,
                received=to_ntp(min(packet.at or sent, sent)),
                sender_sequence=request.sequence,
                sender_stamp=request.stamp,
                sender_error=request.error,
                sender_ttl=255 if packet.hops is None else packet.hops,
            )
            data = stamp.pack_reply(reply, packet.data, key=self.key)
        except stamp.BadPacketError as error:
            self.counts[error.reason] += 1
            return None
        self.counts["answered"] += 1
        return data

    def _refused(self, packet: Arrival, now: float) -> str:
        host, port = packet.source
        source = ip_address(host.partition("%")[0])
        source = getattr(source, "ipv4_mapped", None) or source
        if port < _LOWEST_PORT or port == self.port:
            return "source-port"
        if not any(source.version == network.version and source in network for network in self.allowed):
            return "not-allowed"
        bucket = self._buckets.setdefault(str(source), _Bucket(self.rate, now))
        self._buckets.move_to_end(str(source))
        while len(self._buckets) > _SOURCES:
            self._buckets.popitem(last=False)
        return "" if bucket.take(now, self.rate) else "rate"

    def _sequence(self, packet: Arrival, request: stamp.Request, now: float) -> int:
        if not self.stateful:
            return request.sequence
        name = (*packet.source, request.session)
        number, last = self._sessions.pop(name, (0, now))
        if now - last > _IDLE:
            number = 0
        self._sessions[name] = ((number + 1) & 0xFFFFFFFF, now)
        while len(self._sessions) > _SESSIONS:
            self._sessions.popitem(last=False)
        return number
