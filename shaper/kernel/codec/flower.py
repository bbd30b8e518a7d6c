"""cls_flower: one attribute a key and one its mask, everything in network order.

Ports have an attribute for each protocol that has them; here they are one field, and `ip_proto` says which is meant.
The kernel dumps a key's mask even where none was sent, and leaves out what has an empty one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from collectors.netlink import attribute, attributes, text
from shaper.kernel.codec import actions as lists
from shaper.tree import FLOWER_FIELDS, IS_FRAGMENT, Action, FlowerKey, Handle, device_text, device_value, flower_key

_CLASSID, _INDEV, _ACT, _FLAGS, _IN_HW_COUNT = 1, 2, 3, 22, 86
_IN_HW, _NOT_IN_HW = 1 << 2, 1 << 3
_WHOLE = {"eth_type": 8, "ip_proto": 9, "sport_min": 87, "sport_max": 88, "dport_min": 89, "dport_max": 90}
_MASKED = {
    "ip_tos": (73, 74),
    "ip_flags": (47, 48),
    "icmpv6_type": (55, 56),
    "src4": (10, 11),
    "dst4": (12, 13),
    "src6": (14, 15),
    "dst6": (16, 17),
}
_PORTS: Mapping[int, Mapping[str, tuple[int, int]]] = {
    6: {"sport": (18, 35), "dport": (19, 36)},
    17: {"sport": (20, 37), "dport": (21, 38)},
    132: {"sport": (41, 39), "dport": (42, 40)},
}
"""By IP protocol: TCP, UDP and SCTP are all whose ports flower asks for."""

_IPV4, _IPV6, _ICMPV6 = 0x0800, 0x86DD, 58


class FlowerOptions(NamedTuple):
    """What a filter asks, sorted, the class that it names, and what is done to what meets it."""

    keys: tuple[FlowerKey, ...]
    classid: Handle
    actions: tuple[Action, ...] = ()


def encode(options: FlowerOptions) -> bytes:
    """The whole filter. The keys must be without `fault`."""
    data = attribute(_CLASSID, struct.pack("=I", options.classid)) if options.classid else b""
    masked = _masked_attributes(options.keys)
    for field, value, mask in options.keys:
        size = FLOWER_FIELDS[field] // 8
        if field == "indev":
            data += attribute(_INDEV, device_text(value).encode() + b"\0")
        elif field in _WHOLE:
            data += attribute(_WHOLE[field], value.to_bytes(size, "big"))
        else:
            for kind, number in zip(masked[field], (value, mask), strict=True):
                data += attribute(kind, number.to_bytes(size, "big"))
    return data + (attribute(_ACT, lists.encode(options.actions)) if options.actions else b"")


def decode(data: bytes) -> FlowerOptions | None:
    """Of a dumped filter; None for what is not ours to program: other keys, actions, a filter for hardware only."""
    found = {kind: value for kind, value in attributes(data).items() if kind != _IN_HW_COUNT}
    flags = _native(found.pop(_FLAGS, b""))
    classid = _native(found.pop(_CLASSID, b""))
    actions = lists.decode(found.pop(_ACT, b""))
    if actions is None or flags & ~(_IN_HW | _NOT_IN_HW):
        return None
    protocol = found.get(_WHOLE["ip_proto"], b"\0")[0]
    masked = {**_MASKED, **_PORTS.get(protocol, {})}
    device = text(found.pop(_INDEV, b""))
    keys = [flower_key("indev", device_value(device))] if device else []
    for field in FLOWER_FIELDS:
        if field in _WHOLE and _WHOLE[field] in found:
            keys.append(flower_key(field, int.from_bytes(found.pop(_WHOLE[field]), "big")))
        elif field in masked and masked[field][0] in found:
            value, mask = (int.from_bytes(found.pop(kind, b""), "big") for kind in masked[field])
            keys.append(flower_key(field, value, mask))
    options = FlowerOptions(tuple(sorted(keys)), classid, actions)
    return None if found or not _is_known(options.keys) else options


def _native(value: bytes) -> int:
    return int(struct.unpack_from("=I", value)[0]) if value else 0


def _is_known(keys: Iterable[FlowerKey]) -> bool:
    return all(key.mask and (key.field != "ip_flags" or key.mask == IS_FRAGMENT) for key in keys)


def _masked_attributes(keys: Iterable[FlowerKey]) -> Mapping[str, tuple[int, int]]:
    protocol = next((key.value for key in keys if key.field == "ip_proto"), -1)
    return {**_MASKED, **_PORTS.get(protocol, {})}


def fault(keys: tuple[FlowerKey, ...], protocol: int) -> str:
    """Why a filter of that protocol's preference can't have these keys, "" when it can.

    Some the kernel refuses; others it leaves out without a word, and the filter then matches more than it should.
    """
    if list(keys) != sorted({key.field: key for key in keys}.values()):
        return "the keys are not sorted, or two are of one field"
    for field, value, mask in keys:
        if field not in FLOWER_FIELDS or not mask or flower_key(field, value, mask) != (field, value, mask):
            return f"{field} {value:#x}/{mask:#x} is no key in canonical form"
        if field in (*_WHOLE, "indev") and mask != flower_key(field, 0).mask:
            return f"{field} has no mask"
    if not _is_known(keys):
        return "of ip_flags only the fragment's is asked"
    return _alone({key.field: key.value for key in keys}, protocol)


def _alone(asked: Mapping[str, int], protocol: int) -> str:
    """Which key lacks another without which the kernel would not look at it."""
    ethertype, transport = asked.get("eth_type"), asked.get("ip_proto")
    if ethertype is not None and ethertype != protocol:
        return f"eth_type {ethertype:#06x} is never met in a preference of protocol {protocol:#06x}"
    if ethertype not in (_IPV4, _IPV6) and asked.keys() - {"eth_type", "indev"}:
        return "what is asked of IP needs eth_type"
    if asked.keys() & ({"src6", "dst6"} if ethertype == _IPV4 else {"src4", "dst4"}):
        return "an address of the other IP version is never met"
    if "icmpv6_type" in asked and (ethertype, transport) != (_IPV6, _ICMPV6):
        return "icmpv6_type needs ip_proto 58 of IPv6"
    if any(field[1:].startswith("port") for field in asked) and transport not in _PORTS:
        return "ports need an ip_proto that is TCP, UDP or SCTP"
    for side in ("sport", "dport"):
        first, last = asked.get(f"{side}_min"), asked.get(f"{side}_max")
        if (first is None) != (last is None) or (first is not None and last is not None and first >= last):
            return f"a range of {side} needs both ends, the first below the last"
    return ""
