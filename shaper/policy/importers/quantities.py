"""Rates, ports and names as other tools write them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from ipaddress import ip_network

from shaper.policy.importers.draft import Scalar

_RATE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([A-Za-z/]*)\Z")
_PORTS = re.compile(r"([0-9]{1,5})(?:[:-]([0-9]{1,5}))?\Z")
_MOST = 10**15
_KEYWORDS = {"true", "false", "null"}
_LONGEST_NAME = 32

TC_BITS: Mapping[str, int] = {
    **{f"{prefix}bit": 1000**power for power, prefix in enumerate(("", "k", "m", "g", "t"))},
    **{f"{prefix}ibit": 1024**power for power, prefix in enumerate(("k", "m", "g", "t"), 1)},
    **{f"{prefix}bps": 8 * 1000**power for power, prefix in enumerate(("", "k", "m", "g", "t"))},
    **{f"{prefix}ibps": 8 * 1024**power for power, prefix in enumerate(("k", "m", "g", "t"), 1)},
}
"""Rate units as tc reads them: `bps` are bytes."""


def rate(text: str, units: Mapping[str, int], *, unit: str = "") -> int | None:
    """In bit/s, a whole number of at least 8; None where it is no rate. `unit` is meant where none is written."""
    match = _RATE.match(text.strip())
    factor = units.get((match[2] or unit).lower()) if match else None
    if match is None or factor is None:
        return None
    bits = int(Decimal(match[1]) * factor)
    return bits if 8 <= bits <= _MOST else None


AQM: Mapping[str, str] = {
    **dict.fromkeys(("fq_codel", "fq-codel"), "fq_codel"),
    **dict.fromkeys(("pfifo", "bfifo", "drop-tail"), "fifo"),
    **dict.fromkeys(("sfq", "fair-queue"), "sfq"),
    **dict.fromkeys(("red", "random-detect"), "red"),
    **dict.fromkeys(("fq_pie", "fq-pie"), "fq_pie"),
    **{kind: kind for kind in ("codel", "pie", "cake")},
}
"""Leaf queues that we have, by the names that tools give them."""


def size(text: str) -> int | None:
    """`15k` -> 15360 bytes, as tc reads it; None where it is no size."""
    match = re.match(r"([0-9]{1,12})(b?|kb?|mb?)\Z", text.strip().lower())
    return int(match[1]) * {"k": 1024, "m": 1024**2}.get(match[2][:1], 1) or None if match else None


def percent(text: str) -> Decimal | None:
    """`10%` -> 0.1; None where it is no percentage of 0 to 100."""
    match = re.match(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)\s*%\Z", text.strip())
    ratio = Decimal(match[1]) / 100 if match else None
    return ratio if ratio is not None and ratio <= 1 else None


def rate_text(bits: int) -> str:
    """Exact: 2_500_000 -> `2.5mbit`, 1_234_567 -> `1234.567kbit`."""
    for name, factor in (("gbit", 10**9), ("mbit", 10**6), ("kbit", 10**3)):
        if bits >= factor and bits * 1000 % factor == 0:
            return f"{Decimal(bits) / factor:f}{name}"
    return f"{bits}bit"


def ports(text: str) -> list[Scalar] | None:
    """`5060,10000:10100` -> [5060, "10000-10100"]; None where one is no port."""
    found: list[Scalar] = []
    for part in text.split(","):
        match = _PORTS.match(part.strip())
        if match is None:
            return None
        first, last = int(match[1]), int(match[2] or match[1])
        if not 0 <= first <= last <= 65535:
            return None
        found.append(first if first == last else f"{first}-{last}")
    return found


def network(text: str) -> str:
    """`10.0.0.1/24` -> `10.0.0.0/24`, which is what tc asks for then; what is no network stays as it is."""
    try:
        return str(ip_network(text, strict=False)) if "/" in text else text
    except ValueError:
        return text


def name(text: str, taken: Iterable[str]) -> str:
    """A class's name as ours may be, that no sibling has: `Circle St. 968` -> `circle-st-968`."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "class"
    if plain[0].isdigit() or plain in _KEYWORDS or plain in ("network-control", "other"):
        plain = f"c-{plain}"
    plain, held = plain[:_LONGEST_NAME].rstrip("-"), set(taken)
    candidate, number = plain, 2
    while candidate in held:
        candidate = f"{plain[: _LONGEST_NAME - len(str(number)) - 1]}-{number}"
        number += 1
    return candidate
