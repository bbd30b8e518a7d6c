"""The scalars of a match beyond addresses and ports: from what YAML gave to what it means, or a refusal with its mend.

As in `values`, every function takes the bare value and raises PydanticCustomError.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from shaper.model.device import Offloads
from shaper.model.match import ICMP, ICMPV6, MAX_LENGTH, Masked, PortRange
from shaper.policy.kinds import Kind
from shaper.policy.names import (
    DSCP_NAMES,
    ECN_NAMES,
    ETHERTYPE_NAMES,
    FAMILY_NAMES,
    ICMP_TYPE_NAMES,
    PROTOCOL_NAMES,
    TCP_FLAG_NAMES,
    VLAN_ETHERTYPES,
)
from shaper.policy.text import did_you_mean, quoted
from shaper.policy.values import named_number, refuse, said

LAST_VLAN = 4094
_RANGE = re.compile(r"([0-9]{1,9})\s*-\s*([0-9]{1,9})\Z")
_MAC = re.compile(r"[0-9a-fA-F]{2}([:-])[0-9a-fA-F]{2}(?:\1[0-9a-fA-F]{2}){4}\Z")
_NUMBER = re.compile(r"0x[0-9a-fA-F]{1,8}\Z|[0-9]{1,10}\Z")
_DEVICE = re.compile(r"(?!\.{1,2}\Z)[^\s/:\x00]{1,15}\Z")  # dev_valid_name() in net/core/dev.c
_LONGEST_DEVICE = 15  # bytes: IFNAMSIZ


def dscp(value: object) -> int:
    """A name such as `ef`, in either case, or 0 to 63."""
    return named_number(value, DSCP_NAMES, Kind.UNKNOWN_DSCP, "a DSCP", 63)


def protocol(value: object) -> int:
    """A name such as `udp`, in either case, or 0 to 255."""
    return named_number(value, PROTOCOL_NAMES, Kind.UNKNOWN_PROTOCOL, "a protocol", 255)


def ecn(value: object) -> int:
    """`ce`, `ect0`, `ect1`, `not-ect`, or 0 to 3."""
    return named_number(value, ECN_NAMES, Kind.UNKNOWN_NAME, "an ECN code point", 3)


def family(value: object) -> int:
    """`ipv4` or `ipv6` -> the ethertype."""
    if isinstance(value, str) and value.lower() in FAMILY_NAMES:
        return FAMILY_NAMES[value.lower()]
    raise refuse(Kind.UNKNOWN_NAME, f"{said(value)} is not an IP version", "write ipv4 or ipv6")


def ethertype(value: object) -> int:
    """A name such as `arp`, or a number from 0x600, such as 0x8847; a VLAN tag is none."""
    number = named_number(value, ETHERTYPE_NAMES, Kind.UNKNOWN_NAME, "an ethertype", 0xFFFF)
    if number in VLAN_ETHERTYPES:
        hint = "match the tag by `vlan` or `pcp`, and what it carries by its own ethertype"
        raise refuse(Kind.OUT_OF_RANGE, f"{number:#06x} is a VLAN tag, which every other field looks behind", hint)
    if number < 0x600:
        hint = "ethertypes start at 0x600; frames with a length go to network-control"
        raise refuse(Kind.OUT_OF_RANGE, f"{said(value)} is the length of a frame, not an ethertype", hint)
    return number


def icmp_type(value: object) -> tuple[tuple[int, int], ...]:
    """A name such as `echo-request`, or a number: (protocol, type) in each IP version that has it."""
    if isinstance(value, str) and value.lower() in ICMP_TYPE_NAMES:
        numbers = ICMP_TYPE_NAMES[value.lower()]
    else:
        number = named_number(value, dict.fromkeys(ICMP_TYPE_NAMES, 0), Kind.UNKNOWN_NAME, "an ICMP type", 255)
        numbers = number, number
    return tuple((own, kind) for own, kind in zip((ICMP, ICMPV6), numbers, strict=True) if kind is not None)


def tcp_flags(value: object) -> Masked:
    """`syn` where it is set, or `{set: [syn], unset: [ack]}`."""
    if not isinstance(value, dict):
        bit = _flag(value)
        return Masked(bit, bit)
    for key in value:
        if key not in ("set", "unset"):
            hint = "such as `tcp-flags: {set: [syn], unset: [ack]}`"
            raise refuse(Kind.UNKNOWN_NAME, f"{quoted(key)} says neither `set` nor `unset`", hint)
    on, off = (_flags(value.get(key, [])) for key in ("set", "unset"))
    if on & off:
        raise refuse(Kind.NEVER_MATCHES, "a flag is asked to be both set and unset", "keep it in one of the two")
    if not on | off:
        raise refuse(Kind.EMPTY, "no flag is asked for", "such as `tcp-flags: {set: [syn], unset: [ack]}`")
    return Masked(on, on | off)


def _flags(value: object) -> int:
    bits = 0
    for each in value if isinstance(value, list) else [value]:
        bits |= _flag(each)
    return bits


def _flag(value: object) -> int:
    if isinstance(value, str) and value.lower() in TCP_FLAG_NAMES:
        return TCP_FLAG_NAMES[value.lower()]
    hint = f"{did_you_mean(str(value).lower(), TCP_FLAG_NAMES)}use one of {', '.join(TCP_FLAG_NAMES)}"
    raise refuse(Kind.UNKNOWN_NAME, f"{said(value)} is not a TCP flag", hint)


def tos(value: object) -> Masked:
    """`0x10`, or with a mask: `0x10/0xfc`."""
    return _masked(value, 0xFF, "a type-of-service byte", "0x10 or 0x10/0xfc")


def mark(value: object) -> Masked:
    """`7`, or with a mask: `0x100/0xff00`."""
    return _masked(value, 0xFFFFFFFF, "a mark", "7 or 0x100/0xff00")


def _masked(value: object, most: int, what: str, example: str) -> Masked:
    parts = [value] if isinstance(value, int) else str(value).split("/")
    plain = not isinstance(value, (bool, float)) and len(parts) <= 2
    if not plain or not all(isinstance(part, int) or _NUMBER.match(part) for part in parts):
        raise refuse(Kind.BAD_MASK, f"{said(value)} is not {what}", f"such as {example}")
    numbers = [part if isinstance(part, int) else int(part, 0 if part.startswith("0x") else 10) for part in parts]
    number, mask = numbers[0], numbers[1] if len(numbers) == 2 else most
    if not (0 <= number <= most and 0 < mask <= most):
        raise refuse(Kind.BAD_MASK, f"{said(value)} is beyond {what}", f"numbers up to {most:#x}, a mask above 0")
    if number & ~mask:
        hint = f"write {number & mask:#x}/{mask:#x}, or widen the mask"
        raise refuse(Kind.BAD_MASK, f"{said(value)} asks for bits that its mask leaves out", hint)
    return Masked(number, mask)


def mac(value: object) -> int:
    """`02:00:5e:10:00:01`."""
    if isinstance(value, str) and _MAC.match(value):
        return int(re.sub("[:-]", "", value), 16)
    raise refuse(Kind.BAD_MAC, f"{said(value)} is not a MAC address", "six bytes, such as 02:00:5e:10:00:01")


def length(value: object) -> PortRange:
    """IP bytes: `1500`, `0-128`."""
    return _range(value, MAX_LENGTH, "a length in bytes", "64 or 0-128")


def vlan(value: object) -> PortRange:
    """A tag's number: `100`, `100-199`; 0 is a frame with a priority only."""
    return _range(value, LAST_VLAN, "a VLAN", "100 or 100-199")


