"""The compiled programs on a real kernel: its HTB puts real packets where the reference says, its hooks pick alike."""

from __future__ import annotations

import ctypes
import re
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_Router_Alert
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import ARP, LLC, STP, Dot3, Ether
from scapy.packet import Packet, Raw

from shaper.compile.classifier import classifier
from shaper.compile.tap import picking, tap_filter
from shaper.model.match import Match, PortRange, Prefix, Rule, Rules, network_control_matches
from shaper.tree import Insn

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.kernel

CLASSES = {"control": 0x10, "voice": 0x11, "web": 0x12, "backup": 0x13, "rest": 0x14}
RULES = Rules(
    (
        *(Rule((match,), "control") for match in network_control_matches()),
        Rule((Match(dscp=(46,)),), "voice"),
        Rule((Match(protocols=(17,), dport=(PortRange(16384, 32767),)),), "voice"),
        Rule((Match(protocols=(6,)), Match(dport=(PortRange(80, 80), PortRange(443, 443)))), "web"),
        Rule((Match(dst=(Prefix(4, 0xCB007100, 24), Prefix(6, 0x20010DB8 << 96, 32))),), "backup"),
    ),
    "rest",
)
MAC = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}
V4, V6 = {"src": "10.0.0.1", "dst": "10.0.0.2"}, {"src": "fd00::1", "dst": "fd00::2"}
VOICE = UDP(sport=5000, dport=20000) / Raw(bytes(40))
EXTENSIONS = IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt()

FRAMES: Sequence[tuple[str, Packet]] = (
    ("control", Ether(**MAC) / ARP(psrc="10.0.0.1", pdst="10.0.0.2")),
    ("control", Dot3(**MAC) / LLC() / STP()),
    ("control", Ether(**MAC) / IPv6(**V6) / ICMPv6ND_NS(tgt="fd00::2")),
    ("control", Ether(**MAC) / IP(**V4) / UDP(sport=68, dport=67) / Raw(bytes(20))),
    ("control", Ether(**MAC) / IP(**V4) / TCP(sport=179, dport=40000)),
    ("control", Ether(**MAC) / IP(**V4, proto=89) / Raw(bytes(24))),
    ("voice", Ether(**MAC) / IP(**V4, tos=46 << 2 | 1) / ICMP()),
    ("voice", Ether(**MAC) / IPv6(**V6, tc=46 << 2) / TCP(dport=80)),
    ("voice", Ether(**MAC) / IP(**V4) / VOICE),
    ("voice", Ether(**MAC) / IP(**V4, options=[IPOption_Router_Alert()]) / VOICE),
    ("rest", Ether(**MAC) / IP(**V4, flags="MF") / VOICE),
    ("voice", Ether(**MAC) / IPv6(**V6) / EXTENSIONS / VOICE),
    ("rest", Ether(**MAC) / IPv6(**V6) / IPv6ExtHdrFragment(m=1, id=7) / VOICE),
    ("rest", Ether(**MAC) / IPv6(**V6) / IPv6ExtHdrFragment(m=0, id=7) / VOICE),
    ("voice", Ether(**MAC) / IP(**V4, tos=46 << 2, flags="MF") / VOICE),
    ("rest", Ether(**MAC) / IP(**V4, frag=100, proto=17) / bytes(VOICE)),
    ("rest", Ether(**MAC) / IPv6(**V6) / IPv6ExtHdrFragment(offset=100, id=7, nh=17) / Raw(bytes(VOICE))),
    ("web", Ether(**MAC) / IP(**V4) / TCP(dport=443)),
    ("web", Ether(**MAC) / IPv6(**V6) / EXTENSIONS / TCP(dport=80)),
    ("rest", Ether(**MAC) / IP(**V4) / UDP(dport=443) / Raw(bytes(20))),
    ("backup", Ether(**MAC) / IP(src="10.0.0.1", dst="203.0.113.9") / ICMP()),
    ("backup", Ether(**MAC) / IPv6(src="fd00::1", dst="2001:db8::5") / ICMPv6EchoRequest()),
    ("rest", Ether(**MAC) / IP(**V4) / TCP(dport=8080)),
    ("rest", Ether(**MAC, type=0x88B5) / Raw(bytes(46))),
    ("rest", Ether(**MAC) / IP(**V4, proto=17, len=22) / Raw(b"\x13\x88")),  # the transport header is cut off
)


