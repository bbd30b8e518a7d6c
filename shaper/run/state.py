"""The state folder: who writes an interface, what of it is ours, and what a killed apply left to take back.

`<folder>/<network namespace>/<device>/` holds `lock` (flock, one writer for both directions), `record.json` (the proof
that a root handle is ours, and the handles for life), `pending.json` (the steps of an apply under way), `together.json`
(how it stood before a change of several directions that is under way, see `together`), `confirm.json` and
`refused.json` (see `waiting`), `frozen.json` (see `freezing`), `released.json` (the offloads that a `release` left),
`changes.log` with `policies/` (the history of changes) and `history.db`. All but the lock and `frozen.json` are of what
goes out; a folder `ingress` below has the same of what comes in. `netns` has the name of the namespace where the device
was reached by it from another.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from collectors.netlink import NAMESPACES, inside, namespaces
from shaper.errors import Exit, ShaperError, TryAgainError
from shaper.files import read_regular, replace_file
from shaper.kernel import explain
from shaper.model.device import split_spot, spot
from shaper.model.policy import Direction, place_text, shaped_device
from shaper.plan.codec import from_json, to_json
from shaper.run.record import Pending, Record, record_from_json, record_to_json

__all__ = [
    "DeviceState",
    "Pending",
    "Record",
    "StateError",
    "boot_id",
    "both_directions",
    "default_folder",
    "known_devices",
    "namespace_key",
    "record_from_json",
    "record_to_json",
    "storied_devices",
    "waiting_devices",
]

_LARGEST = 64 * 2**20
_SO_NETNS_COOKIE = 71
_HOST_COOKIE = 1
_NETNS = "netns"
"""A file that names the network namespace of a device that was reached from outside."""


class StateError(ShaperError):
    """The state folder can't be read or written. `because` of EACCES or EPERM the exit code says so."""

    def __init__(self, message: str, *, hint: str = "", because: OSError | None = None) -> None:
        super().__init__(message, hint=hint)
        if because is not None and because.errno in (errno.EACCES, errno.EPERM):
            self.exit = Exit.NOT_PERMITTED


def default_folder() -> Path:
    """`/var/lib/shaper` for root, else under `$XDG_STATE_HOME`."""
    if os.geteuid() == 0 and os.access("/var/lib", os.W_OK):
        return Path("/var/lib/shaper")
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "shaper"


def namespace_key(netns: str = "") -> str:
    """A name for a network namespace, unique until the next boot: `host` or `net-<cookie>`.

    Without a name for the calling process's. Raises UnavailableError, NotPermittedError.
    """
    try:
        probe = inside(netns or None, lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    except OSError as error:
        raise explain.no_namespace(netns, error, namespaces()) from error
    with probe:
        try:
            cookie = int.from_bytes(probe.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), "little")
        except OSError:  # before Linux 5.14
            path = NAMESPACES / netns if netns else Path("/proc/self/ns/net")
            return f"ns-{path.stat().st_ino}"
    return "host" if cookie == _HOST_COOKIE else f"net-{cookie}"


