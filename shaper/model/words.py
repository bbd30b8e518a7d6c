"""Matches in the words of a policy."""

from __future__ import annotations

from shaper.model.match import ETHERTYPE_IPV4, ETHERTYPE_IPV6, Match

KEYS = {
    "ethertypes": "ethertype",
    "protocols": "proto",
    "icmp": "icmp-type",
    "tcp_flags": "tcp-flags",
    "src_mac": "src-mac",
    "dst_mac": "dst-mac",
    "any_of": "any",
    "all_of": "all",
    "none_of": "not",
    **{
        name: name
        for name in (
            "dscp", "src", "dst", "net", "sport", "dport", "port", "tos", "ecn", "length", "vlan", "pcp", "mac", "mark",
            "iif", "cgroup", "inner",
        )
    },
}  # fmt: skip
"""The keys of a policy by the fields of a Match."""


def key_of(match: Match, name: str) -> str:
    """The key of a policy that says what is in a field of the match."""
    families = {ETHERTYPE_IPV4, ETHERTYPE_IPV6}
    return "family" if name == "ethertypes" and families >= set(match.ethertypes) else KEYS[name]