def bytecode(program: Sequence[Insn]) -> str:
    """A program as tc reads it."""
    lines = (f"{insn.code} {insn.jt} {insn.jf} {insn.k}" for insn in program)
    return f"{len(program)},{','.join(lines)}"


def quiet_link(netns: Lab) -> str:
    """A device on which nobody but the test sends."""
    netns.run("ip link add q0 type veth peer name q1")
    for device in ("q0", "q1"):
        netns.run(f"sysctl -qw net.ipv6.conf.{device}.disable_ipv6=1")
        netns.run(f"ip link set {device} up")
    return "q0"


def sent(netns: Lab, device: str) -> dict[str, int]:
    """Packets of each class so far."""
    text = netns.run(f"tc -s class show dev {device}")
    found = re.findall(r"class htb 5a00:(\w+) .*?\n Sent \d+ bytes (\d+) pkt", text)
    counts = {int(minor, 16): int(packets) for minor, packets in found}
    return {name: counts[minor] for name, minor in CLASSES.items()}


@pytest.fixture
def classified(netns: Lab, tmp_path: Path) -> str:
    device = quiet_link(netns)
    handles = {name: 0x5A00 << 16 | minor for name, minor in CLASSES.items()}
    code = tmp_path / "bytecode"
    code.write_text(bytecode(classifier(RULES, handles)))
    netns.run(f"tc qdisc add dev {device} root handle 5a00: htb default {CLASSES['rest']:x}")
    netns.run(f"tc class add dev {device} parent 5a00: classid 5a00:1 htb rate 100mbit")
    for minor in CLASSES.values():
        netns.run(f"tc class add dev {device} parent 5a00:1 classid 5a00:{minor:x} htb rate 1mbit ceil 100mbit")
    netns.run(f"tc filter add dev {device} parent 5a00: protocol all pref 10 handle 1 bpf bytecode-file {code}")
    return device


def test_real_packets_go_where_the_reference_says(netns: Lab, classified: str) -> None:
    def send(frame: bytes) -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind((classified, 0))
            sender.send(frame)

    for expected, packet in FRAMES:
        frame = bytes(packet)
        before = sent(netns, classified)
        netns.inside(lambda frame=frame: send(frame))
        moved = {name for name, count in sent(netns, classified).items() if count != before[name]}
        assert moved == {expected}, packet.summary()


def test_the_hook_before_and_the_tap_after_the_queue_pick_the_same(netns: Lab, tmp_path: Path) -> None:
    device, sampling, count = quiet_link(netns), 8, 400
    code = tmp_path / "bytecode"
    code.write_text(bytecode(picking(sampling, picked=0xFFFFFFFF, outgoing_only=False)))
    netns.run("ip link add shp-q0 type ifb")
    netns.run("ip link set shp-q0 up")
    netns.run(f"tc qdisc add dev {device} clsact")
    netns.run(
        f"tc filter add dev {device} egress protocol all pref 30 handle 1 bpf bytecode-file {code} flowid 0:1 "
        "action mirred egress mirror dev shp-q0"
    )

    def run() -> tuple[set[bytes], set[bytes]]:
        with tap("shp-q0", ()) as copies, tap(device, tap_filter(sampling)) as after:
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
                sender.bind((device, 0))
                for number in range(count):
                    network = IP(**V4, id=0) if number % 2 else IPv6(**V6)
                    packet = (
                        Ether(**MAC) / network / UDP(sport=5000, dport=20000) / Raw(struct.pack("!IIQ", 7, number, 9))
                    )
                    sender.send(bytes(packet))
            return received(copies), received(after)

    before, after = netns.inside(run)
    assert before == after
    assert count / sampling / 2 < len(after) < count / sampling * 2


def tap(device: str, program: Sequence[Insn]) -> socket.socket:
    """A packet socket on the device, with the filter attached if there is one."""
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    if program:
        code = b"".join(struct.pack("=HBBI", *insn) for insn in program)
        held = ctypes.create_string_buffer(code)
        packets.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HL", len(program), ctypes.addressof(held)))
    packets.bind((device, 3))
    packets.setblocking(False)
    return packets


def received(packets: socket.socket) -> set[bytes]:
    frames = set()
    while True:
        try:
            frames.add(packets.recv(2048))
        except BlockingIOError:
            return frames