def boot_id() -> str:
    """The kernel's random id of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class DeviceState:
    """The folder of one direction of a device in one network namespace; the lock and the socket are the device's."""

    def __init__(
        self, folder: Path, device: str, direction: Direction = Direction.EGRESS, *, namespace: str | None = None
    ) -> None:
        """`device` may stand behind the name of its network namespace, as in `blue/eth1`.

        Raises UnavailableError, NotPermittedError where that cannot be entered.
        """
        self.netns, self.device = split_spot(device)
        self.direction = direction
        self.root = folder
        self.home = folder / (namespace or namespace_key(self.netns)) / self.device
        self.folder = self.home if direction is Direction.EGRESS else self.home / direction.value

    @property
    def spot(self) -> str:
        """The device, with the network namespace where it is named."""
        return spot(self.netns, self.device)

    @property
    def key(self) -> str:
        """The shaped device, with the network namespace where it is named."""
        return spot(self.netns, self.shaped)

    @property
    def shaped(self) -> str:
        """The device whose queue is shaped."""
        return shaped_device(self.device, self.direction)

    @property
    def fed_by(self) -> str:
        """The device whose incoming packets are sent to it, "" for what goes out."""
        return "" if self.direction is Direction.EGRESS else self.device

    @property
    def title(self) -> str:
        """For people: the device, and the direction where it is not the usual one."""
        return place_text(self.spot, self.direction)

    def other(self) -> DeviceState:
        """The other direction of the same device."""
        other = Direction.INGRESS if self.direction is Direction.EGRESS else Direction.EGRESS
        return DeviceState(self.root, self.spot, other, namespace=self.home.parent.name)

    @property
    def place(self) -> str:
        """The device, behind the key of its network namespace: what finds its folder again from any other."""
        return f"{self.home.parent.name}/{self.spot}"

    def on(self, place: str, direction: Direction) -> DeviceState:
        """The folder of a direction of the device at another place."""
        key, _, spot = place.partition("/")
        return DeviceState(self.root, spot, direction, namespace=key)

    def within_reach(self) -> bool:
        """Whether the device is where a program in this network namespace would look for it."""
        try:
            return self.home.parent.name == namespace_key(self.netns)
        except ShaperError:
            return False

    def beside(self) -> Record | None:
        """What is ours of the other direction, also what an apply that was killed there may have put in place."""
        return self.other().latest()

    def others(self) -> list[Record]:
        """What is ours elsewhere in this network namespace, also what an apply that was killed may have put in place.

        Raises StateError where that can't be looked at.
        """
        devices = _devices(self.root, DeviceState.known, namespace=self.home.parent.name)
        sides = (
            DeviceState(self.root, device, direction, namespace=self.home.parent.name)
            for device in devices
            for direction in Direction
        )
        return [record for side in sides if side.folder != self.folder and (record := side.latest())]

    def latest(self) -> Record | None:
        """The record, or the one that an apply was about to write when it was killed."""
        pending = self.pending()
        return (pending.after or pending.before) if pending else self.record()

    def has(self, *names: str) -> bool:
        """Whether one of the files is there. Raises StateError where that can't be looked at."""
        try:
            return any(_is_there(self.folder / name) for name in names)
        except OSError as error:
            raise StateError(
                f"the state folder {self.folder} can't be read: {error.strerror}",
                hint="run as the user who applied, or name another with --state DIR",
                because=error,
            ) from error

    def known(self) -> bool:
        """Whether something is ours here, or under way."""
        return self.has("record.json", "pending.json", "confirm.json", "together.json")

    @property
    def history(self) -> Path:
        return self.folder / "history.db"

    @property
    def socket(self) -> Path:
        return self.home / "socket"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Holds both directions for one writer. Raises TryAgainError when somebody else does."""
        self._make()
        try:
            # Never through a link, and never waiting: what stands there may be anything.
            file = os.open(self.home / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o640)
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(file, 100).decode(errors="replace").strip() or "another process"
                raise TryAgainError(
                    f"{self.device} is being changed by {holder}",
                    hint="wait for it to end; while `shaper run` is up, commands go through its socket",
                ) from None
            with contextlib.suppress(OSError):  # a full disk: only the holder's number is missing then
                os.ftruncate(file, 0)
                os.write(file, f"process {os.getpid()}".encode())
            yield
        finally:
            os.close(file)

    def record(self) -> Record | None:
        """What is ours, or None. Raises StateError when the file can't be read."""
        data = self.read_json("record.json")
        with self.reading("record.json"):
            return None if data is None else record_from_json(data)

    def write_record(self, record: Record | None) -> None:
        """Replaces the record in one step, on disk before it returns; None removes it."""
        self.write_json("record.json", None if record is None else record_to_json(record))

    def let_go(self) -> Record | None:
        """What a `release` of this boot left as we had made it: the record with the offloads it then named."""
        data = self.read_json("released.json")
        if data is None:
            return None
        with self.reading("released.json"):
            record = record_from_json(data)
        return record if record.boot == boot_id() else None

    def write_let_go(self, record: Record | None) -> None:
        """On disk before it returns; None removes it."""
        self.write_json("released.json", None if record is None else record_to_json(record))

    def pending(self) -> Pending | None:
        """The apply that was begun and neither finished nor taken back."""
        data = self.read_json("pending.json")
        if data is None:
            return None
        with self.reading("pending.json"):
            return Pending(
                from_json(data["plan"]),
                record_from_json(data["before"]) if data["before"] else None,
                record_from_json(data["after"]) if data["after"] else None,
            )

    def write_pending(self, pending: Pending | None) -> None:
        """Puts the steps on disk before the first is sent; None says that the apply is over."""
        self.write_json(
            "pending.json",
            None
            if pending is None
            else {
                "plan": to_json(pending.plan),
                "inverse": to_json(pending.plan.inverse()),
                "before": record_to_json(pending.before) if pending.before else None,
                "after": record_to_json(pending.after) if pending.after else None,
            },
        )

    @contextlib.contextmanager
    def reading(self, name: str) -> Iterator[None]:
        """What does not fit in here is damage to that file of the folder."""
        try:
            yield
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._damaged(name, error) from error

    def _make(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o750)
            if self.netns and not _is_there(self.home / _NETNS):
                replace_file(self.home / _NETNS, self.netns.encode())
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> StateError:
        return StateError(
            f"the state folder {self.folder} can't be written: {error.strerror}",
            hint="name one that can with --state DIR; without it a killed apply could not be taken back",
            because=error,
        )

    def _damaged(self, name: str, error: Exception) -> StateError:
        return StateError(
            f"{self.folder / name} is damaged: {error}",
            hint="look at it; after removing it the tree on the device counts as somebody else's",
        )

    def read_json(self, name: str) -> dict[str, Any] | None:
        """The object in a file of the folder, None where there is none. Raises StateError."""
        try:
            data = json.loads(read_regular(self.folder / name, most=_LARGEST))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(
                f"{self.folder / name} can't be read: {error.strerror}",
                hint="run as the user who applied, or name another with --state DIR",
                because=error,
            ) from error
        except (ValueError, RecursionError) as error:
            raise self._damaged(name, error) from error
        if not isinstance(data, dict):
            raise self._damaged(name, ValueError("not an object"))
        return data

    def write_json(self, name: str, data: Mapping[str, Any] | None) -> None:
        """Replaces a file in one step, on disk before it returns; None removes it. Raises StateError."""
        path = self.folder / name
        self._make()
        try:
            if data is not None:
                replace_file(path, json.dumps(data, sort_keys=True).encode())
                return
            path.unlink(missing_ok=True)
            folder = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise self._unwritable(error) from error


