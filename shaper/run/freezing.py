"""`freeze` and `thaw`: the file that holds the controller of a device still, and how a running shaper follows it.

`frozen.json` stands in the device's folder and is for both directions. It outlives the run and the boot, and whoever
may write the folder can put it there or take it away: a running shaper looks at every tick, and no lock is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

from shaper.errors import ShaperError
from shaper.history.codec import decode, encode
from shaper.model.change import Who
from shaper.model.freeze import Freeze
from shaper.model.policy import Direction
from shaper.run import changes
from shaper.run.alarms import Alarms
from shaper.run.changes import Order
from shaper.run.state import DeviceState
from shaper.run.who import caller

_FILE = "frozen.json"


def read_freeze(state: DeviceState) -> Freeze | None:
    """What freezes the device, also when its time is over. Raises StateError when the file can't be read."""
    home = _home(state)
    data = home.read_json(_FILE)
    if data is None:
        return None
    with home.reading(_FILE):
        return decode(Freeze, data)


def standing(state: DeviceState) -> tuple[Freeze | None, str]:
    """What freezes the device, and what is wrong with the file, "" mostly.

    One that can't be read freezes, too: it was put there for that.
    """
    try:
        return read_freeze(state), ""
    except ShaperError as error:
        nobody = Freeze(Who(0, "nobody knows whom"), 0.0, f"{_FILE} can't be read")
        return nobody, f"{error.message}: the controller stands still until `shaper thaw`"


def write_freeze(state: DeviceState, freeze: Freeze | None) -> None:
    """On disk before it returns; None: nothing does any more. Raises StateError."""
    _home(state).write_json(_FILE, None if freeze is None else encode(freeze))


def freeze(state: DeviceState, order: Order, *, seconds: float | None) -> Freeze:
    """Freezes the device from now on, for so many seconds or until it is thawed."""
    made = Freeze(order.who, order.at, order.why, None if seconds is None else order.at + seconds)
    write_freeze(state, made)
    return made


def thaw(state: DeviceState, *, at: float) -> bool:
    """Ends it, whatever the file holds; whether it was frozen at this wall time."""
    try:
        found = read_freeze(state)
        was = found is not None and not found.over(at)
    except ShaperError:
        was = True
    write_freeze(state, None)
    return was


def noted(sides: Sequence[DeviceState], what: str, order: Order) -> str:
    """A line in the history of each direction that holds something of ours; why there is none, "" where there is.

    The caller holds the device's lock. What can't be written down is in force all the same.
    """
    try:
        for side in sides:
            if (record := side.record()) is not None:
                with changes.note(side, what=what, order=order, of=0, record=record, confirmation=""):
                    pass
    except ShaperError as error:
        return error.message
    return ""


class Freezing:
    """Follows the file for one direction of a running shaper."""

    def __init__(self, state: DeviceState, alarms: Alarms) -> None:
        self._state = state
        self._path = _home(state).folder / _FILE
        self._alarms = alarms
        self._seen: object = None
        self.freeze: Freeze | None = None
        """What freezes it, as it was last looked at."""

    def look(self, at: float) -> Freeze | None:
        """What freezes it at this wall time."""
        before, stamp = self.freeze, self._stamp()
        if stamp != self._seen:
            self._seen = stamp
            self.freeze, wrong = standing(self._state)
            if wrong:
                self._alarms.sound("frozen", wrong)
            else:
                self._alarms.end("frozen")
        # The other direction, or another run, may have been first to take away what is over.
        last = self.freeze or before
        if last is not None and last.over(at):
            self._end(at)
        return self.freeze

    def _end(self, at: float) -> None:
        self.freeze = None
        with self._alarms.watching("thawing"):
            write_freeze(self._state, None)
            if lacks := noted([self._state], "thaw", Order(caller(), at, "its time was over")):
                raise ShaperError(f"thawed, but not in the history: {lacks}")
        self._seen = self._stamp()

    def _stamp(self) -> object:
        try:
            found = self._path.lstat()
        except OSError as error:
            return None if isinstance(error, (FileNotFoundError, NotADirectoryError)) else error.errno
        return found.st_ino, found.st_mtime_ns, found.st_size


def _home(state: DeviceState) -> DeviceState:
    return state if state.direction is Direction.EGRESS else state.other()
