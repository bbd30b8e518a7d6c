"""`shaper export tc` makes what `shaper apply` makes; `shaper import tc` reads what a running tree means."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shaper.model.match import TCP, UDP, Packet, classify
from shaper.policy import parse_policy
from shaper.report.tc_script import as_tc_keeps
from shaper.tree import TICK_NS, HtbClass

pytestmark = pytest.mark.kernel

TICKS_OF_A_MICROSECOND = 16
SHAPER = f"{Path(sys.executable).parent / 'shaper'}"
POLICY = """\
version: 1
interfaces:
  wan: {{device: {device}, bandwidth: {{egress: 20mbit}}, policy: office{more}}}
policies:
  office:
    classes:
      voice: {{tier: special, guarantee: 1mbit, limit: 2mbit, match: [{{dscp: ef}}], sla: {{delay-p99: 20ms}}}}
      web:
        guarantee: 4mbit
        match: [{{proto: tcp, dst: [10.0.0.0/8, "2001:db8::/32"]}}]
        classes:
          shop: {{guarantee: 3mbit, match: [{{dport: [80, 8000-8100]}}]}}
          more: {{share: 30%}}
      odd: {{guarantee: 1234567bit, limit: 7654321bit, match: [{{proto: udp, sport: 53}}]}}
      bulk: {{guarantee: 9mbit, adapt: {{min: 2mbit}}, default: true}}
"""


def command(lab: Any, words: str, *, code: int = 0) -> str:
    """The output of a command inside, which must end with that exit code."""
    argv = ["ip", "netns", "exec", lab.name, *words.split()]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout


KINDS = ["", ", link: docsis", ", link: adsl-pppoe-llcsnap"]
FULL_KINDS = [pytest.param(more, marks=pytest.mark.full) for more in (", classifier: flower", ", backend: hfsc")]


@pytest.mark.parametrize("more", [*KINDS, *FULL_KINDS])
def test_the_exported_script_makes_the_tree_that_apply_makes(netns: Any, tmp_path: Path, more: str) -> None:
    pair, kernel = netns.link_pair(), netns.kernel()
    policy, state, script = tmp_path / "p.yaml", tmp_path / "state", tmp_path / "script.sh"
    policy.write_text(POLICY.format(device=pair.a, more=more))
    script.write_text(command(netns, f"{SHAPER} export tc --here {policy}"))
    command(netns, f"{SHAPER} apply {policy} --state {state}")
    applied = kernel.read(pair.a)
    command(netns, f"{SHAPER} clear {policy} --state {state}")
    empty = kernel.read(pair.a)
    assert not (empty.qdiscs or empty.classes or empty.filters or empty.links)
    command(netns, f"sh {script}")
    made, wanted = kernel.read(pair.a), as_tc_keeps(applied)
    assert set(made.nodes()) ^ set(wanted.nodes()) == set()
    assert made == wanted
    for kept, cls in zip(as_tc_keeps(applied).classes, applied.classes, strict=True):
        if isinstance(cls, HtbClass) and isinstance(kept, HtbClass):
            byte = 8 * 10**9 // (TICK_NS * cls.rate) + 1
            assert 0 <= kept.burst - cls.burst <= TICKS_OF_A_MICROSECOND + byte


BANDS = """\
version: 1
interfaces:
  wan: {{device: {device}, bandwidth: {{egress: 20mbit}}, policy: p, backend: {backend}}}
policies:
  p: {{classes: {classes}}}
