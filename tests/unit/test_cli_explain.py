"""`shaper explain packet`: a packet from options, its class with the reasons, and what was assumed."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import click
import pytest
from click.testing import CliRunner
from compile_samples import ETHERNET, SMALL_KERNEL
from report_golden import golden

from shaper.cli.packet import packet_of, packet_options
from shaper.compile import compile_interface
from shaper.model.explain import explain
from shaper.model.match import Packet, classify
from shaper.policy import parse_policy
from shaper.report.explain import explanation_json

POLICY = """version: 1
interfaces:
  wan: {device: eth1, bandwidth: {egress: 20mbit}, policy: p}
policies:
  p:
    classes:
      tunnel: {match: [{inner: {dscp: ef, proto: udp}}]}
      acks: {match: [{tcp-flags: {set: ack, unset: [syn, fin]}, length: 0-100}]}
      ping: {guarantee: 1mbit, match: [{icmp-type: echo-request}]}
      links: {match: [{vlan: 100-199, pcp: [5, 6]}, {mark: 0x100/0xff00}, {src-mac: "02:00:5e:10:00:01"}]}
      site:
        match: [{net: 10.0.0.0/8, not: {port: domain}}]
        classes:
          web: {limit: 5mbit, match: [{any: [{dport: http}, {dport: https}]}]}
      local: {match: [{cgroup: /system.slice}, {iif: eth2}]}
      rest: {default: true}
