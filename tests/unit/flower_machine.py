"""What the kernel makes of a frame and of flower filters: its flow dissector's view, and the look-up in it.

Written after __skb_flow_dissect, fl_classify and __tcf_classify of Linux 6.12, as far as our keys go: what the packet
does not have is 0.
"""

from __future__ import annotations

from collections.abc import Sequence

from bpf_machine import Skb

from shaper.tree import ETH_P_ALL, FlowerFilter, device_value

_V4, _V6 = 0x0800, 0x86DD
_OPTIONS, _FRAGMENT = (0, 43, 60), 44
_WITH_PORTS = (6, 17, 33, 50, 132, 136)  # and ESP's, which are no ports
_MOST_HEADERS = 15


def run(filters: Sequence[FlowerFilter], skb: Skb) -> int | None:
    """The classid of the first filter that holds, by preference; None where none does."""
    fields = dissect(skb)
    for one in sorted(filters, key=lambda each: each.preference):
        if one.protocol in (ETH_P_ALL, skb.protocol) and all(_holds(key, fields) for key in one.keys):
            return one.classid
    return None


def _holds(key: tuple[str, int, int], fields: dict[str, int]) -> bool:
    field, value, mask = key
    if field.endswith("_min"):
        return fields[field.removesuffix("_min")] >= value
    if field.endswith("_max"):
        return fields[field.removesuffix("_max")] <= value
    return fields[field] & mask == value


def dissect(skb: Skb) -> dict[str, int]:
    """Field to value."""
    fields = dict.fromkeys(
        ("ip_proto", "ip_tos", "ip_flags", "icmpv6_type", "src4", "dst4", "src6", "dst6", "sport", "dport"), 0
    )
    fields["eth_type"] = skb.protocol
    fields["indev"] = device_value(skb.iif)
    data, at = skb.data, skb.network
    if skb.protocol == _V4:
        transport = at + (data[at] & 15) * 4
        fields["ip_proto"], fields["ip_tos"] = data[at + 9], data[at + 1]
        fields["src4"], fields["dst4"] = _number(data, at + 12, 4), _number(data, at + 16, 4)
        if _number(data, at + 6, 2) & 0x3FFF:
            fields["ip_flags"] = 1
            return fields
    elif skb.protocol == _V6:
        transport = at + 40
        fields["ip_proto"], fields["ip_tos"] = data[at + 6], _number(data, at, 2) >> 4 & 0xFF
        fields["src6"], fields["dst6"] = _number(data, at + 8, 16), _number(data, at + 24, 16)
    else:
        return fields
    headers = 0
    while skb.protocol == _V6 and fields["ip_proto"] in _OPTIONS and headers <= _MOST_HEADERS:
        fields["ip_proto"], transport = data[transport], transport + (data[transport + 1] + 1) * 8
        headers += 1
    if skb.protocol == _V6 and fields["ip_proto"] == _FRAGMENT and headers <= _MOST_HEADERS:
        fields["ip_proto"], fields["ip_flags"] = data[transport], 1
        return fields
    if fields["ip_proto"] in _WITH_PORTS and transport + 4 <= len(data):
        fields["sport"], fields["dport"] = _number(data, transport, 2), _number(data, transport + 2, 2)
    if fields["ip_proto"] == 58 and headers <= _MOST_HEADERS and transport + 8 <= len(data):
        fields["icmpv6_type"] = data[transport]
    return fields


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "big")
