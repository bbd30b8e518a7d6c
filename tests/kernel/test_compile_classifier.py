"""The compiled programs on a real kernel: its HTB puts real packets where the reference says, its hooks pick alike."""

from __future__ import annotations

import ctypes
import ipaddress
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import LLC, STP, Dot3, Ether
from scapy.packet import Raw
from sorting import CLASSES, FRAMES, MAC, RULES, V4, V6, Sorter, by_bpf, quiet_link

from shaper.compile.tap import picking, tap_filter
from shaper.model.match import Match, Prefix, Rule, Rules, network_control_matches
from shaper.tree import Insn

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.kernel


def bytecode(program: Sequence[Insn]) -> str:
    """A program as tc reads it."""
    lines = (f"{insn.code} {insn.jt} {insn.jf} {insn.k}" for insn in program)
    return f"{len(program)},{','.join(lines)}"


def test_real_packets_go_where_the_reference_says(netns: Lab) -> None:
    sorter = Sorter(netns, CLASSES, by_bpf)
    sorter.obey(RULES)
    by_length = ("control", Dot3(**MAC) / LLC() / STP(), 0)
    for expected, packet, protocol in (*FRAMES, by_length):
        assert sorter.class_of(bytes(packet), protocol) == expected, packet.summary()


def test_the_hook_before_and_the_tap_after_the_queue_pick_the_same(netns: Lab, tmp_path: Path) -> None:
    device, sampling, count = quiet_link(netns), 8, 400
    code = tmp_path / "bytecode"
    code.write_text(bytecode(picking(sampling, picked=0xFFFFFFFF)))
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


def test_a_list_of_1500_networks_sorts_real_packets(netns: Lab) -> None:
    """As many as a list in a file may have: the kernel takes the program, and shows it again."""
    listed = tuple(Prefix(4, 0x0B000000 + (number << 9), 24) for number in range(1500))
    sorter = Sorter(netns, ("listed", "rest"), by_bpf)
    control = (Rule((match,), "rest") for match in network_control_matches())
    sorter.obey(Rules((*control, Rule((Match(dst=listed),), "listed")), "rest"))
    for number in (0, 1, 749, 750, 1499):
        for add, expected in ((0, "listed"), (255, "listed"), (256, "rest"), (511, "rest")):
            target = str(ipaddress.IPv4Address(0x0B000000 + (number << 9) + add))
            frame = Ether(**MAC) / IP(src="10.0.0.1", dst=target) / UDP(sport=5, dport=5) / Raw(bytes(20))
            assert sorter.class_of(bytes(frame)) == expected, target
