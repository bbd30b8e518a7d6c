"""The same analysis of a recorded pair of captures: before a queue and after it, stamped by one clock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from collectors import pcap
from collectors.account import Account
from collectors.capture import TAUS
from collectors.errors import CaptureError
from collectors.ring import Frame
from collectors.sample import FlowKey
from shaper.compile.tap import DETAILS
from shaper.errors import ShaperError
from shaper.model.match import Packet, classify
from shaper.model.measurement import Measurement
from shaper.model.policy import Direction, Interface
from shaper.run.measurement import wanted_of
from shaper.run.recorder import Recorder, Wanted

ALL = "all"
"""The one class of recordings without a policy."""

_CHUNK = 10**9
_AUDITED = 200
_ANY_SIZE = 1 << 20


def read_pair(
    before: Path,
    after: Path,
    *,
    interface: Interface | None,
    sampling: int = 1,
    horizon: float = 1.0,
    flows: int = 5,
    secret: bytes = b"",
) -> Measurement:
    """Delay, loss and the rest of each class of the interface, or of all packets as one without it.

    The recordings hold one packet in `sampling`. What has not left within `horizon` (s) was lost; what came less than
    that before the end may still be on its way. Raises ShaperError where a file cannot be read.
    """
    paths = dict(enumerate((leaf.path for leaf in interface.leaves()), 1)) if interface is not None else {1: ALL}
    wanted = wanted_of(interface) if interface is not None else {ALL: Wanted()}
    rules = interface.rules() if interface is not None else None
    numbers = {path: number for number, path in paths.items()}

    def classid(key: FlowKey) -> int:
        return 1 if rules is None else numbers[classify(rules, Packet(*key))]

    account = Account(
        mtu=_ANY_SIZE,
        sampling=sampling,
        classify=classid,
        horizon=horizon,
        audit_rate=_AUDITED,
        taus=TAUS,
        detailed=rules is not None and not rules.asked().keys().isdisjoint(DETAILS),
        hitters=True,
    )
    recorder = Recorder(paths, wanted)
    begun = ended = None
    try:
        for first, second in _chunks(before, after):
            account.add(first, second)
            stamps = [side[end][0] for side in (first, second) if side for end in (0, -1)]
            begun, ended = begun or min(stamps), max(stamps)
            recorder.add(account.window(now=ended / 1e9, complete=ended, drops=0))
    except CaptureError as error:
        raise ShaperError(str(error), hint=error.hint) from error
    except OSError as error:
        raise ShaperError(f"{error.filename}: {error.strerror}", hint="name two captures that are there") from error
    if ended is None or begun is None:
        raise ShaperError(f"{before} and {after} hold no frames", hint="record both while there is traffic")
    recorder.add(account.settle(now=ended / 1e9, drops=0, queued=None))
    return Measurement(
        interface=interface.name if interface is not None else "",
        device=f"{before} - {after}",
        direction=interface.direction if interface is not None else Direction.EGRESS,
        source="file",
        seconds=(ended - begun) / 1e9,
        sampling=sampling,
        classes=recorder.measures(lambda number: account.hitters(number, flows, secret=secret), source="file"),
        capture=recorder.health,
    )


def _chunks(before: Path, after: Path) -> Iterator[tuple[list[Frame], list[Frame]]]:
    """A second of both files at a time, until the second ends: what became of later packets is not in it."""
    first, second = _Side(pcap.frames(before)), _Side(pcap.frames(after))
    while second.head is not None:
        stamp = min(side.head[0] for side in (first, second) if side.head is not None) + _CHUNK
        yield first.until(stamp), second.until(stamp)


class _Side:
    """A file that is read no further than is asked for."""

    def __init__(self, frames: Iterator[Frame]) -> None:
        self._frames = frames
        self.head = next(frames, None)

    def until(self, stamp: int) -> list[Frame]:
        taken: list[Frame] = []
        while self.head is not None and self.head[0] <= stamp:
            taken.append(self.head)
            self.head = next(self._frames, None)
        return taken