"""


@pytest.mark.full
@pytest.mark.parametrize(
    ("backend", "classes"),
    [
        ("prio", "{a: {tier: priority, match: [{dscp: ef}]}, b: {default: true}}"),
        ("ets", "{a: {match: [{dscp: ef}]}, b: {share: 70%, match: [{proto: tcp}]}, c: {share: 30%, default: true}}"),
        ("cake", "{rest: {default: true}}"),
    ],
)
def test_backends_without_classes_are_exported(netns: Any, tmp_path: Path, backend: str, classes: str) -> None:
    pair, kernel = netns.link_pair(), netns.kernel()
    policy, state, script = tmp_path / "p.yaml", tmp_path / "state", tmp_path / "script.sh"
    policy.write_text(BANDS.format(device=pair.a, backend=backend, classes=classes))
    script.write_text(command(netns, f"{SHAPER} export tc --here {policy}"))
    command(netns, f"{SHAPER} apply {policy} --state {state}")
    applied = kernel.read(pair.a)
    command(netns, f"{SHAPER} clear {policy} --state {state}")
    command(netns, f"sh {script}")
    assert kernel.read(pair.a) == applied


def test_a_running_tree_is_imported_with_its_meaning(netns: Any, tmp_path: Path) -> None:
    pair = netns.link_pair()
    for line in (
        "qdisc add dev {} root handle 1: htb default 30",
        "class add dev {} parent 1: classid 1:1 htb rate 20mbit quantum 1514",
        "class add dev {} parent 1:1 classid 1:10 htb rate 2mbit ceil 4mbit prio 0 quantum 1514",
        "class add dev {} parent 1:1 classid 1:20 htb rate 8mbit ceil 20mbit prio 1 quantum 1514",
        "class add dev {} parent 1:1 classid 1:30 htb rate 9mbit ceil 20mbit prio 3 quantum 1514",
        "filter add dev {} parent 1: protocol ip prio 1 u32 match ip dport 5060 0xffff "
        "match ip protocol 17 0xff flowid 1:10",
        "filter add dev {} parent 1: protocol ip prio 2 u32 match ip tos 0xb8 0xfc flowid 1:10",
        "filter add dev {} parent 1: protocol ip prio 3 u32 match ip src 10.1.0.0/16 match ip sport 8000 0xfff0 "
        "match ip protocol 6 0xff flowid 1:20",
        "filter add dev {} parent 1: protocol ipv6 prio 4 u32 match ip6 dst 2001:db8::/32 flowid 1:20",
        "filter add dev {} parent 1: protocol ip prio 7 u32 match u8 64 0xff at 8 flowid 1:20",
    ):
        netns.run(f"tc {line.format(pair.a)}")
    answer = json.loads(command(netns, f"{SHAPER} import tc {pair.a} --json"))
    (wan,) = parse_policy(answer["policy"], source="import").interfaces
    assert (wan.device, wan.bandwidth) == (pair.a, 20_000_000)
    classes = {cls.path: (cls.guarantee, cls.limit, cls.priority) for cls in wan.walk() if not cls.implied}
    assert classes == {
        "class-10": (2_000_000, 4_000_000, 0),
        "class-20": (8_000_000, 20_000_000, 1),
        "class-30": (9_000_000, 20_000_000, 3),
    }
    assert [(one["text"], one["why"].split(",")[0]) for one in answer["report"]] == [
        ("filter u32 0x80400800 parent 1: pref 7", "it asks for bytes at 8")
    ]
    four, six = 0x0800, 0x86DD
    packets = {
        Packet(four, UDP, 1, 2, 9, 5060, 0): "class-10",
        Packet(four, TCP, 1, 2, 9, 5060, 0): "class-30",
        Packet(four, TCP, 1, 2, 9, 99, 46): "class-10",
        Packet(four, TCP, 0x0A010203, 2, 8015, 99, 0): "class-20",
        Packet(four, TCP, 0x0A010203, 2, 8016, 99, 0): "class-30",
        Packet(six, TCP, 1, 0x20010DB8 << 96 | 1, 8016, 99, 0): "class-20",
        Packet(six, TCP, 1, 0x20010DB9 << 96 | 1, 8016, 99, 0): "class-30",
    }
    assert {packet: classify(wan.rules(), packet) for packet in packets} == packets


def test_a_device_without_an_htb_has_nothing_to_import(netns: Any) -> None:
    pair = netns.link_pair()
    answer = json.loads(command(netns, f"{SHAPER} import tc {pair.a} --json", code=65))
    assert "the kernel's default qdisc" in answer["problems"][0]["hint"]


@pytest.mark.full
def test_flower_and_marks_are_imported(netns: Any) -> None:
    pair = netns.link_pair()
    for line in (
        "qdisc add dev {} root handle 1: htb default 20",
        "class add dev {} parent 1: classid 1:1 htb rate 20mbit quantum 1514",
        "class add dev {} parent 1:1 classid 1:10 htb rate 2mbit quantum 1514",
        "class add dev {} parent 1:1 classid 1:20 htb rate 8mbit ceil 20mbit quantum 1514",
        "filter add dev {} parent 1: protocol ip prio 1 flower ip_proto udp dst_port 5000-6000 classid 1:10",
        "filter add dev {} parent 1: protocol ip prio 2 flower dst_ip 192.0.2.0/24 ip_tos 0x10/0x10 classid 1:10",
        "filter add dev {} parent 1: protocol ip prio 3 handle 7 fw classid 1:10",
        "filter add dev {} parent 1: protocol all prio 9 matchall classid 1:10",
    ):
        netns.run(f"tc {line.format(pair.a)}")
    answer = json.loads(command(netns, f"{SHAPER} import tc {pair.a} --json"))
    (wan,) = parse_policy(answer["policy"], source="import").interfaces
    matches = [match for cls in wan.walk() if cls.path == "class-10" for match in cls.matches]
    assert [match.asks for match in matches] == [
        ("protocols", "dport", "ethertypes"),
        ("dst", "ethertypes", "tos"),
        ("ethertypes", "mark"),
    ]
    assert [one["text"].split()[1] for one in answer["report"]] == ["matchall"]
