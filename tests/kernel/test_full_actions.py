"""Actions on a kernel that has them: tc shows what was meant, bytes come back, and packets are treated as written."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from backend_bench import SHAPER, Bench
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from sorting import TOP, quiet_link

from shaper.kernel.codec import actions as codec
from shaper.plan.steps import Step, Verb
from shaper.tree import (
    DROP,
    OK,
    PIPE,
    ROOT,
    Action,
    BpfFilter,
    Checksum,
    Finish,
    FlowerFilter,
    HtbClass,
    HtbOptions,
    Insn,
    Police,
    Qdisc,
    SetDscp,
    SetMeta,
    jump,
    ticks,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Lab

pytestmark = pytest.mark.full

RATE = 16_000_000
POLICE = Police(0x5A000007, RATE, ticks(20_000, RATE), PIPE, jump(5))
FAST = Police(0x5A000008, 80_000_000_000, ticks(10**6, 80_000_000_000), OK, DROP)
EVERY: tuple[Action, ...] = (
    POLICE,
    FAST,
    SetDscp(4, 10),
    Checksum(),
    SetDscp(6, 46),
    SetMeta(0x10, 0xFF, 6),
    SetMeta(7),
    SetMeta(priority=3),
    Finish(PIPE),
    Finish(),
)
ALL = (Insn(6, 0, 0, TOP | 0x10),)


@pytest.fixture
def device(netns: Lab) -> str:
    """With an HTB of one class."""
    name = quiet_link(netns)
    burst = ticks(20_000, RATE)
    nodes = (
        Qdisc(TOP, ROOT, "htb", HtbOptions(0x10)),
        HtbClass(TOP | 0x10, TOP, RATE, RATE, burst, burst, 0, 1514),
    )
    netns.kernel().send(name, [Step(Verb.ADD, None, node) for node in nodes])
    return name


def shown(netns: Lab, device: str) -> list[dict[str, Any]]:
    """The actions of the filter at the root, as tc has them."""
    filters = json.loads(netns.run(f"tc -j filter show dev {device} parent 5a00:"))
    found: list[dict[str, Any]] = next(one["options"]["actions"] for one in filters if "options" in one)
    return found


@pytest.mark.parametrize("flower", [False, True], ids=["bpf", "flower"])
def test_what_is_sent_is_what_is_read_and_what_tc_shows(netns: Lab, device: str, flower: bool) -> None:
    kernel = netns.kernel()
    node: BpfFilter | FlowerFilter = BpfFilter(TOP, 9, 1, ALL, actions=EVERY)
    if flower:
        node = FlowerFilter(TOP, 9, 1, 3, (), TOP | 0x10, EVERY)
    kernel.send(device, [Step(Verb.ADD, None, node)])
    assert kernel.read(device).filters == (node,)
    kinds = ["police", "police", "pedit", "csum", "pedit", "skbedit", "skbedit", "skbedit", "gact", "gact"]
    there = shown(netns, device)
    assert [one["kind"] for one in there] == kinds
    assert there[0]["index"] == POLICE.index
    key4, key6 = there[2]["keys"][0], there[4]["keys"][0]
    assert (key4["htype"], key4["val"], key4["mask"]) == ("ipv4", "280000", "ff03ffff")
    assert (key6["htype"], key6["val"], key6["mask"]) == ("ipv6", "b800000", "f03fffff")
    assert there[3]["csum"] == "iph"
    assert (there[5]["mark"], there[5]["mask"], there[5]["priority"]) == (16, "ff", ":6")
    assert (there[6]["mark"], "mask" in there[6], "priority" in there[6]) == (7, False, False)
    assert [one["control_action"]["type"] for one in there[2:]] == ["pipe"] * 7 + ["pass"]
    text = netns.run(f"tc filter show dev {device} parent 5a00:")  # tc's JSON has no rates
    assert "rate 16Mbit burst 20000b mtu 1Mb action jump 5/pipe" in text
    assert "rate 80Gbit burst 1000000b mtu 1Mb action drop" in text
    kernel.send(device, [Step(Verb.DELETE, node, None)])
    assert kernel.read(device).filters == ()


def test_bytes_come_back() -> None:
    assert codec.decode(codec.encode(EVERY)) == EVERY


def test_one_index_is_one_bucket_and_a_change_keeps_it(netns: Lab, device: str) -> None:
    kernel = netns.kernel()
    first, second = (BpfFilter(TOP, 9, number, ALL, actions=(POLICE,)) for number in (1, 2))
    kernel.send(device, [Step(Verb.ADD, None, first), Step(Verb.ADD, None, second)])
    assert "ref 2 bind 2" in netns.run("tc actions ls action police")
    longer = BpfFilter(TOP, 9, 1, (Insn(6, 0, 0, 0), *ALL), actions=(POLICE,))
    kernel.send(device, [Step(Verb.CHANGE, first, longer)])
    assert "ref 2 bind 2" in netns.run("tc actions ls action police")


def test_what_somebody_does_to_a_policer_is_seen_and_put_right(netns: Lab, device: str) -> None:
    kernel = netns.kernel()
    node = BpfFilter(TOP, 9, 1, ALL, actions=(POLICE,))
    kernel.send(device, [Step(Verb.ADD, None, node)])
    netns.run(
        f"tc actions change action police rate 9mbit burst 30k mtu 1mb conform-exceed drop/pipe index {POLICE.index}"
    )
    (held,) = kernel.read(device).filters
    assert held != node
    kernel.send(device, [Step(Verb.CHANGE, held, node)])
    assert kernel.read(device).filters == (node,)


CLASSES = """
    easy: {match: [{proto: udp, dport: 5001}], set: {dscp: af21}}
    washed: {match: [{proto: udp, dport: 5002}], wash: true}
    marked: {match: [{proto: udp, dport: 5003}], set: {mark: 0x10/0xff, priority: 5}}
    dropped: {match: [{proto: udp, dport: 5004}], police: {cir: 80bit, cbs: 1600b}}
    coloured: {match: [{proto: udp, dport: 5005}], set: {dscp: cs2}, \
police: {cir: 80bit, cbs: 1600b, pir: 160bit, pbs: 3200b, yellow: {dscp: af12}, red: {dscp: af13}}}
    rest: {default: true, set: {dscp: le}}