def known_devices(folder: Path) -> tuple[str, ...]:
    """The devices that the state folder has something of ours for, or under way.

    Those of this network namespace, and such as `blue/eth1` that were reached from another.
    """
    return _devices(folder, DeviceState.known)


def storied_devices(folder: Path) -> tuple[str, ...]:
    """The devices that were ever changed, as `known_devices` names them."""
    return _devices(folder, lambda state: state.has("changes.log"))


def waiting_devices(folder: Path) -> tuple[str, ...]:
    """The devices on which a change waits for its confirmation, as `known_devices` names them."""
    return _devices(folder, lambda state: state.has("confirm.json"))


def frozen_devices(folder: Path) -> tuple[str, ...]:
    """The devices whose controller somebody holds still, as `known_devices` names them."""
    return _devices(folder, lambda state: state.has("frozen.json"))


def both_directions(folder: Path, device: str) -> tuple[DeviceState, ...]:
    """The folders of a device, used or not."""
    return tuple(DeviceState(folder, device, direction) for direction in Direction)


def _devices(folder: Path, has: Callable[[DeviceState], bool], *, namespace: str | None = None) -> tuple[str, ...]:
    """Of one namespace, or of this one and those whose devices were reached from outside.

    Raises StateError where that can't be looked at: a folder that is closed to us is not an empty one.
    """
    own = namespace or namespace_key()
    try:
        there = _devices_in(folder / own, own, has)
        if namespace is None:
            there += [name for path in sorted(folder.iterdir()) if path.name != own for name in _named(path, has)]
        return tuple(there)
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        raise StateError(
            f"the state folder {folder / own} can't be read: {error.strerror}",
            hint="run as the user who applied, or name another with --state DIR",
            because=error,
        ) from error


def _devices_in(here: Path, key: str, has: Callable[[DeviceState], bool]) -> list[str]:
    """Raises OSError."""
    try:
        names = sorted(path.name for path in here.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    sides = {name: [DeviceState(here.parent, name, way, namespace=key) for way in Direction] for name in names}
    return [name for name in names if any(map(has, sides[name]))]


def _named(here: Path, has: Callable[[DeviceState], bool]) -> Iterator[str]:
    """The devices of another namespace that were reached by its name, as long as that is still its. Raises OSError."""
    for path in sorted(here.glob(f"*/{_NETNS}")):
        netns, device = path.read_text(), path.parent.name
        with contextlib.suppress(ShaperError):
            if namespace_key(netns) == here.name and device in _devices_in(here, here.name, has):
                yield spot(netns, device)


def _is_there(path: Path) -> bool:
    """Also a link to nowhere in a file's place is something that must be looked at. Raises OSError."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
