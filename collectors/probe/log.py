"""What was sent and what came back, packet by packet: from events to outcomes. No clock, no socket."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from collectors.probe.ntp import ErrorEstimate

_STEP = 50_000_000
"""Nanoseconds by which the wall clock must run from the boot clock while a packet is on its way to have been set."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an answer says: of which packet, and where the reflector says so when that came and when this went (ns).

    `number` is the reflector's own of this answer.
    """

    sequence: int
    came: int | None = None
    went: int | None = None
    estimate: ErrorEstimate | None = None
    hops: int | None = None
    number: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """One packet, settled. Times in seconds; what could not be measured is None.

    `at` is when it was sent (boot time); `round_trip` leaves out the time the reflector took; `there` and `back` are as
    the two clocks say, however they differ; `waited` is the time in the queue of the device that it was sent by,
    `dropped` when it entered that queue and never left it. `copies` answers came; `reordered` when one to a later
    packet came first (RFC 4737). `hops` were left of a packet's life when it came to the reflector; `phases` are the
    parts of a transaction. `failure` says why there was none. `numbers` are the reflector's own of the answers.
    """

    sequence: int
    at: float
    round_trip: float | None = None
    there: float | None = None
    back: float | None = None
    waited: float | None = None
    dropped: bool = False
    copies: int = 0
    reordered: bool = False
    hops: int | None = None
    phases: Mapping[str, float] = field(default_factory=dict)
    failure: str = ""
    numbers: tuple[int, ...] = ()

    @property
    def lost(self) -> bool:
        """Never answered in time."""
        return self.copies == 0


@dataclass(slots=True)
class _Open:
    """A packet on its way. Stamps in ns of wall time; `entered` and `left` are the kernel's of the device's queue."""

    sequence: int
    at: float
    stamp: int
    offset: int
    entered: int | None = None
    left: int | None = None
    answer: Answer | None = None
    came_back: int = 0
    copies: int = 0
    reordered: bool = False
    skewed: bool = False
    numbers: tuple[int, ...] = ()


class Log:
    """Takes events in the order in which they happen; `settle` hands over what is decided.

    A packet is decided `timeout` seconds after it was sent: until then answers to it count, and after it they are
    `late`. An `eager` log decides it with its first answer, and takes the others for late. `peer` is what the reflector
    says of its clock; `ignored` counts answers that were none, by reason; `refusals` what ICMP said, by who and what;
    `skewed` packets over whose way the wall clock was set: they have no delay.
    """

    def __init__(self, *, timeout: float, eager: bool = False) -> None:
        self.timeout = timeout
        self.eager = eager
        self.peer: ErrorEstimate | None = None
        self.ignored: Counter[str] = Counter()
        self.refusals: Counter[tuple[str, str]] = Counter()
        self.late = self.skewed = 0
        self._open: dict[int, _Open] = {}
        self._next = 0
        self._newest = -1
        self._stamped = False  # some devices' drivers never say when a packet left

    def sent(self, sequence: int, *, at: float, wall: int) -> None:
        """A packet goes out at boot time `at` (s) and wall time `wall` (ns)."""
        self._open[sequence] = _Open(sequence, at, wall, wall - round(at * 1e9))
        self._newest = max(self._newest, sequence)

    def departed(self, sequence: int, stamp: int, *, left: bool) -> None:
        """The kernel's stamp (wall, ns) of a packet that entered its device's queue, or left it.

        The first of each counts: over virtual devices a packet stays its socket's own, and the queues behind stamp it,
        too.
        """
        packet = self._open.get(sequence)
        self._stamped = self._stamped or left
        if packet is not None and left and packet.left is None:
            packet.left = stamp
        elif packet is not None and not left and packet.entered is None:
            packet.entered = stamp

    def answered(self, answer: Answer, stamp: int, *, at: float, wall: int) -> None:
        """An answer came at `stamp` (wall, ns), and was read at boot time `at` (s), wall time `wall` (ns)."""
        packet = self._open.get(answer.sequence)
        if packet is None:
            known = 0 <= answer.sequence <= self._newest
            self.late += known
            self.ignored["unknown-sequence"] += not known
            return
        packet.copies += 1
        if answer.number is not None and answer.number not in packet.numbers:
            packet.numbers = (*packet.numbers, answer.number)
        if packet.copies > 1:
            return
        packet.answer, packet.came_back = answer, stamp
        packet.skewed = abs(wall - round(at * 1e9) - packet.offset) > _STEP
        packet.reordered = answer.sequence < self._next
        self._next = max(self._next, answer.sequence + 1)
        self.peer = answer.estimate or self.peer

    def refused(self, text: str, by: str) -> None:
        """ICMP said something of a packet."""
        self.refusals[by, text] += 1

    @property
    def waiting(self) -> int:
        """Packets sent that nobody has answered so far."""
        return sum(1 for packet in self._open.values() if not packet.copies)

    def settle(self, now: float) -> tuple[Outcome, ...]:
        """The outcomes of all packets sent `timeout` s or longer before boot time `now`, in the order of sending."""
        due = [
            sequence
            for sequence, packet in self._open.items()
            if packet.at + self.timeout <= now or (self.eager and packet.copies)
        ]
        return tuple(self._outcome(self._open.pop(sequence)) for sequence in due)

    def _outcome(self, packet: _Open) -> Outcome:
        waited = None
        if packet.entered is not None and packet.left is not None and packet.left >= packet.entered:
            waited = (packet.left - packet.entered) / 1e9
        made = Outcome(
            packet.sequence,
            packet.at,
            waited=waited,
            dropped=packet.entered is not None and packet.left is None and self._stamped and not packet.copies,
            copies=packet.copies,
            reordered=packet.reordered,
            numbers=packet.numbers,
        )
        answer = packet.answer
        if answer is None:
            return made
        went = packet.stamp if packet.entered is None else packet.entered
        dwelt = 0 if answer.came is None or answer.went is None else max(0, answer.went - answer.came)
        round_trip = (packet.came_back - went - dwelt) / 1e9
        if packet.skewed or round_trip < 0:
            self.skewed += 1
            return replace(made, hops=answer.hops)
        return replace(
            made,
            round_trip=round_trip,
            there=None if answer.came is None else (answer.came - went) / 1e9,
            back=None if answer.went is None else (packet.came_back - answer.went) / 1e9,
            hops=answer.hops,
        )
