"""Delay, arrivals and losses of classes as the kernel's own programs count them (`measure.bpf.c`).

The programs are loaded here; where the first one stands is not ours to say: `entry` is the program for a clsact hook
in front of the queue. Nothing is written to the device.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from collectors.bpf.behind import Behind
from collectors.bpf.counts import BINS, CUTS, LIMITS, ClassCounts, Counting, Health, buckets_of
from collectors.bpf.library import SCHED_CLS, BpfError, Map, Object, load_program, processors, trace
from collectors.bpf.stamps import SIZE, Stamps
from collectors.bpf.translate import hand_over
from collectors.errors import CaptureError
from collectors.ring import Instruction

OBJECT = Path(__file__).with_name("measure.bpf.o")

_CONFIG = struct.Struct("=QIIiIIIIiIIII")
_LIMITS = struct.Struct(f"={LIMITS}Q")
_TOTALS = struct.Struct(f"={8 + LIMITS}Q")
_EXTREMES = struct.Struct("=2Q")
_HEALTH = struct.Struct("=5Q")
_OWN = struct.Struct("=3Q")
_ADDRESS = struct.Struct("=Q")
_BY_ADDRESS = ("note", "leave")
_HANDED_OVER = "net_dev_start_xmit"
_ETHERNET = 1
_RETURN = 0x06
_ZEROS = (0,) * LIMITS


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

        With `classify` the answer becomes the packet's priority while it counts, by which an HTB of that major sorts it
        with no filter.
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
        self._behind = Behind()
        self._noting = False
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
            self._mask, self._phase, self._counting, self._sorting = mask, 0, counting, classify
            self._configure()
            self._limits = {handle: tuple(wanted[:LIMITS]) for handle, wanted in (limits or {}).items()}
            marks = self._object.map("limits", value_size=_LIMITS.size)
            for handle, wanted in self._limits.items():
                marks[self._slots[handle]] = _LIMITS.pack(
                    *(round(each * 1e9) for each in wanted), *_ZEROS[len(wanted) :]
                )
            self._next = self._object.map("next", value_size=4)
            self.entry = load_program(
                hand_over(classifier, programs=self._next.fd, hardware_type=_ETHERNET),
                kind=SCHED_CLS,
                name="shaper_stamp",
            )
            self._known = self._object.map("device", value_size=_ADDRESS.size)
            self._own = self._each("own", _OWN)
            self._totals = self._each("totals", _TOTALS)
            self._extremes = self._each("extremes", _EXTREMES)
            self._health = self._each("health", _HEALTH)
            self._stamps = Stamps(self._object.map("stamps", value_size=SIZE))
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
        self._behind.close()
        self._own[0] = bytes(_OWN.size * self._processors)
        self._known[0] = bytes(_ADDRESS.size)
        self._behind.listen(device, self._object.program("match"), netns=netns)
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
        return self._behind.copied

    def prefer(self, *, addresses: bool) -> None:
        """Has packets known by their addresses from now on where that can be, which costs less, or by their bytes,
        which tells what was lost, and finds the parts of what is cut behind the queue.

        Call it a few times a second: it takes until a packet has come out, and what waits is waited for. Raises
        CaptureError.
        """
        if not self._behind.listening or self.copying:
            return
        if not addresses:
            if self._noting:
                self._behind.hear(packets=True)
                self._go_on(by_address=False)
        elif not self._noting:
            if any(self._known[0]):
                self._go_on(by_address=True)
        elif self._behind.copied and not self._stamps.by_bytes:
            self._behind.hear(packets=False)

    def check(self) -> None:
        """Raises CaptureError where packets behind the queue are seen no more: the device is gone, or was down."""
        self._behind.check()

    def _each(self, name: str, shape: struct.Struct) -> Map:
        return self._object.map(name, value_size=shape.size * self._processors)

    @property
    def sampling(self) -> int:
        """One packet in so many is stamped."""
        return self._mask + 1

    def sample(self, sampling: int) -> None:
        """One packet in so many is stamped from now on, a power of two. Those that wait and are not picked any more are
        forgotten, since nobody will look for them."""
        self._mask = _mask(sampling)
        self._configure()
        self._stamps.keep(self._mask)

    def _configure(self) -> None:
        how, cuts_log = self._counting or (0,) * 6, self._cuts.bit_length() - 1
        self._config[0] = _CONFIG.pack(
            self._mask, self._phase, self._counting is not None, *how, cuts_log, self._noting, self._sorting, 0
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
                delays=self._still(slot),
                cuts=self._cuts,
                late=dict(zip(self._limits.get(handle, ()), late, strict=False)),
            )
        health = Health(*self._summed(self._health, 0, _HEALTH))
        return counts, replace(health, cut=health.cut + self._stamps.cut)

    def _summed(self, values: Map, key: int, shape: struct.Struct) -> tuple[int, ...]:
        """Over the processors."""
        return tuple(map(sum, zip(*shape.iter_unpack(values[key]), strict=True)))

    def _still(self, slot: int) -> memoryview:
        """The delays of a class by bucket, a copy of what goes on changing."""
        return memoryview(self._delays[slot * self._buckets : (slot + 1) * self._buckets].tobytes()).cast("Q")

    def bins(self, handle: int) -> memoryview:
        """The arrivals of a class that are not TCP, by `BIN`: generation << 32 | bytes. They go on changing."""
        slot = self._slots[handle]
        return self._arrivals[slot * BINS : (slot + 1) * BINS]

    def sweep(self, *, before: int) -> tuple[Mapping[int, int], Mapping[int, int]]:
        """Forgets stamps of before the monotonic time (ns): packets by class that are lost, and that have not come out.

        What was seen twice is forgotten and not counted, and so is what is known by its address: it may have come out
        unseen, or in parts.
        """
        return self._stamps.sweep(tuple(self._slots), before=before)

    def close(self) -> None:
        """Gives back the socket, programs and maps.

        The entry program stays where somebody put it and only sorts: the map by which it goes on is emptied, here and
        when the process is killed.
        """
        self._behind.close()
        for descriptor in (self.entry, self._trace):
            if descriptor >= 0:
                os.close(descriptor)
        self.entry = self._trace = -1
        self._object.close()
