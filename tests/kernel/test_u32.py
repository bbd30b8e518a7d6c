"""u32 on the machine's own kernel: tc shows what was meant, packets go where the reference says, nothing is left."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import packet_samples
import pytest
from packet_samples import LEAVES
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from sorting import CLASSES, FRAMES, MAC, RULES, V4, Sorter, by_u32

from shaper.model.match import Match, PortRange, Prefix, Rule, Rules
from shaper.report.tc_script import as_tc_keeps, rounded, script
from shaper.tree import OtherFilter, U32Filter

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.kernel

SHAPER = Path(sys.executable).parent / "shaper"
POLICY = """\
version: 1
interfaces:
  wan: {{device: {device}, bandwidth: {{egress: 20mbit}}, policy: office, classifier: {classifier}}}
policies:
  office:
    classes:
      voice: {{tier: special, guarantee: 1mbit, limit: 2mbit, match: [{{dscp: ef}}, {{proto: udp, dport: 5000-5100}}]}}
      web: {{guarantee: 3mbit, match: [{{proto: tcp, dport: [80, 443], src: 10.0.0.0/8}}, {{dst: "2001:db8::/32"}}]}}
      bulk: {{guarantee: 12mbit, default: true}}
"""


def test_real_packets_go_where_the_reference_says(netns: Lab) -> None:
    sorter = Sorter(netns, CLASSES, by_u32)
    sorter.obey(RULES)
    for expected, packet, protocol in FRAMES:
        assert sorter.class_of(bytes(packet), protocol) == expected, packet.summary()


def test_the_kernel_follows_seven_extension_headers_to_the_ports(netns: Lab) -> None:
    sorter = Sorter(netns, CLASSES, by_u32)
    sorter.obey(RULES)
    udp = bytes(UDP(sport=5000, dport=20000) / Raw(bytes(40)))
    found = []
    for count in range(10):
        chain = b"".join(bytes([17 if left == 0 else 60, 0, 1, 4, 0, 0, 0, 0]) for left in reversed(range(count)))
        header = (
            bytes.fromhex("60000000") + (len(chain) + len(udp)).to_bytes(2, "big") + bytes([60 if count else 17, 64])
        )
        frame = bytes(Ether(**MAC, type=0x86DD)) + header + bytes(15) + b"\1" + bytes(15) + b"\2" + chain + udp
        found.append(sorter.class_of(frame))
    assert found == ["voice"] * 8 + ["rest"] * 2


def test_a_plan_leads_from_rules_to_rules_and_its_inverse_back(netns: Lab) -> None:
    sorter, random = Sorter(netns, LEAVES, by_u32), Random(7)
    sorter.obey(Rules((), "rest"))
    for _ in range(12):
        packets = [packet_samples.sample(random).packet for _ in range(5)]
        sorter.there_and_back(packet_samples.rules_about(random, packets))


def shown(lab: Lab, device: str) -> list[dict[str, Any]]:
    """The u32 filters and tables as tc prints them."""
    found = json.loads(lab.run(f"tc -j filter show dev {device}"))
    return [one for one in found if one["kind"] == "u32" and "options" in one]


def test_tc_shows_what_was_meant(netns: Lab) -> None:
    sorter = Sorter(netns, CLASSES, by_u32)
    match = Match(
        dscp=(46,),
        protocols=(17,),
        src=(Prefix(4, 10 << 24, 8),),
        dst=(Prefix(4, 0xCB007105, 32),),
        dport=(PortRange(5000, 5001),),
    )
    rules = (Rule((match,), "voice"), Rule((Match(src=(Prefix(6, 0x20010DB8 << 96, 32),)),), "web"))
    sorter.obey(Rules((*rules, Rule((Match(ethertypes=(0x0806,)),), "control")), "rest"))
    text = netns.run(f"tc filter show dev {sorter.device} protocol ip")
    assert "fh 1: ht divisor 1" in text and "fh 1::1 " in text and "flowid 5a00:11" in text
    keys = [line.split() for line in text.splitlines() if line.strip().startswith("match")]
    assert [(one[1], one[3]) for one in keys] == [
        ("00001388/0000fffe", "0"),
        ("00b80000/00fc0000", "0"),
        ("00000000/00003fff", "4"),
        ("00110000/00ff0000", "8"),
        ("0a000000/ff000000", "12"),
        ("cb007105/ffffffff", "16"),
    ]
    assert "link 1:" in text and "offset 0f00>>6 at 0  eat" in " ".join(text.split(" "))

    sorter.obey(Rules((*rules[1:], Rule((Match(ethertypes=(0x0806,)),), "control")), "rest"))  # tc's JSON has no links
    filters = {(one["protocol"], one["pref"]): one["options"] for one in shown(netns, sorter.device)}
    assert {place: one["flowid"] for place, one in filters.items() if "flowid" in one} == {
        ("arp", 0x0806): "5a00:10",
        ("ipv6", 0x86DD): "5a00:12",
        ("all", 0xFFFF): "5a00:14",
    }
    assert filters["ipv6", 0x86DD]["match"] == {"value": "20010db8", "mask": "ffffffff", "offmask": "", "off": 8}


def test_what_export_says_in_tcs_words_is_the_same_tree(netns: Lab) -> None:
    """A script by tc makes the filters that netlink made."""
    sorter = Sorter(netns, CLASSES, by_u32, "q0")
    other = Sorter(netns, CLASSES, by_u32, "q1")
    sorter.obey(RULES)
    other.obey(Rules((), "rest"))
    wanted = sorter.read()
    lines = [line for line in script([("", wanted)]).splitlines() if line.startswith("tc filter")]
    netns.run("tc filter del dev q1 parent 5a00:")
    for line in lines:
        netns.run(line.replace("dev q0", "dev q1"))
    assert other.read().filters == as_tc_keeps(wanted).filters
    assert any("extension headers" in note for note in rounded(wanted))
    assert any(isinstance(one, U32Filter) and one.link for one in wanted.filters)


def test_what_tc_puts_at_other_preferences_is_somebody_elses(netns: Lab) -> None:
    sorter = Sorter(netns, CLASSES, by_u32)
    sorter.obey(Rules((), "rest"))
    at = f"tc filter add dev {sorter.device} parent 5a00: protocol ip"
    netns.run(f"{at} pref 7 u32 match ip dport 80 0xffff flowid 5a00:11")
    netns.run(f"{at} pref {0x0800} u32 match mark 7 0xff match ip dport 80 0xffff flowid 5a00:11", check=False)
    others = [one for one in sorter.read().filters if isinstance(one, OtherFilter)]
    assert {one.kind for one in others} == {"u32"} and {one.preference for one in others} >= {7}


class Shaper:
    """The command, with a policy for a device, in a namespace."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._lab = lab
        self._folder = folder
        self._file = folder / "policy.yaml"
        self.device = lab.link_pair().a

    def __call__(self, command: str, *, classifier: str = "u32") -> tuple[int, Any]:
        self._file.write_text(POLICY.format(device=self.device, classifier=classifier))
        policy = "" if command == "clear" else self._file
        argv = f"ip netns exec {self._lab.name} {SHAPER} {command} {policy} --state {self._folder / 'state'} --json"
        done = subprocess.run(argv.split(), capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def tc(self) -> str:
        """What tc sees, without the numbers that the kernel gives to tables of its own."""
        shows = (f"tc {what} show dev {self.device}" for what in ("qdisc", "class", "filter"))
        lines = (line for show in shows for line in self._lab.run(show).splitlines())
        first = {f"{number:x}" for number in range(0x800, 0x1000)}
        return "\n".join(
            " ".join("8::" if word.split(":")[0] in first else word for word in line.split())
            for line in lines
            if not line.startswith("class fq_codel")
        )


def test_there_and_back_and_from_bpf_and_back_is_the_same_and_clear_leaves_nothing(netns: Lab, tmp_path: Path) -> None:
    shaper = Shaper(netns, tmp_path)
    found = shaper.tc()
    code, applied = shaper("apply")
    assert code == 0 and any("u32 filters" in note for note in applied["interfaces"][0]["notes"])
    first = shaper.tc()
    assert first.count(" u32 ") > 50
    code, again = shaper("apply")
    assert (code, again["interfaces"][0]["steps"]) == (0, [])

    code, changed = shaper("apply", classifier="bpf")
    assert code == 0 and "not atomic" in json.dumps(changed)
    assert " u32 " not in shaper.tc()
    assert shaper("apply")[0] == 0
    assert shaper.tc() == first
    assert shaper("clear")[0] == 0
    assert shaper.tc() == found


def test_a_tag_that_the_device_adds_is_not_looked_through(netns: Lab) -> None:
    sorter = Sorter(netns, CLASSES, by_u32)
    sorter.obey(RULES)
    tagged = (
        bytes(Ether(**MAC, type=0x8100)) + bytes.fromhex("00050800") + bytes(IP(**V4, tos=46 << 2) / Raw(bytes(20)))
    )
    assert sorter.class_of(tagged) == "rest"
    assert sorter.class_of(bytes(Ether(**MAC) / IP(**V4, tos=46 << 2) / Raw(bytes(20)))) == "voice"
