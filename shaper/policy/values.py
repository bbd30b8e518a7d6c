"""One scalar of a policy at a time: from what YAML gave to what it means, or a refusal with its mend.

Every function takes the bare value and raises PydanticCustomError, whose type is the kind of the problem and whose
context holds `message` and `hint`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, TypeVar

from netaddr import INET_PTON, AddrFormatError, IPAddress
from pydantic_core import PydanticCustomError

from shaper.model.device import Selector
from shaper.model.link import LINK_LAYERS, LinkLayer
from shaper.model.match import PortRange, Prefix
from shaper.model.nat import Nat
from shaper.model.policy import STRICT, Backend, Burst, Classifier, Drift, Incoming, OnFlap, Tier
from shaper.model.service import SERVICE_CLASSES
from shaper.policy.kinds import Kind
from shaper.policy.names import SERVICE_PORTS
from shaper.policy.text import did_you_mean, quoted
from shaper.units import UnitError, format_duration, parse_duration, parse_percent, parse_rate, parse_size

_PORTS = re.compile(r"([0-9]{1,9})\s*-\s*([0-9]{1,9})\Z")
REMAINING = "remaining"
_LONGEST_TEXT = 64
_LONGEST_NAME = 127  # ALTIFNAMSIZ, less the closing zero
_MAC = re.compile(r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}\Z")
_LARGEST_MARGIN = 0.5
LONGEST_TIME = 10.0
_LARGEST_BURST = 10**9

_T = TypeVar("_T")


class Amount(NamedTuple):
    """A rate in bit/s, or a ratio of something that is known later, or the `rest` that others leave of it."""

    rate: int = 0
    ratio: float | None = None
    rest: bool = False

    @property
    def relative(self) -> bool:
        """Whether it means nothing until it is known of what."""
        return self.rest or self.ratio is not None

    def of(self, whole: int, taken: int = 0) -> int:
        """In bit/s, to the nearest bit, of `whole` bit/s, `taken` of which are others'."""
        if self.rest:
            return max(0, whole - taken)
        return self.rate if self.ratio is None else round(whole * self.ratio)


class Unread(str):
    """What stands in the place of a list of addresses that could not be read: the refusal of its values."""

    kind: Kind
    hint: str

    def __new__(cls, kind: Kind, message: str, hint: str) -> Unread:
        made = super().__new__(cls, message)
        made.kind, made.hint = kind, hint
        return made


def refuse(kind: Kind, message: str, hint: str) -> PydanticCustomError:
    """The error to raise for a value that is wrong."""
    return PydanticCustomError(kind.value, "{message}", {"message": message, "hint": hint})


def said(value: object) -> str:
    """What stands there, in a person's words."""
    if value is None:
        return "nothing"
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    return str(value).lower() if isinstance(value, bool) else quoted(value)


def quantity(value: object, parse: Callable[[str], _T], what: str, example: str) -> _T:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise refuse(Kind.WRONG_TYPE, f"expected {what}, found {said(value)}", f"such as {example}")
    text = str(value)
    if len(text) > _LONGEST_TEXT:
        raise refuse(Kind.BAD_QUANTITY, f"{quoted(text)} is not {what}", f"such as {example}")
    try:
        return parse(text)
    except UnitError as error:
        raise refuse(Kind(error.kind), error.message, error.hint) from None


def duration_between(value: object, least: float, most: float, example: str, what: str) -> float:
    """Seconds of a duration from `least` to `most`; `what` says what another one is not."""
    seconds = quantity(value, parse_duration, "a duration", example)
    if not least <= seconds <= most:
        hint = f"from {format_duration(least)} to {format_duration(most)}"
        raise refuse(Kind.BAD_QUANTITY, f"{quoted(value)} is not {what}", hint)
    return seconds


def rate(value: object) -> int:
    """`20mbit` -> bit/s."""
    return quantity(value, parse_rate, "a rate", "20mbit")


def amount(value: object) -> Amount:
    """`20mbit` or `10%`."""
    if isinstance(value, str) and value.rstrip().endswith("%"):
        return Amount(ratio=ratio(value))
    return Amount(quantity(value, parse_rate, "a rate or a percentage", "20mbit or 25%"))


def limit(value: object) -> Amount:
    """As `amount`, and not nothing."""
    parsed = amount(value)
    if parsed.ratio == 0:
        raise refuse(Kind.BAD_PERCENT, "a limit of 0% lets nothing through", "such as 25%, or leave the class out")
    return parsed


def guarantee(value: object) -> Amount:
    """As `amount`, or `remaining`: what the classes beside it leave."""
    return Amount(rest=True) if value == REMAINING else amount(value)


def limit_or_rest(value: object) -> Amount:
    """As `limit`, or `remaining`: never what the classes beside it are guaranteed."""
    return Amount(rest=True) if value == REMAINING else limit(value)


def ratio(value: object) -> float:
    """`5%` -> 0.05."""
    return quantity(value, parse_percent, "a percentage", "5%")


