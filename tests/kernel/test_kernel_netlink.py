"""The real kernel: tc shows what was meant, counters count, facts are facts, and refusals say the way out."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from shaper.errors import Exit, UnavailableError
from shaper.kernel import probe
from shaper.kernel.encode import LONGEST_PROGRAM
from shaper.kernel.netlink import NetlinkKernel
from shaper.kernel.protocol import StepError
from shaper.model.device import DeviceName
from shaper.plan.steps import Plan, Step, Verb
from shaper.tree import (
    CLSACT,
    CLSACT_EGRESS,
    CLSACT_HANDLE,
    ROOT,
    BpfFilter,
    FifoOptions,
    FqCodelOptions,
    HtbClass,
    HtbOptions,
    Ifb,
    Insn,
    Node,
    OtherFilter,
    Qdisc,
    RawOptions,
    ticks,
    tree,
)

if TYPE_CHECKING:
    from conftest import Lab, LinkPair

pytestmark = pytest.mark.kernel

TOP = 0x5A000000
REPO = Path(__file__).parents[2]
EVERYTHING = (Insn(0x06, 0, 0, 0xFFFFFFFF),)
# Load the DS byte of an IPv4 packet behind its Ethernet header; EF goes to 5a00:10, the rest on to the next filter.
EF_TO_10 = (
    Insn(0x28, 0, 0, 12),
    Insn(0x15, 0, 4, 0x0800),
    Insn(0x30, 0, 0, 15),
    Insn(0x54, 0, 0, 0xFC),
    Insn(0x15, 0, 1, 46 << 2),
    Insn(0x06, 0, 0, TOP | 0x10),
    Insn(0x06, 0, 0, 0),
)
COPY_EF = (*EF_TO_10[:-2], Insn(0x06, 0, 0, 0xFFFFFFFF), EF_TO_10[-1])


def cls(minor: int, parent: int, rate: int, ceil: int, *, prio: int = 3) -> HtbClass:
    return HtbClass(TOP | minor, TOP | parent, rate, ceil, ticks(10_000, rate), ticks(20_000, ceil), prio, 1514)


def bfifo(minor: int, limit: int) -> Qdisc:
    return Qdisc(0x5B000000 + (minor << 16), TOP | minor, "bfifo", FifoOptions(limit))


NODES: tuple[Node, ...] = (
    Qdisc(TOP, ROOT, "htb", HtbOptions(0x20)),
    cls(1, 0, 20_000_000, 20_000_000),
    cls(0x10, 1, 2_000_000, 5_000_000, prio=0),
    cls(0x20, 1, 8_000_000, 20_000_000),
    bfifo(0x10, 15_140),
    Qdisc(0x5B200000, TOP | 0x20, "pfifo", FifoOptions(77)),
    BpfFilter(TOP, 10, 1, EF_TO_10),
)


def send_udp(lab: Lab, pair: LinkPair, count: int, *, dscp: int = 0) -> None:
    """Sends datagrams of 1000 bytes (1042 in the queue) over the cable, all at once and without asking by ARP first."""
    (address,) = re.findall(r"link/ether (\S+)", lab.run(f"ip -o link show {pair.b}", peer=True))
    lab.run(f"ip neigh replace {pair.b_v4} lladdr {address} dev {pair.a} nud permanent")

    def burst() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, dscp << 2)
            for _ in range(count):
                sock.sendto(bytes(1000), (pair.b_v4, 9))

    lab.inside(burst)


def adds(*nodes: Node) -> list[Step]:
    return [Step(Verb.ADD, None, node) for node in nodes]


def test_tc_shows_the_tree_that_was_meant(netns: Lab) -> None:
    device, kernel = netns.link_pair().a, netns.kernel()
    before = netns.run(f"tc qdisc show dev {device}")
    kernel.send(device, adds(*NODES))
    assert kernel.read(device) == tree(device, NODES)

    qdiscs = {one["handle"]: one for one in json.loads(netns.run(f"tc -j qdisc show dev {device}"))}
    assert qdiscs["5a00:"]["root"]
    assert qdiscs["5a00:"]["options"]["default"] == "0x20"
    assert (qdiscs["5b10:"]["kind"], qdiscs["5b10:"]["parent"]) == ("bfifo", "5a00:10")
    assert qdiscs["5b10:"]["options"]["limit"] == 15_140
    assert (qdiscs["5b20:"]["kind"], qdiscs["5b20:"]["options"]["limit"]) == ("pfifo", 77)

    lines = netns.run(f"tc class show dev {device}").splitlines()
    shown = {line.split()[2]: line for line in lines}
    assert "root rate 20Mbit ceil 20Mbit" in shown["5a00:1"]
    assert "parent 5a00:1 leaf 5b10: prio 0 rate 2Mbit ceil 5Mbit burst 10000b cburst 20000b" in shown["5a00:10"]
    assert "parent 5a00:1 leaf 5b20: prio 3 rate 8Mbit ceil 20Mbit" in shown["5a00:20"]
    assert "quantum 1514 " in netns.run(f"tc -d class show dev {device} classid 5a00:10")

    text = netns.run(f"tc filter show dev {device}")
    assert "protocol all pref 10 bpf chain 0 handle 0x1" in text
    assert "bytecode '7,40 0 0 12,21 0 4 2048,48 0 0 15,84 0 0 252,21 0 1 184,6 0 0 1509949456,6 0 0 0'" in text

    kernel.send(device, Plan(device, tuple(adds(*NODES))).inverse().steps)
    assert kernel.read(device) == tree(device, [])
    assert netns.run(f"tc qdisc show dev {device}") == before


def test_what_tc_makes_is_read_the_same(netns: Lab) -> None:
    device, kernel = netns.link_pair().a, netns.kernel()
    for command in (
        "qdisc add dev {} root handle 5a00: htb default 20",
        "class add dev {} parent 5a00: classid 5a00:20 htb rate 8mbit ceil 16mbit burst 10000 quantum 1514",
        "qdisc add dev {} parent 5a00:20 handle 5b20: bfifo limit 30000",
        "qdisc add dev {} clsact",
        "filter add dev {} egress pref 7 handle 0x3 protocol ip bpf bytecode 1,6_0_0_0 classid 5a00:20",
        "filter add dev {} ingress pref 8 protocol all u32 match u32 0 0",
    ):
        argv = [part.replace("_", " ") for part in ("tc " + command.format(device)).split()]
        subprocess.run(["ip", "netns", "exec", netns.name, *argv], check=True, timeout=10)
    read = kernel.read(device)
    assert read.qdiscs == tree(device, [*NODES[:1], bfifo(0x20, 30_000), Qdisc(CLSACT_HANDLE, CLSACT, "clsact")]).qdiscs
    (one,) = read.classes
    assert (one.handle, one.parent, one.rate, one.ceil, one.quantum) == (TOP | 0x20, TOP, 8_000_000, 16_000_000, 1514)
    assert abs(one.burst - ticks(10_000, 8_000_000)) <= 16  # tc itself rounds, in its own ticks
    assert BpfFilter(CLSACT_EGRESS, 7, 3, (Insn(6, 0, 0, 0),), protocol=0x0800, classid=TOP | 0x20) in read.filters
    assert any(isinstance(one, OtherFilter) and (one.kind, one.parent) == ("u32", 0xFFFFFFF2) for one in read.filters)


def test_rates_beyond_32_bits(netns: Lab) -> None:
    device, kernel = netns.link_pair().a, netns.kernel()
    wide = cls(1, 0, 40_000_000_000, 100_000_000_000)
    kernel.send(device, adds(NODES[0], wide))
    assert kernel.read(device).classes == (wide,)
    assert "rate 40Gbit ceil 100Gbit" in netns.run(f"tc class show dev {device}")


@pytest.mark.full
def test_fq_codel(netns: Lab) -> None:
    device, kernel = netns.link_pair().a, netns.kernel()
    leaf = Qdisc(0x5B010000, TOP | 1, "fq_codel", FqCodelOptions(1000, 5000, 100_000, 1514, 1024, 4 << 20, True))
    kernel.send(device, adds(NODES[0], cls(1, 0, 8_000_000, 8_000_000), leaf))
    assert kernel.read(device).leaf_of(TOP | 1) == leaf
    (shown,) = (q for q in json.loads(netns.run(f"tc -j qdisc show dev {device}")) if q["kind"] == "fq_codel")
    assert (shown["options"]["limit"], shown["options"]["flows"], shown["options"]["ecn"]) == (1000, 1024, True)


def test_a_mirror_copies_what_matches_and_nothing_of_ours_stays(netns: Lab) -> None:
    pair, kernel = netns.link_pair(), netns.kernel()
    before = netns.run("ip -o link")
    tap = Ifb("tap0", f"sla-shaper {pair.a}")
    hook = Qdisc(CLSACT_HANDLE, CLSACT, "clsact")
    mirror = BpfFilter(CLSACT_EGRESS, 100, 1, COPY_EF, mirror="tap0")
    steps = adds(tap, hook, mirror)
    kernel.send(pair.a, steps)
    assert kernel.read(pair.a) == tree(pair.a, [tap, hook, mirror])
    assert "mirred (Egress Mirror to device tap0) continue" in netns.run(f"tc filter show dev {pair.a} egress")
    assert "UP" in netns.run("ip -o link show tap0")

    frames = netns.inside(lambda: _sniff("tap0"))
    with frames:
        send_udp(netns, pair, 3, dscp=46)
        send_udp(netns, pair, 2)
        copies = [frames.recv(2000) for _ in range(3)]
        assert all(copy[15] == 46 << 2 for copy in copies)
        with pytest.raises(BlockingIOError):
            frames.recv(2000)

    kernel.send(pair.a, Plan(pair.a, tuple(steps)).inverse().steps)
    assert kernel.read(pair.a) == tree(pair.a, [])
    assert netns.run("ip -o link") == before


def _sniff(device: str) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(3))
    sock.bind((device, 3))
    return sock


def test_counters_drops_are_the_leafs_and_unshaped_packets_are_seen(netns: Lab) -> None:
    pair, kernel = netns.link_pair(), netns.kernel()
    tiny = bfifo(0x10, 1600)
    kernel.send(pair.a, adds(*NODES[:4], tiny, NODES[6]))
    assert set(kernel.counters(pair.a).classes) == {TOP | 0x10, TOP | 0x20}

    send_udp(netns, pair, 100, dscp=46)
    counters = kernel.counters(pair.a)
    deadline = time.monotonic() + 5
    while counters.classes[TOP | 0x10].queued_packets and time.monotonic() < deadline:
        counters = kernel.counters(pair.a)
    voice = counters.classes[TOP | 0x10]
    assert voice.drops > 0
    assert voice.sent_packets + voice.drops == 100
    assert voice.sent_bytes == voice.sent_packets * 1042
    assert (voice.queued_packets, voice.backlog_bytes) == (0, 0)
    shown = json.loads(netns.run(f"tc -j -s qdisc show dev {pair.a}"))
    assert next(one["drops"] for one in shown if one["handle"] == "5b10:") == voice.drops
    assert counters.unshaped == 0

    default = [NODES[3], *(node for node in NODES if isinstance(node, Qdisc) and node.parent == TOP | 0x20)]
    kernel.send(pair.a, [Step(Verb.DELETE, default[0], None)])
    send_udp(netns, pair, 2)
    assert kernel.counters(pair.a).unshaped >= 2


def test_a_long_program_is_read_back_by_a_new_process(netns: Lab) -> None:
    device = netns.link_pair().a
    longest = tuple([Insn(0x28, 0, 0, 12)] * (LONGEST_PROGRAM - 1) + [Insn(6, 0, 0, 0)])
    node = BpfFilter(CLSACT_EGRESS, 1, 1, longest, mirror="tap0", classid=7)
    kernel = netns.kernel()
    kernel.send(device, adds(Ifb("tap0", f"sla-shaper {device}"), Qdisc(CLSACT_HANDLE, CLSACT, "clsact"), node))
    assert netns.kernel().read(device).filters == (node,)
    with pytest.raises(StepError, match="cannot be read back"):
        kernel.send(device, adds(BpfFilter(CLSACT_EGRESS, 2, 1, longest[:1] + longest)))


def test_a_refusal_leaves_the_steps_behind_it_unsent(netns: Lab) -> None:
    device, kernel = netns.link_pair().a, netns.kernel()
    with pytest.raises(StepError, match="Exclusivity flag on") as caught:
        kernel.send(device, adds(NODES[0], NODES[1], NODES[0], NODES[2]))
    assert caught.value.done == 2
    assert "plan again" in caught.value.hint
    assert kernel.read(device) == tree(device, NODES[:2])


def test_a_kind_that_the_kernel_lacks_is_named(netns: Lab) -> None:
    device, kernel = netns.link_pair().a, netns.kernel()
    with pytest.raises(StepError, match="Specified qdisc kind is unknown") as caught:
        kernel.send(device, adds(Qdisc(0x5B010000, ROOT, "nonsuch", RawOptions(b""))))
    assert caught.value.exit == Exit.UNAVAILABLE
    assert "modprobe sch_nonsuch" in caught.value.hint


def test_no_such_device(netns: Lab) -> None:
    device, kernel = netns.link_pair().a, netns.kernel()
    for call in (kernel.link, kernel.read, kernel.counters, lambda name: kernel.send(name, adds(NODES[0]))):
        for name in ("nonsuch", "a-name-longer-than-any-device", ""):
            with pytest.raises(UnavailableError, match="there is no interface") as caught:
                call(name)
            assert device in caught.value.hint


def test_no_such_namespace() -> None:
    with pytest.raises(UnavailableError, match="no network namespace 'nonsuch'"):
        NetlinkKernel("nonsuch")


_WITHOUT_RIGHT = """
from shaper.kernel.netlink import NetlinkKernel
from shaper.kernel.protocol import StepError
from shaper.plan.steps import Step, Verb
from shaper.tree import ROOT, HtbOptions, Qdisc
with NetlinkKernel() as kernel:
    kernel.read("lo")
    try:
        kernel.send("lo", [Step(Verb.ADD, None, Qdisc(0x5A000000, ROOT, "htb", HtbOptions(0)))])
    except StepError as error:
        print(error.errno, int(error.exit), error.message, "|", error.hint)
