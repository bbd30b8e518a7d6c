"""Scalars: YAML 1.2's core schema, and the tables of DSCPs and protocols against their sources."""

from __future__ import annotations

import math
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from shaper.model.match import PortRange, Prefix
from shaper.policy import fields, targets, values
from shaper.policy.names import DSCP_NAMES, PROTOCOL_NAMES, dscp_text
from shaper.policy.reader import Scalar, read
from shaper.policy.text import did_you_mean, named, path_text, quoted


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("yes", "yes"), ("on", "on"), ("Off", "Off"), ("y", "y"),
        ("true", True), ("False", False), ("tRUE", "tRUE"), ("null", None), ("~", None), ("", None),
        ("22:30", "22:30"), ("1:2:3", "1:2:3"), ("010", 10), ("0o17", 15), ("0x2E", 46), ("-0x1", "-0x1"),
        ("1_000", "1_000"), ("0b1", "0b1"), ("+12", 12), ("-7", -7), ("1.5", 1.5), (".5", 0.5), ("1.", 1.0),
        ("1e3", 1000.0), ("1e", "1e"), (".inf", math.inf), ("-.INF", -math.inf), ("inf", "inf"),
        ("2024-01-01", "2024-01-01"), ("=", "="), ("'true'", "true"), ('"12"', "12"), ("10.0.0.1", "10.0.0.1"),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text: str, value: Scalar) -> None:
    document, problems = read(f"key: {text}\n", source="x")
    assert not problems and document is not None and isinstance(document.root.value, dict)
    found = document.root.value["key"].value
    assert found == value and type(found) is type(value)


def test_not_a_number() -> None:
    document, _ = read("[.nan, .NaN, nan]", source="x")
    assert document is not None and isinstance(document.root.value, list)
    first, second, third = (node.value for node in document.root.value)
    assert isinstance(first, float) and math.isnan(first) and isinstance(second, float) and third == "nan"


def test_dscps_are_those_of_the_rfcs() -> None:
    bits = {"ef": "101110", "voice-admit": "101100", "le": "000001", "df": "000000", "cs1": "001000", "cs6": "110000"}
    bits |= {"af11": "001010", "af12": "001100", "af13": "001110", "af41": "100010", "af42": "100100", "af43": "100110"}
    assert {name: f"{DSCP_NAMES[name]:06b}" for name in bits} == bits
    assert len(DSCP_NAMES) == 2 + 1 + 8 + 12 + 2 + 1
    assert (dscp_text(46), dscp_text(0), dscp_text(63)) == ("ef", "df", "63")


@pytest.mark.parametrize(
    ("name", "constant"), [("tcp", "TCP"), ("udp", "UDP"), ("icmp", "ICMP"), ("icmpv6", "ICMPV6"), ("sctp", "SCTP"),
                           ("gre", "GRE"), ("esp", "ESP"), ("ah", "AH"), ("ipip", "IPIP"), ("udplite", "UDPLITE")],
)  # fmt: skip
def test_protocols_are_those_of_the_system(name: str, constant: str) -> None:
    assert PROTOCOL_NAMES[name] == getattr(socket, f"IPPROTO_{constant}")


def test_names_are_read_in_either_case() -> None:
    assert (fields.dscp("EF"), fields.dscp(10), fields.protocol("ICMPv6"), fields.protocol(6)) == (46, 10, 58, 6)


def test_addresses_and_ports() -> None:
    assert values.prefix("203.0.113.0/24") == Prefix(4, 0xCB007100, 24)
    assert values.prefix("0.0.0.0/0") == Prefix(4, 0, 0)
    assert values.prefix("2001:db8::1") == Prefix(6, 0x20010DB8 << 96 | 1, 128)
    assert (values.ports(443), values.ports("80 - 90")) == (PortRange(443, 443), PortRange(80, 90))


@given(st.integers(0, 2**32 - 1), st.integers(0, 32))
def test_a_mend_of_host_bits_is_accepted(value: int, length: int) -> None:
    text = f"{socket.inet_ntoa(value.to_bytes(4))}/{length}"
    try:
        assert values.prefix(text) == Prefix(4, value, length)
    except PydanticCustomError as error:
        assert error.context is not None
        _, network, *_, host = (word for word in error.context["hint"].split() if "/" in word or word == "write")
        assert values.prefix(network).length == length
        assert values.prefix(host) == Prefix(4, value, 32)


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers())))
def test_every_scalar_is_read_or_refused_with_a_mend(value: object) -> None:
    readers = (
        values.rate, values.amount, values.limit, values.ratio, values.share, values.tier, values.version,
        values.prefix, values.ports, targets.sla, fields.dscp, fields.protocol, fields.ecn, fields.family,
        fields.ethertype, fields.icmp_type, fields.tcp_flags, fields.tos, fields.mark, fields.mac, fields.length,
        fields.vlan, fields.pcp, fields.device, fields.cgroup,
    )  # fmt: skip
    for reader in readers:
        try:
            reader(value)
        except PydanticCustomError as error:
            assert error.context is not None and error.context["message"] and error.context["hint"]


def test_words() -> None:
    assert path_text(("policies", "p", "match", 0, "dscp", 1)) == "policies.p.match[0].dscp[1]"
    assert path_text(()) == ""
    assert (named([]), named(["a"]), named(["a", "b", "c"])) == ("", "a", "a, b and c")
    assert did_you_mean("guarante", ["limit", "guarantee"]) == "did you mean 'guarantee'? "
    assert did_you_mean("xyz", ["limit"]) == ""
    assert quoted("x" * 50) == repr("x" * 37 + "...")
