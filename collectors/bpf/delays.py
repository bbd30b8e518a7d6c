"""Delay, arrivals and losses of classes as the kernel's own programs count them (`measure.bpf.c`).

The programs are loaded here; where the first one stands is not ours to say: `entry` is the program for a clsact hook
in front of the queue. Nothing is written to the device.
"""

from __future__ import annotations

import math
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from collectors.bpf.library import SCHED_CLS, Map, Object, load_program, processors
from collectors.bpf.translate import hand_over
from collectors.errors import CaptureError
from collectors.ring import Instruction, link

OBJECT = Path(__file__).with_name("measure.bpf.o")

CUTS, OCTAVES = 32, 26
LOWEST = 1.024e-6
BUCKETS = 2 + CUTS * OCTAVES
"""Of a class: below `LOWEST` seconds, `CUTS` to each power of two above, and beyond; as in `DelayHistogram`."""

BINS, BIN = 2048, 1.048576e-3
"""Arrivals are kept for so many bins of so many seconds."""

_CONFIG = struct.Struct("=QII")
_STAMP = struct.Struct("=QII")
_TOTALS = struct.Struct("=8Q")
_EXTREMES = struct.Struct("=2Q")
_HEALTH = struct.Struct("=4Q")
_SO_ATTACH_BPF = 50
_ETH_P_ALL = 3
_ETHERNET = 1


@dataclass(frozen=True, slots=True)
class ClassCounts:
    """Of one class since the start. `delays` counts packets by bucket; times in seconds, `least` None for no packet.
    `inelastic_bytes` are those of `arrived_bytes` that are not TCP.

    `arrived` counts what would be on the wire: the segments of super-packets one by one. Of these `stamped` were
    picked, of which `matched` came out, and `ambiguous` looked like another. `least` and `largest` are of the time
    since the counts were read last.
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
    delays: memoryview

    def quantile(self, q: float) -> float:
        """The upper edge (s) of the bucket in which the upper order statistic is. Raises ValueError without samples."""
        rank, below = max(1, math.ceil(q * self.matched - 1e-9)), 0
        for number, count in enumerate(self.delays):
            below += count
            if below >= rank:
                octave, cut = divmod(number - 1, CUTS)
                return LOWEST if number == 0 else LOWEST * 2.0**octave * (1 + (cut + 1) / CUTS)
        raise ValueError(f"no quantile {q} of {self.matched} samples")


@dataclass(frozen=True, slots=True)
class Health:
    """Of the whole device since the start: malformed packets, packets that no class took, packets that came out and had
    no stamp, and super-packets."""

    undecoded: int
    unclassified: int
    unknown: int
    super_packets: int


class KernelDelays:
    """Counts from the moment the entry program is put on the hook until `close()`."""

    def __init__(
        self,
        *,
        device: str,
        classifier: Sequence[Instruction],
        handles: Sequence[int],
        sampling: int = 1,
        classify: bool = False,
        stamps: int = 65536,
    ) -> None:
        """`classifier` answers with a class's handle, of which the minor number counts; `handles` are measured.

        With `classify` the answer becomes the packet's priority, by which an HTB of that major sorts it with no filter.
        One packet in `sampling`, a power of two, is stamped. Of `stamps` packets it is known at once when they came.
        Raises CaptureError without the device, the library or the permission.
        """
        if sampling < 1 or sampling & (sampling - 1):
            raise ValueError(f"one packet in {sampling} cannot be picked by a mask")
        link(device)
        self._slots = {handle: slot for slot, handle in enumerate(handles)}
        count = max(1, len(handles))
        self._processors = processors()
        self._object = Object(
            OBJECT,
            entries={
                "delays": count * BUCKETS,
                "arrivals": count * BINS,
                "totals": count,
                "extremes": 2 * count,
                "stamps": stamps,
            },
        )
        self.entry = -1
        self._socket: socket.socket | None = None
        try:
            numbers = self._object.map("slot_of", value_size=4)
            for handle, slot in self._slots.items():
                numbers[handle & 0xFFFF] = (slot + 1).to_bytes(4, "little")
            self._config = self._object.map("config", value_size=_CONFIG.size)
            self._mask, self._phase = sampling - 1, 0
            self._configure()
            programs = self._object.map("next", value_size=4)
            programs[0] = self._object.program("stamp").to_bytes(4, "little")
            self.entry = load_program(
                hand_over(classifier, programs=programs.fd, hardware_type=_ETHERNET, sort=classify),
                kind=SCHED_CLS,
                name="shaper_stamp",
            )
            self._totals = self._each("totals", _TOTALS)
            self._extremes = self._each("extremes", _EXTREMES)
            self._health = self._each("health", _HEALTH)
            self._stamps = self._object.map("stamps", value_size=_STAMP.size)
            self._delays = self._object.map("delays", value_size=8).view(count * BUCKETS * 8)
            self._arrivals = self._object.map("arrivals", value_size=8).view(count * BINS * 8)
            self._socket = self._listen(device)
        except BaseException:
            self.close()
            raise

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

    def _configure(self) -> None:
        self._config[0] = _CONFIG.pack(self._mask, self._phase, 0)

    def read(self) -> tuple[dict[int, ClassCounts], Health]:
        """The counts of every class by its handle."""
        phase = self._phase
        self._phase ^= 1
        self._configure()
        empty = bytes(_EXTREMES.size * self._processors)
        counts: dict[int, ClassCounts] = {}
        for handle, slot in self._slots.items():
            arrived, size, inelastic, stamped, matched, delay, ambiguous, no_room = self._summed(
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
                delays=self._delays[slot * BUCKETS : (slot + 1) * BUCKETS],
            )
        return counts, Health(*self._summed(self._health, 0, _HEALTH))

    def _summed(self, values: Map, key: int, shape: struct.Struct) -> tuple[int, ...]:
        """Over the processors."""
        return tuple(map(sum, zip(*shape.iter_unpack(values[key]), strict=True)))

    def sweep(self, *, before: int) -> Mapping[int, int]:
        """Forgets stamps of before the monotonic time (ns); how many packets of each class those were: lost.

        What was seen twice is forgotten and not counted.
        """
        lost: dict[int, int] = {}
        handles = list(self._slots)
        for key, value in list(self._stamps.items(8)):
            at, slot, segments = _STAMP.unpack(value)
            if at < before and self._stamps.remove(key) and segments:
                lost[handles[slot]] = lost.get(handles[slot], 0) + segments
        return lost

    def waiting(self) -> Mapping[int, int]:
        """How many stamped packets of each class have not come out."""
        handles = list(self._slots)
        waits: dict[int, int] = {}
        for _, value in self._stamps.items(8):
            _, slot, segments = _STAMP.unpack(value)
            waits[handles[slot]] = waits.get(handles[slot], 0) + segments
        return waits

    def close(self) -> None:
        """Gives back the socket, programs and maps.

        The entry program stays where somebody put it and only sorts: the map by which it goes on is emptied, here and
        when the process is killed.
        """
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self.entry >= 0:
            os.close(self.entry)
            self.entry = -1
        self._object.close()