def pcp(value: object) -> int:
    """0 to 7."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 7:
        raise refuse(Kind.OUT_OF_RANGE, f"{said(value)} is not a priority code point", "write a number from 0 to 7")
    return value


def _range(value: object, last: int, what: str, example: str) -> PortRange:
    span = None
    if isinstance(value, int) and not isinstance(value, bool):
        span = PortRange(value, value)
    elif isinstance(value, str) and (match := _RANGE.match(value)):
        span = PortRange(int(match[1]), int(match[2]))
    if span is None or not all(0 <= number <= last for number in span):
        raise refuse(Kind.OUT_OF_RANGE, f"{said(value)} is not {what}", f"0 to {last}, such as {example}")
    if span.first > span.last:
        hint = f"write {span.last}-{span.first}"
        raise refuse(Kind.REVERSED_RANGE, f"the range {said(value)} runs backwards", hint)
    return span


def is_device(name: str) -> bool:
    """Whether a network device can have this name."""
    return bool(_DEVICE.match(name)) and len(name.encode(errors="surrogatepass")) <= _LONGEST_DEVICE


def device(value: object) -> str:
    """The name of a network device."""
    if isinstance(value, str) and is_device(value) and value.isprintable():
        return value
    hint = "write it as `ip link` shows it: at most 15 characters, no blanks, slashes or colons"
    raise refuse(Kind.BAD_DEVICE, f"{said(value)} cannot be a network device", hint)


def netns(value: object) -> str:
    """The name of a network namespace: of a file under /run/netns."""
    named = isinstance(value, str) and value.isprintable() and "/" not in value and value not in ("", ".", "..")
    if isinstance(value, str) and named and len(value.encode()) < 256:
        return value
    hint = "write it as `ip netns list` shows it"
    raise refuse(Kind.BAD_NAME, f"{said(value)} cannot be a network namespace", hint)


def offloads(value: object) -> Offloads | None:
    """`auto`, `keep` (None), or `{feeding: [..]}`: auto with these devices, whatever the rate."""
    if value == "keep":
        return None
    if value == "auto":
        return Offloads()
    known = ("feeding",)
    if isinstance(value, dict) and value:
        for key in value:
            if key not in known:
                hint = f"{did_you_mean(str(key), known)}the key here is feeding"
                raise refuse(Kind.UNKNOWN_KEY, f"{quoted(key)} is no word of `offloads`", hint)
        names = value["feeding"] if isinstance(value["feeding"], list) else [value["feeding"]]
        if names:
            return Offloads(tuple(dict.fromkeys(map(device, names))))
        raise refuse(Kind.EMPTY, "no device is named that feeds this one", "name one, or write `offloads: auto`")
    hint = f"{did_you_mean(str(value), ('auto', 'keep'))}write auto, keep, or {{feeding: [lan0]}}"
    raise refuse(Kind.UNKNOWN_NAME, f"{said(value)} says nothing of offloads", hint)


def cgroup(value: object) -> str:
    """A path below the cgroup root: `/system.slice/backup.service`."""
    parts: Collection[str] = value.split("/")[1:] if isinstance(value, str) else ()
    if isinstance(value, str) and value.startswith("/") and value.isprintable() and not {"", ".", ".."} & set(parts):
        return value
    hint = "write it as /proc/PID/cgroup shows it, such as /system.slice/backup.service"
    raise refuse(Kind.BAD_CGROUP, f"{said(value)} is not the path of a cgroup", hint)
