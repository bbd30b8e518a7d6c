"""Delay and loss of every class from packets captured before and after the qdisc of a device.

What goes out. Before: a filter on the device's clsact hook, which is not ours to install, mirrors packets to an ifb;
they are taken as they go out there. After: a tap on the device itself. What comes in is redirected to an ifb and waits
there. Before: a tap on the device. After: a tap on the ifb. Nothing is written to the kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from collectors.account import Account
from collectors.duty import Duty
from collectors.evidence import Evidence
from collectors.hitters import Hitter
from collectors.ring import RETIRE_MS, Instruction, PacketRing, captured_in, link
from collectors.sample import CaptureWindow, Classifier
from collectors.sampling import MOST, Sampling

Filters = Callable[[int], tuple[Sequence[Instruction], Sequence[Instruction]]]
"""From one packet in so many to `after_filter` and `arriving_filter`."""

TAUS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
"""Lengths of the windows of the arrival envelope, in seconds."""

AUDITED = 20
"""Frames a second that scapy looks at, too: each takes it half a millisecond."""

_LAG = 6 * RETIRE_MS * 1_000_000
"""So old (ns) is the newest frame that an idle ring may still hold back: two timeouts, and room for a late timer."""

_LOAD_WORD, _LOAD_HALF, _JUMP_EQUAL, _RETURN = 0x20, 0x28, 0x15, 0x06


class Capture:
    """Runs from the moment it is made until `close()`; call `drain()` a few times a second, or the rings run over."""

    def __init__(
        self,
        *,
        device: str,
        tap: str,
        after_filter: Sequence[Instruction],
        arriving_filter: Sequence[Instruction] = (),
        sampling: int,
        classify: Classifier,
        horizon: float = 3.0,
        audit_rate: int = AUDITED,
        taus: Sequence[float] = TAUS,
        detailed: bool = False,
        size_of: Callable[[int], int] | None = None,
        netns: str = "",
        hitters: bool = False,
        evidence: Evidence | None = None,
        filters: Filters | None = None,
        most: int = MOST,
        duty: Duty | None = None,
    ) -> None:
        """`tap` is the ifb with the copies; `after_filter` passes outgoing packets, 1 in `sampling`, cut short.

        With `arriving_filter`, which picks the same of incoming packets, what comes in is measured: `tap` is the ifb
        in which it waits.
        `horizon` (s) must exceed the longest wait in the queue; scapy decodes at most `audit_rate` frames a second;
        `taus` (s) are the windows of the envelope; `detailed` as in Account; `size_of` says how many bytes the device's
        queue counts a frame of so many bytes for, so that rates from here and from its counters are of one unit.
        With `filters`, which give both filters for a rate, it looks at fewer packets where `most` frames a second are
        not enough; then a `duty` says when it listens behind the queue, and wants `tend` to be called between drains.
        `hitters` keeps the flows that send the most; `evidence` is given every frame. `netns` names the network
        namespace of both devices, "" for this one. Raises CaptureError without the devices or the permission.
        """
        self._netns = netns
        mtu = captured_in(self._netns, lambda: link(device)).mtu
        own = _not_from(captured_in(self._netns, lambda: link(tap)).address)
        on_tap, on_device = (tap, (*own, *after_filter)), (device, tuple(arriving_filter or after_filter))
        before, after = (on_device, on_tap) if arriving_filter else (on_tap, on_device)
        self._account = Account(
            mtu=mtu,
            sampling=sampling,
            classify=classify,
            horizon=horizon,
            audit_rate=audit_rate,
            taus=taus,
            detailed=detailed,
            size_of=size_of,
            hitters=hitters,
        )
        self._evidence = evidence
        # The same filter on both sides: frames are cut to the same length, and either leaves out what the other does.
        self._after = captured_in(self._netns, lambda: PacketRing(*after))
        try:
            self._before = captured_in(self._netns, lambda: PacketRing(*before))
        except BaseException:
            self._after.close()
            raise
        try:
            # The side after first: what comes in between is then unmatched, and not lost.
            self._after.start()
            self._before.start()
        except BaseException:
            self.close()
            raise
        self._newest_before = self._newest_after = 0
        self._filters, self._own, self._incoming = filters, own, bool(arriving_filter)
        self._sampling = Sampling(sampling, horizon, most=most)
        self._arrived = 0
        self._duty = duty or Duty(whole=math.inf)

    @property
    def due(self) -> float:
        """When it wants `tend` to be called next, CLOCK_REALTIME in seconds."""
        return self._duty.due

    def drain(self, *, now: float) -> CaptureWindow:
        """Everything that came in since the last drain; never waits. `now` is CLOCK_REALTIME in seconds.

        A packet is matched once both taps are known to be complete up to its time: 0.1 s late at the most where one of
        them is idle. Packets older than the horizon are lost. The first window begins with the first packet.
        Raises CaptureError when a device went down; frames come again when it is up.
        """
        complete = self.tend(now=now)
        drops = self._drops()
        window = self._account.window(now=now, complete=complete, drops=drops, listening=self._duty.share)
        if self._filters is not None:
            self._choose(self._filters, drops, now)
        return window

    def tend(self, *, now: float) -> int:
        """Reads and matches what came in, and listens behind the queue or rests, as its duty wants it.

        The time stamp (ns) up to which both taps are complete. Raises as `drain`, which tells what was found.
        """
        self._read()
        idle = int(now * 1e9) - _LAG
        complete = min(max(self._newest_before, idle), max(self._newest_after, idle))
        self._account.match(complete=complete)
        duty, listened = self._duty, self._duty.listens
        duty.turn(now=now, complete=complete, waiting=self._account.waiting)
        if duty.listens != listened:
            self._after.listen(outgoing=duty.listens)
        return complete

    def _choose(self, filters: Filters, drops: int, now: float) -> None:
        """The rate for what comes from now on."""
        chosen = self._sampling
        earlier = chosen.before, chosen.after
        # What the side after reads of what was picked before the last change is no reason for another.
        frames = round(self._arrived * (1 + self._duty.share))
        mixed = chosen.mixed
        chosen.take(frames, drops, now=now, sparing=self._duty.share < 1.0)
        # Of few packets each is looked at, and so is each at any time.
        self._duty.rate(self._arrived * earlier[0] if chosen.claimed > 1 and not mixed else 0, now=now)
        self._arrived = 0
        # The denser side first is the side after: what the side before picks must never be missed there.
        if chosen.after != earlier[1]:
            self._after.narrow(self._of(filters, chosen.after, before=False))
        if chosen.before != earlier[0]:
            self._before.narrow(self._of(filters, chosen.before, before=True))
        self._account.claim(chosen.claimed)

    def _of(self, filters: Filters, sampling: int, *, before: bool) -> tuple[Instruction, ...]:
        after_filter, arriving_filter = filters(sampling)
        if self._incoming:
            return tuple(arriving_filter) if before else (*self._own, *after_filter)
        return (*self._own, *after_filter) if before else tuple(after_filter)

    def settle(self, *, now: float, queued: Mapping[int, int] | None = None) -> CaptureWindow:
        """The last drain: what has not left is in flight as far as its class still holds packets, and the rest is lost.

        `queued` says how many each classid holds, from the leaves' counters; without it everything counts as in flight.
        Call it 0.1 s after the last packet: the rings hand over their last frames with a delay.
        """
        self._read()
        return self._account.settle(now=now, drops=self._drops(), queued=queued, listening=self._duty.share)

    def hitters(self, classid: int, count: int, *, secret: bytes = b"") -> tuple[Hitter, ...]:
        """As Account has them."""
        return self._account.hitters(classid, count, secret=secret)

    def close(self) -> None:
        """Gives back both sockets and their rings; a second call does nothing."""
        self._before.close()
        self._after.close()

    def _read(self) -> None:
        # The side after first: whatever is in it has been before.
        after = self._after.read()
        before = self._before.read()
        # Not the greatest ever seen: the clock may have been set back.
        self._newest_after = after[-1][0] if after else self._newest_after
        self._newest_before = before[-1][0] if before else self._newest_before
        self._arrived += len(before)
        self._duty.hear(after)
        self._account.pick(*self._duty.picks)
        self._account.add(before, after)
        if self._evidence is not None:
            self._evidence.add(before, after)

    def _drops(self) -> int:
        return self._before.drops() + self._after.drops()


def _not_from(address: bytes) -> tuple[Instruction, ...]:
    """Leaves out what the ifb sends by itself, such as router solicitations: they never come to the device."""
    return (
        (_LOAD_WORD, 0, 0, 6),
        (_JUMP_EQUAL, 0, 3, int.from_bytes(address[:4], "big")),
        (_LOAD_HALF, 0, 0, 10),
        (_JUMP_EQUAL, 0, 1, int.from_bytes(address[4:], "big")),
        (_RETURN, 0, 0, 0),
    )