def margin(value: object) -> float:
    """`5%` -> 0.05, and something must be left."""
    parsed = ratio(value)
    if parsed > _LARGEST_MARGIN:
        raise refuse(Kind.BAD_PERCENT, f"a margin of {quoted(value)} leaves next to nothing", "at most 50%")
    return parsed


def device(value: object) -> Selector:
    """`eth1`, `{mac: "02:00:5e:10:00:01"}` or `{pattern: "ppp*"}`."""
    example = 'write its name, `{mac: "02:00:5e:10:00:01"}` or `{pattern: "ppp*"}`'
    if isinstance(value, str):
        return Selector(name=value)
    if not isinstance(value, dict) or len(value) != 1 or not set(value) <= {"mac", "pattern"}:
        raise refuse(Kind.WRONG_TYPE, f"expected a device, found {said(value)}", example)
    ((key, text),) = value.items()
    if not isinstance(text, str) or not text or len(text) > _LONGEST_NAME:
        raise refuse(Kind.BAD_DEVICE, f"{said(text)} is not a device's {key}", example)
    if key == "pattern":
        return Selector(pattern=text)
    if not _MAC.match(text):
        raise refuse(Kind.BAD_DEVICE, f"{said(text)} is not a hardware address", "six pairs of hexadecimal digits")
    return Selector(mac=text.lower().replace("-", ":"))


def one_of(names: Iterable[str], value: object, kind: Kind, wrong: str, *, or_else: str = "") -> str:
    """The value where it is one of the names; else `wrong` says of it what it is not or does not."""
    known = list(map(str, names))
    if isinstance(value, str) and value in known:
        return value
    hint = f"{did_you_mean(str(value), known)}use one of {', '.join(known)}{or_else}"
    raise refuse(kind, f"{said(value)} {wrong}", hint)


def link_layer(value: object) -> LinkLayer:
    """`docsis`, `adsl-pppoa-vcmux`: what the line puts around a packet."""
    return LINK_LAYERS[one_of(LINK_LAYERS, value, Kind.UNKNOWN_LINK, "is not a kind of link")]


def overhead(value: object) -> int:
    """Bytes on top of an IP packet, within the bounds of tc-cake(8)."""
    return _bytes(value, -64, 256)


def mpu(value: object) -> int:
    """The least that a packet counts for, in bytes."""
    return _bytes(value, 0, 256)


