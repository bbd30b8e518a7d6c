"""Delay, arrivals and losses of classes as the kernel's own programs count them (`measure.bpf.c`).

The programs are loaded here; where the first one stands is not ours to say: `entry` is the program for a clsact hook
in front of the queue. Nothing is written to the device.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import socket
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from collectors.bpf.library import SCHED_CLS, BpfError, Map, Object, load_program, processors, trace
from collectors.bpf.translate import hand_over
from collectors.errors import CaptureError
from collectors.ring import Instruction, captured_in, link, refused

OBJECT = Path(__file__).with_name("measure.bpf.o")

CUTS, FINE_CUTS, OCTAVES = 32, 256, 26
LOWEST = 1.024e-6
"""Buckets of a class: below so many seconds, then `CUTS` (3 % wide) or `FINE_CUTS` (0.4 %) to each power of two, and
one beyond; as in `DelayHistogram`."""

BINS, BIN = 2048, 1.048576e-3
"""Arrivals are kept for so many bins of so many seconds."""

LIMITS = 4
"""Of a class: how many delays there are beyond each is counted apart."""

_CONFIG = struct.Struct("=QIIiIIIIiII")
_LIMITS = struct.Struct(f"={LIMITS}Q")
_STAMP = struct.Struct("=QII")
_TOTALS = struct.Struct(f"={8 + LIMITS}Q")
_EXTREMES = struct.Struct("=2Q")
_HEALTH = struct.Struct("=5Q")
_OWN = struct.Struct("=3Q")
_ADDRESS = struct.Struct("=Q")
_SO_ATTACH_BPF = 50
_ETH_P_ALL, _NOBODYS = 3, 0xFFFF
"""A packet socket of the second sees nothing and costs nothing, and hears that its device goes down all the same."""
_BY_ADDRESS = ("note", "leave")
_HANDED_OVER = "net_dev_start_xmit"
_ETHERNET = 1
_RETURN = 0x06
_ZEROS = (0,) * LIMITS


class Counting(NamedTuple):
    """How the queue counts a packet, where that is not its length: as struct tc_sizespec has it."""

    overhead: int
    least: int
    cells: bool
    steps: bool
    step_log: int
    align: int


@dataclass(frozen=True, slots=True)
class ClassCounts:
    """Of one class since the start. `delays` counts packets by bucket; times in seconds, `least` None for no packet.
    `inelastic_bytes` are those of `arrived_bytes` that are not TCP.

    `arrived` counts what would be on the wire: the segments of super-packets one by one. Of these `stamped` were
    picked, of which `matched` came out, and `ambiguous` looked like another; by address only what came out is picked.
    `late` maps limits (s) to packets that waited longer. `least` and `largest` are of the time since the counts were
    read last.
    """

    arrived: int
    arrived_bytes: int
    inelastic_bytes: int
    stamped: int
    matched: int
    ambiguous: int
    no_room: int
    delay_sum: float
    least: float | None
    largest: float
    delays: Sequence[int]
    late: Mapping[float, int] = field(default_factory=dict)
    cuts: int = CUTS

    def quantile(self, q: float) -> float:
        """The upper edge (s) of the bucket in which the upper order statistic is. Raises ValueError without samples."""
        rank, below = max(1, math.ceil(q * self.matched - 1e-9)), 0
        for number, count in enumerate(self.delays):
            below += count
            if below >= rank:
                octave, cut = divmod(number - 1, self.cuts)
                return LOWEST if number == 0 else LOWEST * 2.0**octave * (1 + (cut + 1) / self.cuts)
        raise ValueError(f"no quantile {q} of {self.matched} samples")


@dataclass(frozen=True, slots=True)
class Health:
    """Of the whole device since the start: malformed packets, packets that no class took, packets that came out and had
    no stamp, super-packets, and of these those that were known by address and did not come out as they were."""

    undecoded: int
    unclassified: int
    unknown: int
    super_packets: int
    cut: int = 0


def buckets_of(cuts: int) -> int:
    """So many buckets a class has. Raises ValueError."""
    if not 1 <= cuts <= 1024 or cuts & (cuts - 1):
        raise ValueError(f"an octave cannot be cut into {cuts}")
    return 2 + cuts * OCTAVES


def _mask(sampling: int) -> int:
    """Raises ValueError."""
    if sampling < 1 or sampling & (sampling - 1):
        raise ValueError(f"one packet in {sampling} cannot be picked by a mask")
    return sampling - 1


def _least() -> KernelDelays:
    return KernelDelays(classifier=((_RETURN, 0, 0, 0),), handles=(), stamps=1)


def refusal() -> str:
    """Why nothing can be counted in this kernel by this process, "" where it can."""
    try:
        _least().close()
    except CaptureError as error:
        return f"{error.message}: {error.hint}"
    return ""


def copying() -> str:
    """Why the kernel must copy every packet to be counted behind the queue, "" where it need not. Raises CaptureError
    as `KernelDelays`."""
    with contextlib.closing(_least()) as made:
        return made.copying


class KernelDelays:
    """Counts from `start()` until `close()` what passes the hook that the entry program stands on.

    `copying` says why this kernel must copy every packet for it, "" where packets can be known by their addresses.
    """

    def __init__(
        self,
        *,
        classifier: Sequence[Instruction],
        handles: Sequence[int],
        sampling: int = 1,
        classify: bool = False,
        stamps: int = 65536,
        limits: Mapping[int, Sequence[float]] | None = None,
        counting: Counting | None = None,
        cuts: int = CUTS,
    ) -> None:
        """`classifier` answers with a class's handle, of which the minor number counts; `handles` are measured.

        With `classify` the answer becomes the packet's priority, by which an HTB of that major sorts it with no filter.
        One packet in `sampling`, a power of two, is stamped. Of `stamps` packets it is known at once when they came.
        `limits` are delays (s) of classes beyond which packets are counted apart, the first `LIMITS` of each.
        `counting` says what a packet counts for in the queue, None for its length. `cuts` are the buckets of delay to
        an octave, a power of two, 1024 at most.
        Raises CaptureError without the library or the permission.
        """
        mask = _mask(sampling)
        self._cuts, self._buckets = cuts, buckets_of(cuts)
        self._slots = {handle: slot for slot, handle in enumerate(handles)}
        count = max(1, len(handles))
        self._processors = processors()
        entries = {
            "delays": count * self._buckets,
            "arrivals": count * BINS,
            "totals": count,
            "limits": count,
            "extremes": 2 * count,
            "stamps": stamps,
        }
        self.copying = ""
        self.entry = self._trace = -1
        self._device = ""
        self._socket: socket.socket | None = None
        self._noting = self._copied = False
        self._cut = 0
        try:
            self._object = Object(OBJECT, entries=entries)
        except BpfError as error:
            self._object = Object(OBJECT, entries=entries, without=_BY_ADDRESS)
            self.copying = error.message
        try:
            if not self.copying:
                self._follow()
            numbers = self._object.map("slot_of", value_size=4)
            for handle, slot in self._slots.items():
                numbers[handle & 0xFFFF] = (slot + 1).to_bytes(4, "little")
            self._config = self._object.map("config", value_size=_CONFIG.size)
            self._mask, self._phase, self._counting = mask, 0, counting
            self._configure()
            self._limits = {handle: tuple(wanted[:LIMITS]) for handle, wanted in (limits or {}).items()}
            marks = self._object.map("limits", value_size=_LIMITS.size)
            for handle, wanted in self._limits.items():
                marks[self._slots[handle]] = _LIMITS.pack(
                    *(round(each * 1e9) for each in wanted), *_ZEROS[len(wanted) :]
                )
            self._next = self._object.map("next", value_size=4)
            self.entry = load_program(
                hand_over(classifier, programs=self._next.fd, hardware_type=_ETHERNET, sort=classify),
                kind=SCHED_CLS,
                name="shaper_stamp",
            )
            self._known = self._object.map("device", value_size=_ADDRESS.size)
            self._own = self._each("own", _OWN)
            self._totals = self._each("totals", _TOTALS)
            self._extremes = self._each("extremes", _EXTREMES)
            self._health = self._each("health", _HEALTH)
            self._stamps = self._object.map("stamps", value_size=_STAMP.size)
            self._delays = self._object.map("delays", value_size=8).view(count * self._buckets * 8)
            self._arrivals = self._object.map("arrivals", value_size=8).view(count * BINS * 8)
        except BaseException:
            self.close()
            raise

    def start(self, device: str, *, netns: str = "") -> None:
        """Counts what leaves the queue of a device in that network namespace, "" for this one; also a second time.

        Until then the entry program only classifies: a packet that nobody would see coming out is not stamped. Raises
        CaptureError without the device or the permission, and for a device that is down.
        """

        def listen() -> socket.socket:
            link(device)
            return self._listen(device)

        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._own[0] = bytes(_OWN.size * self._processors)
        self._known[0] = bytes(_ADDRESS.size)
        self._socket = captured_in(netns, listen)
        self._device = device
        self.check()
        self._copied = True
        self._go_on(by_address=False)

    def _go_on(self, *, by_address: bool) -> None:
        """Stamps in that way from the next packet on."""
        self._noting = by_address
        self._configure()
        self._next[0] = self._object.program("note" if by_address else "stamp").to_bytes(4, "little")

    def _follow(self) -> None:
        """Before anything listens: what `leave` learns is of the packet that was seen just before."""
        try:
            self._trace = trace(_HANDED_OVER, self._object.program("leave"))
        except BpfError as error:
            self.copying = f"{error}"

    @property
    def copied(self) -> bool:
        """Whether the kernel copies every packet now, to be looked at behind the queue."""
        return self._copied

    def prefer(self, *, addresses: bool) -> None:
        """Has packets known by their addresses from now on where that can be, which costs less, or by their bytes,
        which tells what was lost, and finds the parts of what is cut behind the queue.

        Call it a few times a second: it takes until a packet has come out, and what waits is waited for. Raises
        CaptureError.
        """
        if self._socket is None or self.copying:
            return
        if not addresses:
            if self._noting:
                self._hear(_ETH_P_ALL)
                self._go_on(by_address=False)
        elif not self._noting:
            if any(self._known[0]):
                self._go_on(by_address=True)
        elif self._copied and not any(_by_bytes(key) for key, _ in self._stamps.items(8)):
            self._hear(_NOBODYS)

    def _hear(self, protocol: int) -> None:
        assert self._socket is not None
        try:
            self._socket.bind((self._device, protocol))
        except OSError as error:
            raise refused(self._device, error) from error
        self._copied = protocol == _ETH_P_ALL

    def check(self) -> None:
        """Raises CaptureError where packets behind the queue are seen no more: the device is gone, or was down."""
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if self._socket else errno.ENOTCONN
        if code:
            raise refused(self._device, OSError(code, os.strerror(code)))

    def _each(self, name: str, shape: struct.Struct) -> Map:
        return self._object.map(name, value_size=shape.size * self._processors)

    def _listen(self, device: str) -> socket.socket:
        """A packet socket that gets nothing: its filter counts, and passes no packet on."""
        try:
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            try:
                made.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_BPF, self._object.program("match"))
                made.bind((device, _ETH_P_ALL))
            except BaseException:
                made.close()
                raise
        except OSError as error:
            raise CaptureError(
                f"{device}: packets behind its queue cannot be seen: {error.strerror}",
                "run it as root, or with CAP_NET_RAW and CAP_BPF",
                errno=error.errno or 0,
            ) from error
        return made

    @property
    def sampling(self) -> int:
        """One packet in so many is stamped."""
        return self._mask + 1

    def sample(self, sampling: int) -> None:
        """One packet in so many is stamped from now on, a power of two. Those that wait and are not picked any more are
        forgotten, since nobody will look for them."""
        self._mask = _mask(sampling)
        self._configure()
        for key, _ in list(self._stamps.items(8)):
            if _by_bytes(key) and not self._picked(key):
                self._stamps.remove(key)

    def _picked(self, key: bytes) -> bool:
        return not int.from_bytes(key, "little") >> 8 & self._mask

    def _configure(self) -> None:
        how, cuts_log = self._counting or (0,) * 6, self._cuts.bit_length() - 1
        self._config[0] = _CONFIG.pack(
            self._mask, self._phase, self._counting is not None, *how, cuts_log, self._noting
        )

    def read(self) -> tuple[dict[int, ClassCounts], Health]:
        """The counts of every class by its handle."""
        phase = self._phase
        self._phase ^= 1
        self._configure()
        empty = bytes(_EXTREMES.size * self._processors)
        counts: dict[int, ClassCounts] = {}
        for handle, slot in self._slots.items():
            arrived, size, inelastic, stamped, matched, delay, ambiguous, no_room, *late = self._summed(
                self._totals, slot, _TOTALS
            )
            bounds = list(_EXTREMES.iter_unpack(self._extremes[2 * slot + phase]))
            self._extremes[2 * slot + phase] = empty
            least = min((low for low, _ in bounds if low), default=0)
            counts[handle] = ClassCounts(
                arrived=arrived,
                arrived_bytes=size,
                inelastic_bytes=inelastic,
                stamped=stamped,
                matched=matched,
                ambiguous=ambiguous,
                no_room=no_room,
                delay_sum=delay / 1e9,
                least=(least - 1) / 1e9 if least else None,
                largest=max(high for _, high in bounds) / 1e9,
                delays=self._delays[slot * self._buckets : (slot + 1) * self._buckets].tolist(),
                cuts=self._cuts,
                late=dict(zip(self._limits.get(handle, ()), late, strict=False)),
            )
        health = Health(*self._summed(self._health, 0, _HEALTH))
        return counts, replace(health, cut=health.cut + self._cut)

    def _summed(self, values: Map, key: int, shape: struct.Struct) -> tuple[int, ...]:
        """Over the processors."""
        return tuple(map(sum, zip(*shape.iter_unpack(values[key]), strict=True)))

    def bins(self, handle: int) -> memoryview:
        """The arrivals of a class that are not TCP, by `BIN`: generation << 32 | bytes. They go on changing."""
        slot = self._slots[handle]
        return self._arrivals[slot * BINS : (slot + 1) * BINS]

    def sweep(self, *, before: int) -> tuple[Mapping[int, int], Mapping[int, int]]:
        """Forgets stamps of before the monotonic time (ns): packets by class that are lost, and that have not come out.

        What was seen twice is forgotten and not counted, and so is what is known by its address: it may have come out
        unseen, or in parts.
        """
        lost: Counter[int] = Counter()
        waiting: Counter[int] = Counter()
        handles = list(self._slots)
        for key, value in list(self._stamps.items(8)):
            at, slot, segments = _STAMP.unpack(value)
            found = waiting if at >= before else lost if self._stamps.remove(key) else None
            if not _by_bytes(key):
                self._cut += found is lost and segments > 1
            elif found is not None and slot < len(handles):  # a probe has no slot
                found[handles[slot]] += segments
        return lost, waiting

    def close(self) -> None:
        """Gives back the socket, programs and maps.

        The entry program stays where somebody put it and only sorts: the map by which it goes on is emptied, here and
        when the process is killed.
        """
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        for descriptor in (self.entry, self._trace):
            if descriptor >= 0:
                os.close(descriptor)
        self.entry = self._trace = -1
        self._object.close()


def _by_bytes(key: bytes) -> bool:
    """Whether a stamp is found by what is in its packet, and not by its address."""
    return bool(key[0] & 1)
