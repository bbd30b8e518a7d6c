"""flower on a kernel that has it: tc shows what was meant, and packets go where they go by BPF and by the reference."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import packet_samples
import pytest
from packet_samples import LEAVES, Sample
from scapy.layers.inet import IP
from scapy.layers.l2 import LLC, STP, Dot3, Ether
from scapy.packet import Raw
from sorting import CLASSES, FRAMES, MAC, RULES, TOP, V4, Means, Sorter, by_bpf, by_flower

from collectors.netlink import Channel, NetlinkError, open_socket
from shaper.compile.flower import flower_filters
from shaper.errors import UnavailableError
from shaper.kernel.codec.flower import fault
from shaper.kernel.encode import message
from shaper.model.match import ETHERTYPE_LLC, Match, PortRange, Prefix, Rule, Rules, classify
from shaper.plan.steps import Step, Verb
from shaper.tree import FlowerFilter, FlowerKey, flower_key

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.full

SHAPER = Path(sys.executable).parent / "shaper"
ROUNDS = 200 if os.environ.get("HYPOTHESIS_PROFILE") == "ci" else 25
PACKETS = 30
POLICY = """\
version: 1
interfaces:
  wan: {{device: {device}, bandwidth: {{egress: 20mbit}}, policy: office, classifier: {classifier}}}
policies:
  office:
    classes:
      {first}
      voice: {{tier: special, guarantee: 1mbit, limit: 2mbit, match: [{{dscp: ef}}, {{proto: udp, dport: 5000-5100}}]}}
      web: {{guarantee: 3mbit, match: [{{proto: tcp, dport: [80, 443], src: 10.0.0.0/8}}, {{dst: "2001:db8::/32"}}]}}
      bulk: {{guarantee: 12mbit, default: true}}