"""
EACH = ("bpf", "flower", "u32")


class Wire:
    """What leaves a shaped device, frame by frame, as the other end of its cable gets it."""

    def __init__(self, lab: Lab, folder: Path, classifier: str, *, backend: str = "htb") -> None:
        self.device = quiet_link(lab)
        self.bench = Bench(lab, self.device, folder, backend=f"{backend}, classifier: {classifier}")
        self._lab = lab
        self._ear = lab.inside(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0x0300))
        self._ear.bind((f"{self.device}-peer", 0x0003))
        self._ear.settimeout(2)

    def close(self) -> None:
        self._ear.close()

    def through(self, frame: bytes) -> Ether:
        """The frame on the other side."""

        def transmit() -> None:
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
                sender.sendto(frame, (self.device, 0))

        self._lab.inside(transmit)
        return self.hear()

    def hear(self) -> Ether:
        """The next frame on the other side."""
        return Ether(self._ear.recv(2048))

    def lost(self, frame: bytes) -> bool:
        """Whether nothing comes."""
        self._ear.settimeout(0.3)
        try:
            self.through(frame)
        except TimeoutError:
            return True
        finally:
            self._ear.settimeout(2)
        return False


@pytest.fixture
def wire(netns: Lab, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Wire]:
    with contextlib.closing(Wire(netns, tmp_path, request.param)) as made:
        yield made


def ipv4(port: int, *, size: int = 100, tos: int = 0xB8 | 1) -> bytes:
    """A datagram with EF and ECT(1)."""
    header = Ether() / IP(src="10.0.0.1", dst="10.0.0.2", tos=tos)
    return bytes(header / UDP(sport=9, dport=port) / Raw(bytes(size - 42)))


def ipv6(port: int, *, size: int = 100, tc: int = 0xB8 | 1) -> bytes:
    header = Ether() / IPv6(src="fd00::1", dst="fd00::2", tc=tc, fl=0x54321)
    return bytes(header / UDP(sport=9, dport=port) / Raw(bytes(size - 62)))


def right_sum(header: IP) -> int:
    """The checksum that the header should have."""
    again = IP(bytes(header))
    del again.chksum
    return int(IP(bytes(again)).chksum)


@pytest.mark.parametrize("wire", EACH, indirect=True)
def test_packets_are_marked_as_written_and_the_rest_of_them_stays(wire: Wire) -> None:
    wire.bench.apply(CLASSES)
    for port, dscp in ((5001, 18), (5002, 0), (5003, 46), (7, 1)):
        four, six = wire.through(ipv4(port)), wire.through(ipv6(port))
        assert four[IP].tos == dscp << 2 | 1, port
        assert four[IP].chksum == right_sum(four[IP])
        assert (six[IPv6].tc, six[IPv6].fl) == (dscp << 2 | 1, 0x54321), port
        for came, went in ((four, ipv4(port)), (six, ipv6(port))):
            assert bytes(came[UDP]) == bytes(Ether(went)[UDP])
    arp = bytes(Ether(type=0x88B5) / Raw(bytes(46)))
    assert bytes(wire.through(arp)) == arp, "no IP header, nothing to write on"


@pytest.mark.parametrize("wire", EACH, indirect=True)
def test_both_ip_versions_pay_from_one_bucket(wire: Wire) -> None:
    wire.bench.apply(CLASSES)
    wire.through(ipv4(5004, size=1514))
    assert wire.lost(ipv6(5004, size=1514))
    colours = [wire.through(ipv4(5005, size=1514))[IP].tos >> 2, wire.through(ipv6(5005, size=1514))[IPv6].tc >> 2]
    assert colours == [16, 12], "green keeps what `set` wrote; then the committed bucket is empty"
    assert wire.through(ipv4(5005, size=1514))[IP].tos >> 2 == 14
    small = [wire.through(ipv6(5004, size=70))[IPv6].tc >> 2, wire.through(ipv4(5001))[IP].tos >> 2]
    assert small == [46, 18]


@pytest.mark.parametrize("wire", EACH, indirect=True)
def test_an_edit_of_rules_leaves_the_tokens_and_clear_leaves_nothing(netns: Lab, wire: Wire) -> None:
    before = wire.bench.found()
    wire.bench.apply(CLASSES)
    first = unnumbered(wire.bench.found())
    assert wire.bench.apply(CLASSES) == []
    wire.through(ipv4(5004, size=1514))
    assert wire.bench.apply(CLASSES.replace("dport: 5004", "dport: [5004, 5014]"))
    assert wire.lost(ipv4(5014, size=1514)), "the bucket is as empty as it was"
    assert wire.bench.apply(CLASSES)
    assert unnumbered(wire.bench.found()) == first
    assert wire.bench.shaper("clear")[0] == 0
    assert wire.bench.found() == before
    assert "police" not in netns.run("tc actions ls action police")


@pytest.mark.parametrize("wire", ["bpf"], indirect=True)
def test_a_tag_beside_the_packet_is_no_matter(netns: Lab, wire: Wire) -> None:
    netns.run(f"ip link add link {wire.device} name tagged type vlan id 5")
    netns.run("sysctl -qw net.ipv6.conf.tagged.disable_ipv6=1")
    netns.run("ip link set tagged up")
    wire.bench.apply(CLASSES)

    def transmit() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
            sender.sendto(ipv4(5001), ("tagged", 0))

    netns.inside(transmit)
    came = wire.hear()
    assert came[IP].tos >> 2 == 18 and came[IP].chksum == right_sum(came[IP])


@pytest.mark.parametrize("backend", ["hfsc", "prio", "ets"])
def test_other_backends_treat_packets_alike(netns: Lab, tmp_path: Path, backend: str) -> None:
    with contextlib.closing(Wire(netns, tmp_path, "bpf", backend=backend)) as wire:
        wire.bench.apply("""
            marked: {tier: priority, match: [{proto: udp, dport: 5001}], set: {dscp: af21}}
            rest: {default: true, police: {cir: 80bit, cbs: 1600b}}
        """)
        assert wire.through(ipv4(5001))[IP].tos >> 2 == 18
        wire.through(ipv4(7, size=1514))
        assert wire.lost(ipv4(7, size=1514))


@pytest.mark.parametrize("classifier", EACH)
def test_what_comes_in_is_treated_alike(netns: Lab, tmp_path: Path, classifier: str) -> None:
    pair = netns.link_pair()
    settings = f"htb, classifier: {classifier}, bandwidth: {{ingress: 20mbit}}"
    bench = Bench(netns, pair.a, tmp_path, backend=settings, bandwidth="")
    bench.apply("""
        marked: {match: [{proto: udp, sport: 5001}], set: {dscp: af21}, police: {cir: 80bit, cbs: 1600b}}
        rest: {default: true}
    """)
    receiver = netns.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sender = netns.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM), peer=True)
    with receiver, sender:
        receiver.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        receiver.settimeout(5)
        receiver.bind((pair.a_v4, 5001))  # a policy says what goes out: turned round it is the destination
        for number in range(3):
            sender.sendto(bytes([number]) + bytes(1000), (pair.a_v4, 5001))
        data, ancillary, *_ = receiver.recvmsg(2048, 64)
        assert (data[0], ancillary[0][2][0] >> 2) == (0, 18)
        receiver.settimeout(0.5)
        with pytest.raises(TimeoutError):
            receiver.recv(2048)
    assert bench.shaper("clear")[0] == 0


@pytest.mark.parametrize("wire", ["bpf"], indirect=True)
def test_the_exported_commands_make_the_same(netns: Lab, wire: Wire, tmp_path: Path) -> None:
    """But for bursts, which tc reckons in whole microseconds."""
    wire.bench.apply(CLASSES)
    applied = wire.bench.tc("filter")
    assert wire.bench.shaper("clear")[0] == 0
    script = tmp_path / "tc.sh"
    argv = f"ip netns exec {netns.name} {SHAPER} export tc {wire.bench.policy} --here"
    script.write_text(subprocess.run(argv.split(), capture_output=True, text=True, check=True, timeout=60).stdout)
    netns.run(f"sh {script}")
    assert filters_of(wire.bench.tc("filter")) == filters_of(applied)


def unnumbered(text: str) -> str:
    """Without the numbers that the kernel gives to actions which nobody numbered; policers are ours."""
    return re.sub(r"index \d+ ref", "index ref", text)


def filters_of(text: str) -> list[str]:
    """Without what is counted, and the numbers that the kernel gives."""
    kept = (re.sub(r"index \d+ |installed.*|used \d+.*", "", line).strip() for line in text.splitlines())
    return [line for line in kept if line and not line.startswith("ref")]