"""


@click.command()
@packet_options
def asking(**options: Any) -> None:
    packet, assumed = packet_of(options)
    click.echo(json.dumps({"packet": packet, "assumed": assumed}))


def asked(arguments: str) -> tuple[Packet, dict[str, str]]:
    done = CliRunner().invoke(asking, arguments.split(), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    said = json.loads(done.output)
    fields = said["packet"]
    inner = fields.pop()
    return Packet(*fields, inner=None if inner is None else Packet(*inner)), said["assumed"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            "--src 10.0.0.1 --dst 10.0.0.2 --proto udp --sport 4000 --dport sip --dscp ef --ecn ce --length 200",
            Packet(0x0800, 17, 0x0A000001, 0x0A000002, 4000, 5060, 46, None, 3, length=200),
        ),
        (
            "--src 2001:db8::1 --proto tcp --tcp-flags syn,ack --dport https --length 60 --dscp 0 --ecn 0 --sport 1",
            Packet(0x86DD, 6, 0x20010DB8 << 96 | 1, None, 1, 443, 0, None, 0, tcp_flags=0x12, length=60),
        ),
        (
            "--family ipv6 --icmp-type packet-too-big --mark 0x107 --iif eth2 --cgroup /a/b",
            Packet(0x86DD, 58, None, None, None, None, 0, 2, 0, length=1500, mark=0x107, iif="eth2", cgroup="/a/b"),
        ),
        (
            "--ethertype arp --vlan 100 --pcp 5 --src-mac 02:00:5e:10:00:01 --dst-mac ff:ff:ff:ff:ff:ff",
            Packet(0x0806, vlan=100, pcp=5, src_mac=0x02005E100001, dst_mac=0xFFFFFFFFFFFF),
        ),
        (
            "--proto udp --fragment",
            Packet(0x0800, 17, None, None, None, None, 0, None, 0, length=1500),
        ),
        (
            "--inner-proto tcp --inner-dport 80 --inner-fragment --proto gre".replace("--inner-dport 80 ", ""),
            Packet(
                0x0800, 47, None, None, None, None, 0, None, 0, length=1500,
                inner=Packet(0x0800, 6, None, None, None, None, 0, None, 0, length=1500),
            ),
        ),
    ],
)  # fmt: skip
def test_options_are_fields(arguments: str, expected: Packet) -> None:
    assert asked(arguments)[0] == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--sport 80", "ports belong to a protocol"),
        ("--proto udp --tcp-flags syn", "protocol 17 has no tcp-flags"),
        ("--proto icmp --icmp-type packet-too-big", "not one of this protocol"),
        ("--src 10.0.0.1 --dst ::1", "not of the same IP version"),
        ("--src 10.0.0.0/8", "a packet has one address"),
        ("--proto udp --dport 1-2", "a packet has one port"),
        ("--ethertype arp --dscp ef", "has no dscp"),
        ("--proto udp --dport 1 --fragment", "a fragment shows neither ports"),
        ("--proto tcp --inner-dscp ef", "carries no packet inside"),
        ("--proto udp --dport 53 --inner-dscp ef", "on its own port only"),
        ("--dscp eff", "did you mean 'ef'"),
        ("--tcp-flags syn,akc", "'akc' is not a TCP flag"),
    ],
)
def test_what_contradicts_itself_is_refused(arguments: str, message: str) -> None:
    done = CliRunner().invoke(asking, arguments.split())
    assert done.exit_code == 2 and message in done.output


@pytest.mark.parametrize(
    ("arguments", "path", "line", "later"),
    [
        ("--proto gre --inner-proto udp --inner-dscp ef", "tunnel", 7, []),
        ("--inner-proto udp --inner-dscp ef --mark 0x1ff", "tunnel", 7, ["links"]),
        ("--proto tcp --length 52", "acks", 8, []),
        ("--proto tcp --length 1500", "rest", None, []),
        ("--family ipv6 --icmp-type echo-request --src-mac 02:00:5e:10:00:01", "ping", 9, ["links"]),
        ("--vlan 150 --pcp 6 --src 10.0.0.1 --proto tcp --dport 443", "links", 10, ["site/web", "site/other"]),
        ("--src 192.0.2.1 --dst 10.0.0.1 --proto udp --dport 53", "rest", None, []),
        ("--dst 10.0.0.1 --proto tcp --dport http", "site/web", 14, ["site/other"]),
        ("--dst 10.0.0.1 --proto udp --cgroup /system.slice/x", "site/other", 12, ["local"]),
        ("--iif eth2", "local", 15, []),
        ("--ethertype arp", "network-control", None, []),
    ],
)
def test_the_rule_the_class_and_the_later_rules(arguments: str, path: str, line: int | None, later: list[str]) -> None:
    interface = parse_policy(POLICY, source="office.yaml").interfaces[0]
    packet, _ = asked(arguments)
    explained = explain(interface.rules(), packet)
    said = explanation_json(explained, interface, None, assumed={}, by="")
    assert said["class"] == path == classify(interface.rules(), packet)
    assert (said["rule"] or {}).get("line") == line
    assert [one["class"] for one in said["later"]] == later
    assert all(rule.holds(packet) for rule in explained.later)


def test_the_queue_and_the_rates_are_those_that_are_compiled() -> None:
    text = POLICY.replace("      local: {match: [{cgroup: /system.slice}, {iif: eth2}]}\n", "")
    interface = parse_policy(text, source="office.yaml").interfaces[0]
    program = compile_interface(interface, SMALL_KERNEL, ETHERNET)
    packet, assumed = asked("--dst 10.0.0.1 --proto tcp --dport http")
    explained = explain(interface.rules(), packet)
    said = explanation_json(explained, interface, program, assumed=assumed, by="for a test")
    golden("explain.json", json.dumps(said, indent=2) + "\n")


@pytest.mark.slow
def test_the_command_works_and_says_where_the_policy_cannot_be_programmed(tmp_path: Any) -> None:
    by_u32 = POLICY.replace("policy: p}", "policy: p, classifier: u32}")
    assert by_u32 != POLICY
    (tmp_path / "office.yaml").write_text(by_u32)
    done = subprocess.run(
        [sys.executable, "-m", "shaper", "explain", "packet", "office.yaml", "--iif", "eth2", "--proto", "udp"],
        capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "wan on eth1: local" in done.stdout and "office.yaml:15" in done.stdout
    assert "seen by the bpf filter alone" in done.stdout
