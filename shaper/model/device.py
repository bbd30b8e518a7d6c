"""Which device an interface means, where the policy does not simply name it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

from shaper.errors import Where


def spot(netns: str, device: str) -> str:
    """A device for people, commands and keys: its name, behind that of its network namespace where it has one."""
    return f"{netns}/{device}" if netns else device


def split_spot(text: str) -> tuple[str, str]:
    """The namespace ("" for this one) and the device; no device has a slash in its name."""
    netns, _, device = text.rpartition("/")
    return netns, device


class DeviceName(NamedTuple):
    """A device of the machine: its name, its alternative names, its hardware address ("" where it has none)."""

    name: str
    others: tuple[str, ...] = ()
    mac: str = ""


@dataclass(frozen=True, slots=True)
class Offloads:
    """That super-packets are kept from the queue, by changing offloads; `feeding` names the devices that feed it."""

    feeding: tuple[str, ...] = ()
    where: Where | None = None


@dataclass(frozen=True, slots=True)
class Selector:
    """One of the three: a name (or an alternative one), a hardware address, a pattern of the shell's kind."""

    name: str = ""
    mac: str = ""
    pattern: str = ""

    def __str__(self) -> str:
        return f"MAC {self.mac}" if self.mac else f"pattern {self.pattern}" if self.pattern else self.name

    def among(self, devices: Iterable[DeviceName]) -> tuple[str, ...]:
        """The names of the devices that it means, sorted. A device's own name comes before another's alternative."""
        there = tuple(devices)
        if self.name:
            own = [device.name for device in there if device.name == self.name]
            found = own or [device.name for device in there if self.name in device.others]
        elif self.mac:
            found = [device.name for device in there if device.mac == self.mac]
        else:
            found = [
                device.name
                for device in there
                if any(fnmatchcase(name, self.pattern) for name in (device.name, *device.others))
            ]
        return tuple(sorted(found))