def _bytes(value: object, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        hint = f"write a whole number from {least} to {most}, without a unit"
        raise refuse(Kind.BAD_QUANTITY, f"{said(value)} is not a number of bytes around a packet", hint)
    return value


def share(value: object) -> float | None:
    """`60%` -> 60.0, the weight; None for `remaining`, which is what a class has that says none."""
    if value == REMAINING:
        return None
    weight = ratio(value) * 100
    if weight < 1:
        raise refuse(Kind.BAD_PERCENT, f"a share of {quoted(value)} is too small to mean anything", "at least 1%")
    return weight


def priority(value: object) -> int:
    """0 to 7, the first before the others; or `strict`, before them all."""
    if value == "strict":
        return STRICT
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 7:
        raise refuse(
            Kind.BAD_QUANTITY,
            f"{said(value)} is not a priority",
            "write a number from 0 (first) to 7 (last), or strict",
        )
    return value


def burst(value: object) -> Burst:
    """`5ms` of the rate, or `15kb`."""
    what, example = "a burst", "5ms or 15kb"
    if isinstance(value, str) and value.rstrip()[-1:].lower() == "s":
        seconds = quantity(value, parse_duration, what, example)
        if not 0 < seconds <= LONGEST_TIME:
            raise refuse(Kind.BAD_QUANTITY, f"{quoted(value)} is not a burst", "above 0 and at most 10s")
        return Burst(seconds=seconds)
    size = quantity(value, parse_size, what, example)
    if not 0 < size <= _LARGEST_BURST:
        raise refuse(Kind.BAD_QUANTITY, f"{quoted(value)} is not a burst", "above 0 and at most 1000mb")
    return Burst(size=size)


def step(value: object) -> int:
    """`100kbit` -> bit/s."""
    return quantity(value, parse_rate, "a rate", "100kbit")


def service(value: object) -> str:
    """`telephony`: a name of RFC 4594 or its successors."""
    return one_of(SERVICE_CLASSES, value, Kind.UNKNOWN_SERVICE_CLASS, "is not a service class")


def tier(value: object) -> Tier:
    """`special`, `priority` or `standard`."""
    names = {member.name.lower(): member for member in Tier}
    return names[one_of(names, value, Kind.UNKNOWN_TIER, "is not a tier")]


def classifier(value: object) -> Classifier:
    """`auto`, `bpf`, `flower` or `u32`."""
    return Classifier(
        one_of(Classifier, value, Kind.UNKNOWN_CLASSIFIER, "is not a classifier", or_else=", or leave it out")
    )


def backend(value: object) -> Backend:
    """`auto`, or a queueing discipline by tc's name."""
    return Backend(one_of(Backend, value, Kind.UNKNOWN_BACKEND, "is not a backend"))


def incoming(value: object) -> Incoming:
    """`queue` or `police`."""
    return Incoming(one_of(Incoming, value, Kind.UNKNOWN_NAME, "does not say what is done with what comes in"))


def nat(value: object) -> Nat:
    """`auto`, `yes` or `no`."""
    return Nat(one_of(Nat, value, Kind.UNKNOWN_NAT, "does not say whether addresses are translated"))


def on_flap(value: object) -> OnFlap:
    """`keep` or `reapply`."""
    return OnFlap(one_of(OnFlap, value, Kind.UNKNOWN_NAME, "does not say what a flap of the link does"))


def drift(value: object) -> Drift:
    """`mend` or `report`."""
    return Drift(one_of(Drift, value, Kind.UNKNOWN_NAME, "does not say what becomes of others' changes"))


_LEAST_BITS = 8
_MARK = re.compile(r"0x[0-9a-fA-F]+|[1-9][0-9]*\Z")


def mark_bits(value: object) -> int:
    """Eight bits or more of a mark in one run: `0xffff0000`."""
    bits = int(value, 0) if isinstance(value, str) and _MARK.match(value) else value
    if not isinstance(bits, int) or isinstance(bits, bool) or not _is_run(bits):
        hint = f"{_LEAST_BITS} or more of the 32 bits, side by side, such as 0xffff0000"
        shown = f"{value:#x}" if isinstance(value, int) and not isinstance(value, bool) else said(value)
        raise refuse(Kind.BAD_MASK, f"{shown} is not a run of a mark's bits", hint)
    return bits


def _is_run(bits: int) -> bool:
    if not 0 < bits < 1 << 32 or bits.bit_count() < _LEAST_BITS:
        return False
    run = bits // (bits & -bits)
    return run & run + 1 == 0


def version(value: object) -> int:
    """The number 1."""
    if isinstance(value, bool) or value != 1 or not isinstance(value, int):
        raise refuse(
            Kind.BAD_VERSION,
            f"{said(value)} is not a version that this shaper reads",
            "write `version: 1`, without quotes",
        )
    return value


def named_number(value: object, names: Mapping[str, int], kind: Kind, what: str, last: int) -> int:
    """One of the names, in either case, or 0 to `last`."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= last:
        return value
    if isinstance(value, str) and value.lower() in names:
        return names[value.lower()]
    known = f"use a number from 0 to {last} or one of {', '.join(names)}"
    raise refuse(kind, f"{said(value)} is not {what}", did_you_mean(str(value).lower(), names) + known)


def prefix(value: object) -> Prefix:
    """`203.0.113.0/24`, `2001:db8::1`: an address written in full, with or without a prefix length."""
    if isinstance(value, Unread):
        raise refuse(value.kind, str(value), value.hint)
    text, slash, length_text = str(value).partition("/")
    try:
        address = IPAddress(text, flags=INET_PTON)
    except (AddrFormatError, ValueError):  # ValueError where the text cannot be handed to inet_pton at all
        hint = "write all four numbers of an IPv4 address, or an IPv6 address in quotes"
        raise refuse(Kind.BAD_ADDRESS, f"{said(value)} is not an address or a network", hint) from None
    bits = 32 if address.version == 4 else 128
    if slash and not (re.fullmatch(r"[0-9]{1,3}", length_text) and int(length_text) <= bits):
        message = f"{quoted('/' + length_text)} is not a prefix length of IPv{address.version}"
        raise refuse(Kind.BAD_ADDRESS, message, f"write a number from 0 to {bits}, such as {text}/{bits}")
    length = int(length_text) if slash else bits
    network = int(address) >> (bits - length) << (bits - length)
    if network != int(address):
        whole = f"{IPAddress(network, address.version)}/{length}"
        raise refuse(
            Kind.HOST_BITS,
            f"{said(value)} has bits set beyond its prefix length",
            f"write {whole} for the network or {text}/{bits} for the one host",
        )
    return Prefix(address.version, network, length)


def ports(value: object) -> PortRange:
    """`443`, `16384-32767` or a service's name, such as `domain`."""
    if isinstance(value, int) and not isinstance(value, bool):
        first = last = value
    elif isinstance(value, str) and (match := _PORTS.match(value)):
        first, last = int(match[1]), int(match[2])
    elif isinstance(value, str) and value.lower() in SERVICE_PORTS:
        first = last = SERVICE_PORTS[value.lower()]
    else:
        guess = did_you_mean(str(value).lower(), SERVICE_PORTS)
        hint = f"{guess}write a number or a range, such as 443 or 5060-5061, or a service such as domain"
        raise refuse(Kind.BAD_PORT, f"{said(value)} is not a port", hint)
    if not (0 <= first <= 65535 and 0 <= last <= 65535):
        raise refuse(Kind.BAD_PORT, f"{said(value)} is beyond the ports there are", "ports are 0 to 65535")
    if first > last:
        raise refuse(Kind.REVERSED_RANGE, f"the range {said(value)} runs backwards", f"write {last}-{first}")
    return PortRange(first, last)
