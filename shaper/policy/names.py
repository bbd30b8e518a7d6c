"""Names that a match may use instead of numbers: DSCPs and IP protocols.

DSCPs: class selectors and default from RFC 2474, assured forwarding from RFC 2597, EF from RFC 3246, voice-admit
from RFC 5865, lower effort from RFC 8622. Protocols: IANA, "Assigned Internet Protocol Numbers".
"""

from __future__ import annotations

DSCP_NAMES: dict[str, int] = {
    "df": 0,  # RFC 2474, section 4.1: the default PHB
    "be": 0,
    "le": 1,  # RFC 8622, section 10: 000001
    **{f"cs{precedence}": precedence << 3 for precedence in range(8)},  # RFC 2474, section 4.2.2: xxx000
    # RFC 2597, section 6: AFcd is class c in the upper three bits, drop precedence d in the next two
    **{f"af{cls}{drop}": cls << 3 | drop << 1 for cls in range(1, 5) for drop in range(1, 4)},
    "voice-admit": 44,  # RFC 5865, section 4: 101100
    "va": 44,
    "ef": 46,  # RFC 3246, section 2.7: 101110
}

PROTOCOL_NAMES: dict[str, int] = {
    "icmp": 1,
    "ipip": 4,
    "tcp": 6,
    "udp": 17,
    "dccp": 33,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "icmpv6": 58,
    "ospf": 89,
    "sctp": 132,
    "udplite": 136,
}

TCP, UDP = PROTOCOL_NAMES["tcp"], PROTOCOL_NAMES["udp"]
WITH_PORTS = frozenset(PROTOCOL_NAMES[name] for name in ("tcp", "udp", "dccp", "sctp", "udplite"))
"""The protocols whose first four bytes are a source and a destination port."""


def dscp_text(value: int) -> str:
    """46 -> `ef`; a code point without a name stays a number."""
    return next((name for name, number in DSCP_NAMES.items() if number == value), str(value))