"""


def test_without_permission_it_can_be_read_but_not_changed(netns: Lab) -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("missing capability: setpriv")
    argv = ["setpriv", "--bounding-set=-net_admin", sys.executable, "-c", _WITHOUT_RIGHT]
    done = subprocess.run(
        ["ip", "netns", "exec", netns.name, *argv], capture_output=True, text=True, timeout=20, cwd=REPO, check=False
    )
    assert done.stdout.startswith("1 77 the kernel refused to add htb qdisc 5a00: under root on lo: Operation not")
    assert "CAP_NET_ADMIN" in done.stdout


def test_facts_of_a_link(netns: Lab) -> None:
    pair, kernel = netns.link_pair(), netns.kernel()
    facts = kernel.link(pair.a)
    assert (facts.name, facts.mtu, facts.header, facts.up) == (pair.a, 1500, 14, True)
    assert facts.index == int(netns.run(f"cat /sys/class/net/{pair.a}/ifindex"))
    assert facts.super_packet == 1514
    assert facts.speed == 10_000_000_000  # what veth says of itself
    netns.run(f"ip link set dev {pair.a} gso_max_segs 65535")
    assert kernel.link(pair.a).super_packet == 65536 + 14
    netns.run(f"ip link set dev {pair.a} gso_max_segs 1 down")
    assert not kernel.link(pair.a).up


def test_another_device_that_joins_packets_makes_super_packets(netns: Lab) -> None:
    first, second, kernel = netns.link_pair(), netns.link_pair(), netns.kernel()
    netns.run(f"ethtool -K {second.a} gro on")
    assert kernel.link(first.a).super_packet == 65536 + 14
    netns.run(f"ip link set dev {second.a} down")
    assert kernel.link(first.a).super_packet == 1514
    netns.run(f"ip link set dev {second.a} up")
    netns.run(f"ethtool -K {second.a} gro off")
    kernel.send(first.a, adds(Ifb("tap0", f"sla-shaper {first.a}")))  # joins nothing, whatever ethtool says of it
    assert kernel.link(first.a).super_packet == 1514


def test_the_probe_agrees_with_what_the_kernel_does_and_leaves_nothing(netns: Lab) -> None:
    links = [line.split(":")[1] for line in subprocess.check_output(["ip", "-o", "link"], text=True).splitlines()]
    found = probe.capabilities()
    after = [line.split(":")[1] for line in subprocess.check_output(["ip", "-o", "link"], text=True).splitlines()]
    assert after == links
    assert {"htb", "bfifo", "pfifo", "clsact"} <= found.qdiscs
    assert "bpf" in found.filters
    assert "mirred" in found.actions
    assert {"ifb", "veth"} <= found.links
    device = netns.link_pair().a
    for kind in ("fq_codel", "cake", "prio", "sfq", "fq", "codel"):
        netns.run(f"tc qdisc add dev {device} root handle 77: {kind}", check=False)
        held = any(one["kind"] == kind for one in json.loads(netns.run(f"tc -j qdisc show dev {device}")))
        netns.run(f"tc qdisc del dev {device} root", check=False)
        assert held == (kind in found.qdiscs), kind


def test_the_probe_as_mapped_root_in_a_user_namespace() -> None:
    argv = ["unshare", "-rn", sys.executable, "-m", "shaper.kernel.probe"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode:
        pytest.skip(f"missing capability: user namespaces ({done.stderr.strip()})")
    answer = json.loads(done.stdout)
    assert frozenset(answer["qdiscs"]) == probe.capabilities().qdiscs
    assert frozenset(answer["links"]) == probe.capabilities().links


def test_devices_have_their_alternative_names_and_addresses(netns: Lab) -> None:
    device, kernel = netns.link_pair().a, netns.kernel()
    names = ("uplink", "a-name-of-more-than-fifteen-characters")
    for name in names:
        netns.run(f"ip link property add dev {device} altname {name}")
    netns.run(f"ip link set dev {device} address 02:00:5e:10:00:01")
    found = {one.name: one for one in kernel.devices()}
    assert found[device] == DeviceName(device, names, "02:00:5e:10:00:01")
    assert found["lo"].others == ()
    kernel.send(device, [Step(Verb.ADD, None, Ifb("tap0", f"sla-shaper {device}"))])
    assert {one.name for one in kernel.devices()} == set(found)