"""


@pytest.mark.parametrize("means", [by_bpf, by_flower])
def test_real_packets_go_where_the_reference_says(netns: Lab, means: Means) -> None:
    sorter = Sorter(netns, CLASSES, means)
    sorter.obey(RULES)
    for expected, packet, protocol in FRAMES:
        assert sorter.class_of(bytes(packet), protocol) == expected, packet.summary()


@pytest.mark.parametrize(("means", "seen"), [(by_bpf, True), (by_flower, False)])
def test_what_flower_does_not_see_goes_to_the_default_class(netns: Lab, means: Means, seen: bool) -> None:
    sorter = Sorter(netns, CLASSES, means)
    sorter.obey(RULES)
    vlan = f"{sorter.device}.5"
    netns.run(f"ip link add link {sorter.device} name {vlan} type vlan id 5")
    netns.run(f"sysctl -qw net.ipv6.conf.{sorter.device}/5.disable_ipv6=1")
    netns.run(f"ip link set {vlan} up")
    urgent = Ether(**MAC) / IP(**V4, tos=46 << 2, proto=137) / Raw(bytes((0, 0, 0x11, 64)) * 5)
    assert sorter.class_of(bytes(urgent)) == ("voice" if seen else "rest"), "MPLS in IP"
    assert sorter.class_of(bytes(Dot3(**MAC) / LLC() / STP())) == ("control" if seen else "rest"), "known by its length"
    tagged = bytes(Ether(**MAC) / IP(**V4, tos=46 << 2) / Raw(bytes(20)))
    assert sorter.class_of(tagged, by=vlan) == ("voice" if seen else "rest"), "a tag that the device adds"


def expressible(rules: Rules) -> Rules:
    """Without the rules that flower refuses."""

    def fits(rule: Rule) -> bool:
        try:
            flower_filters(Rules((rule,), "rest"), dict.fromkeys(LEAVES, 1), TOP)
        except UnavailableError:
            return False
        return True

    return Rules(tuple(rule for rule in rules.ordered if fits(rule)), rules.default)


def on_ethernet(sample: Sample) -> tuple[bytes, int]:
    """The frame, and what stands for its ethertype."""
    macs = bytes.fromhex("020000000002020000000001")
    ethertype = sample.skb.protocol
    return macs + ethertype.to_bytes(2, "big") + sample.skb.data[sample.skb.network :], (
        ethertype if ethertype < 0x600 else 0
    )


def test_any_packets_go_by_flower_where_they_go_by_bpf_and_by_the_reference(netns: Lab) -> None:
    bpf, flower = Sorter(netns, LEAVES, by_bpf, "q0"), Sorter(netns, LEAVES, by_flower, "q1")
    compared = elsewhere = filters = 0
    for seed in range(ROUNDS):
        random = Random(seed)
        samples = [packet_samples.sample(random) for _ in range(PACKETS)]
        rules = expressible(packet_samples.rules_about(random, [sample.packet for sample in samples]))
        bpf.obey(rules)
        plan = flower.obey(rules)
        filters += sum(step.verb is Verb.ADD for step in plan.steps)
        for sample in samples:
            if sample.packet.ethertype == ETHERTYPE_LLC and sample.skb.protocol != ETHERTYPE_LLC:
                continue  # sent here by its length: no filter can ask for that, and the plan says so
            expected = classify(rules, sample.packet)
            frame = on_ethernet(sample)
            assert (bpf.class_of(*frame), flower.class_of(*frame)) == (expected, expected), (seed, rules, sample)
            compared += 1
            elsewhere += expected != rules.default
    print(f"{compared} packets, {elsewhere} of them not by default, {filters} filters, {ROUNDS} sets of rules")
    assert elsewhere > compared / 10, "most rules must be met by some packet"


def test_a_plan_leads_from_rules_to_rules_and_its_inverse_back(netns: Lab) -> None:
    sorter, random = Sorter(netns, LEAVES, by_flower), Random(7)
    sorter.obey(Rules((), "rest"))
    for _ in range(30):
        packets = [packet_samples.sample(random).packet for _ in range(5)]
        sorter.there_and_back(expressible(packet_samples.rules_about(random, packets)))


def shown(lab: Lab, device: str) -> list[dict[str, Any]]:
    """The flower filters as tc prints them."""
    found = json.loads(lab.run(f"tc -j filter show dev {device}"))
    return [one for one in found if one["kind"] == "flower" and one.get("options", {}).get("handle")]


def test_tc_shows_what_was_meant(netns: Lab) -> None:
    sorter = Sorter(netns, CLASSES, by_flower)
    match = Match(
        dscp=(46,),
        protocols=(17,),
        src=(Prefix(4, 10 << 24, 8),),
        dst=(Prefix(4, 0xCB007105, 32),),
        sport=(PortRange(1024, 65535),),
        dport=(PortRange(5000, 5100),),
    )
    zero = Match(protocols=(6,), src=(Prefix(6, 0x20010DB8 << 96, 32),), dport=(PortRange(0, 0),))
    rules = (Rule((match,), "voice"), Rule((zero,), "web"), Rule((Match(icmp=((58, 135),)),), "control"))
    sorter.obey(Rules((*rules, Rule((Match(ethertypes=(0x0806,)),), "control")), "rest"))
    rows = {one["pref"]: one for one in shown(netns, sorter.device)}
    assert {pref: (one["protocol"], one["options"]["classid"]) for pref, one in rows.items()} == {
        100: ("ip", "5a00:11"),
        101: ("ipv6", "5a00:12"),
        102: ("ipv6", "5a00:10"),
        103: ("arp", "5a00:10"),
    }
    keys = {pref: one["options"]["keys"] for pref, one in rows.items()}
    assert keys[100] == {
        "eth_type": "ipv4",
        "ip_proto": "udp",
        "ip_tos": 0xB8,
        "ip_tos_mask": "fc",
        "src_ip": "10.0.0.0/8",
        "dst_ip": "203.0.113.5",
        "src_port": {"start": 1024, "end": 65535},
        "dst_port": {"start": 5000, "end": 5100},
    }
    assert keys[101] == {
        "eth_type": "ipv6",
        "ip_proto": "tcp",
        "src_ip": "2001:db8::/32",
        "dst_port": 0,
        "ip_flags": {"frag": False},
    }
    icmp = {name: str(value) for name, value in keys[102].items()}  # tc has it as text
    assert icmp == {"eth_type": "ipv6", "ip_proto": "icmpv6", "icmp_type": "135"}
    assert keys[103] == {}


def test_what_tc_puts_there_is_read_as_it_means_it(netns: Lab) -> None:
    sorter = Sorter(netns, CLASSES, by_flower)
    sorter.obey(Rules((), "rest"))
    at = f"tc filter add dev {sorter.device} parent 5a00:"
    netns.run(f"{at} protocol ip pref 7 handle 3 flower ip_proto tcp dst_port 80 ip_tos 0xb8/0xfc classid 5a00:11")
    netns.run(f"{at} protocol ipv6 pref 8 handle 1 flower ip_proto udp src_port 5-9 classid 5a00:12")
    netns.run(f"{at} protocol ip pref 9 handle 1 flower src_mac 02:00:00:00:00:01 classid 5a00:12")
    first, second, third = sorter.read().filters
    pairs = (("dport", 80), ("eth_type", 0x0800), ("ip_proto", 6))
    keys = (*(flower_key(*pair) for pair in pairs), flower_key("ip_tos", 0xB8, 0xFC))
    assert first == FlowerFilter(TOP, 7, 3, 0x0800, keys, TOP | 0x11)
    assert isinstance(second, FlowerFilter)
    assert {flower_key("sport_min", 5), flower_key("sport_max", 9)} <= set(second.keys)
    assert not isinstance(third, FlowerFilter), "an address of the link layer is not asked by us"


IPV4 = ("eth_type", 0x0800)


@pytest.mark.parametrize(
    ("keys", "refused"),
    [
        ([("dport_max", 6), ("dport_min", 6), IPV4, ("ip_proto", 6)], True),
        ([("dport_min", 6), IPV4, ("ip_proto", 6)], True),
        ([("dport_max", 6), ("dport_min", 9), IPV4, ("ip_proto", 17)], True),
        ([("ip_proto", 6)], False),
        ([IPV4, ("icmpv6_type", 6), ("ip_proto", 58)], False),
        ([("dport_max", 9), ("dport_min", 6), IPV4, ("ip_proto", 136)], False),
        ([("eth_type", 0x0806), ("ip_tos", 4)], False),
    ],
)
def test_keys_with_a_fault_are_refused_by_the_kernel_or_taken_for_less(
    netns: Lab, keys: list[tuple[str, int]], refused: bool
) -> None:
    sorter = Sorter(netns, CLASSES, by_flower)
    sorter.obey(Rules((), "rest"))
    wrong: tuple[FlowerKey, ...] = tuple(sorted(flower_key(*key) for key in keys))
    protocol = next((value for field, value in keys if field == "eth_type"), 0x0800)
    assert fault(wrong, protocol)
    node = FlowerFilter(TOP, 5, 1, protocol, wrong, TOP | 0x11)
    index = netns.kernel().link(sorter.device).index
    kind, flags, body = message(Step(Verb.ADD, None, node), index, lambda _: 0, {})
    with open_socket(netns.name) as sock:
        if refused:
            with pytest.raises(NetlinkError, match=r"port"):
                Channel(sock).request(kind, flags, body)
            return
        Channel(sock).request(kind, flags, body)
    (taken,) = sorter.read().filters
    assert isinstance(taken, FlowerFilter)
    assert set(taken.keys) < set(wrong)


class Shaper:
    """The command, with a policy for a device, in a namespace."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._lab = lab
        self._folder = folder
        self._file = folder / "policy.yaml"
        self.device = lab.link_pair().a

    def __call__(self, command: str, *, classifier: str = "flower", first: str = "{}") -> tuple[int, Any]:
        first = "" if first == "{}" else first
        self._file.write_text(POLICY.format(device=self.device, classifier=classifier, first=first))
        policy = "" if command == "clear" else self._file
        argv = f"ip netns exec {self._lab.name} {SHAPER} {command} {policy} --state {self._folder / 'state'} --json"
        done = subprocess.run(argv.split(), capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def tc(self) -> str:
        """What tc sees; fq_codel shows a flow that has packets as a class: those come and go."""
        shows = (f"tc {what} show dev {self.device}" for what in ("qdisc", "class", "filter"))
        lines = (line for show in shows for line in self._lab.run(show).splitlines())
        return "\n".join(line for line in lines if not line.startswith("class fq_codel"))


FRONT = "scavenger: {guarantee: 64kbit, match: [{dscp: le}]}"


def test_apply_is_idempotent_and_there_and_back_and_clear_leaves_nothing(netns: Lab, tmp_path: Path) -> None:
    shaper = Shaper(netns, tmp_path)
    found = shaper.tc()
    code, planned = shaper("plan")
    assert code == 2 and any("flower filters" in note for note in planned["interfaces"][0]["notes"])
    assert shaper("apply")[0] == 0
    first = shaper.tc()
    assert len(shown(netns, shaper.device)) > 20 and "bpf" in netns.run(f"tc filter show dev {shaper.device} egress")
    code, again = shaper("apply")
    assert (code, again["interfaces"][0]["steps"]) == (0, [])

    code, changed = shaper("apply", first=FRONT)  # before all others: every preference moves
    assert code == 0 and changed["interfaces"][0]["steps"]
    assert shaper("apply", first=FRONT)[1]["interfaces"][0]["steps"] == []
    assert shaper.tc() != first
    assert shaper("apply")[0] == 0
    assert shaper.tc() == first
    assert shaper("clear")[0] == 0
    assert shaper.tc() == found


def test_from_bpf_to_flower_and_back(netns: Lab, tmp_path: Path) -> None:
    shaper = Shaper(netns, tmp_path)
    assert shaper("apply", classifier="auto")[0] == 0
    first = shaper.tc()
    assert shown(netns, shaper.device) == []
    assert shaper("apply", classifier="flower")[0] == 0
    assert " bpf " not in netns.run(f"tc filter show dev {shaper.device} parent 5a00:")
    assert shaper("apply", classifier="bpf")[0] == 0
    assert shaper.tc() == first
