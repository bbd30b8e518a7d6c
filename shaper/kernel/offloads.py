"""What decides how large packets are: what a device is set to, which devices may feed another."""

from __future__ import annotations

import errno as errors
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence

from collectors.link import IFLA_GSO_MAX_SEGS, HasFileno, LinkReading, pack_link
from collectors.netlink import RTM_SETLINK, Channel, attribute
from collectors.offloads import feature_names, read_features, set_feature
from shaper.kernel.encode import Refused
from shaper.tree import GSO_MAX_SEGS, JOINING, Feeder, Offload

_NAMES: Mapping[str, str] = {"gro": "rx-gro", "lro": "rx-lro", "gro-hw": "rx-gro-hw"}
"""Ours to the kernel's. Kernels before 4.16 do not tell GRO in hardware from LRO."""
_FAR = frozenset({"veth", "tun", "netkit"})
"""Kinds whose packets come from another stack, which may have joined them; a virtual machine's are seen by nobody."""


class Offloads:
    """The offloads of one network namespace's devices, over a socket of that namespace."""

    def __init__(self, sock: HasFileno) -> None:
        self._socket = sock
        self._known: Mapping[str, int] = {}

    def of(self, devices: Iterable[LinkReading]) -> Iterator[Offload]:
        """Every setting of these devices, as it is. Raises OSError."""
        for device in devices:
            yield Offload(device.name, GSO_MAX_SEGS, device.gso_max_segs)
            for name, on, changeable in self._joining(device.name):
                if on or changeable:
                    yield Offload(device.name, name, int(on))

    def feeder(self, device: LinkReading, *, feeds: bool) -> Feeder:
        """A device as one that may hand over joined packets. Raises OSError."""
        joins = [(name, on, changeable) for name, on, changeable in self._joining(device.name) if on or changeable]
        return Feeder(
            device.name,
            tuple(name for name, _, changeable in joins if changeable),
            feeds,
            tuple(name for name, on, changeable in joins if on and not changeable),
            device.kind in _FAR,
            device.ifindex,
        )

    def change(self, channel: Channel, index: int, wanted: Offload) -> None:
        """Sets it. Raises NetlinkError, OSError, and Refused where the driver left it as it was."""
        if wanted.name == GSO_MAX_SEGS:
            number = attribute(IFLA_GSO_MAX_SEGS, struct.pack("=I", wanted.value))
            channel.request(RTM_SETLINK, 0, pack_link(index) + number)
            return
        names = self._names()
        set_feature(self._socket, wanted.device, names[_NAMES[wanted.name]], len(names), on=bool(wanted.value))
        now = {name: on for name, on, _ in self._joining(wanted.device)}
        if now.get(wanted.name) is not bool(wanted.value):
            raise Refused(errors.EOPNOTSUPP, f"the driver leaves {wanted.name} as it is")

    def _names(self) -> Mapping[str, int]:
        self._known = self._known or feature_names(self._socket)
        return self._known

    def _joining(self, device: str) -> list[tuple[str, bool, bool]]:
        names = self._names()
        asked = [(name, names[_NAMES[name]]) for name in JOINING if _NAMES[name] in names]
        found = read_features(self._socket, device, [number for _, number in asked], len(names))
        return [(name, *each) for (name, _), each in zip(asked, found or (), strict=found is not None)]


def feeding(device: LinkReading, all_devices: Sequence[LinkReading]) -> frozenset[str]:
    """The names of the devices from which packets may be forwarded to this one, as far as the kernel's settings tell.

    Those on which routing is on, the other ports of its bridge, and what those are made of or stand on: a bridge's or
    bond's ports, a VLAN's device, since packets are joined where they come in first.
    """
    by_index = {each.ifindex: each for each in all_devices}
    found: dict[int, LinkReading] = {}
    waiting = [
        each
        for each in all_devices
        if each.up and not each.loopback and each.kind != "ifb" and each.name != device.name
        if each.forwards or (device.master and each.master == device.master)
    ]
    while waiting:
        each = waiting.pop()
        if each.ifindex in found:
            continue
        found[each.ifindex] = each
        waiting += [port for port in all_devices if port.master == each.ifindex]
        if each.kind not in _FAR and each.below in by_index:
            waiting.append(by_index[each.below])
    return frozenset(each.name for each in found.values())
