"""Each importer against examples of its tool: the policy and the report, and what the policy then means.

After a change that is meant, `GOLDEN=write pytest tests/unit/test_import_golden.py` writes what now comes out; read
the difference before it is committed.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from import_samples import CASES, inputs, run

from shaper.model.match import TCP, UDP, Packet, classify
from shaper.policy import parse_policy
from shaper.policy.importers.quantities import network
from shaper.report.imports import lost_json


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}-{case.name}")
def test_the_policy_and_the_report(case: Path) -> None:
    result = run(case.parent.name, inputs(case))
    report = json.dumps(lost_json(result.lost), indent=2) + "\n"
    if os.environ.get("GOLDEN") == "write":
        (case / "expected.yaml").write_text(result.text)
        (case / "report.json").write_text(report)
    assert result.text == (case / "expected.yaml").read_text()
    assert report == (case / "report.json").read_text()
    parse_policy(result.text, source=case.name)


def test_every_tool_has_an_example() -> None:
    assert {case.parent.name for case in CASES} == {"fireqos", "vyos", "tcconfig", "libreqos"}


def packet(**fields: int) -> Packet:
    return Packet(**{"ethertype": 0x0800, "src": 0x0A000001, "dst": 0xCB007105, "dscp": 0, "ecn": 0, **fields})


def test_fireqos_means_what_its_manual_says() -> None:
    text = """
    interface eth0 wan output rate 10Mbit
      class voice commit 1Mbit ceil 50%
        match udp ports 5060,10000:10010
      class acks prio 2
        match tcp ack
      class web commit 20%
        server http
        match dst 203.0.113.0/24 sport 8080 prio 1
    """
    policy = parse_policy(run("fireqos", [(text, "f")]).text, source="f")
    (wan,) = policy.interfaces
    rules = wan.rules()
    cases = [
        (packet(protocol=UDP, sport=1, dport=10005), "voice"),
        (packet(protocol=UDP, sport=5060, dport=1), "voice"),
        (packet(protocol=TCP, sport=5060, dport=1, tcp_flags=0x18, length=900), "rest"),
        (packet(protocol=TCP, sport=1, dport=2, tcp_flags=0x10, length=52), "acks"),
        (packet(protocol=TCP, sport=80, dport=2, tcp_flags=0x18, length=1500), "web"),
        (packet(protocol=TCP, sport=8080, dport=2, tcp_flags=0x10, length=52), "web"),  # `prio 1`: asked first
        (packet(protocol=TCP, sport=2, dport=80, tcp_flags=0x18, length=1500), "rest"),
    ]
    assert [classify(rules, one) for one, _ in cases] == [path for _, path in cases]
    classes = {cls.path: cls for cls in wan.walk()}
    assert (classes["voice"].guarantee, classes["voice"].limit) == (1_000_000, 5_000_000)
    assert classes["acks"].guarantee == 100_000  # a hundredth, where nothing is said
    assert classes["web"].guarantee == 2_000_000
    assert [classes[name].priority for name in ("voice", "acks", "web")] == [0, 2, 3]


@pytest.mark.parametrize(
    ("said", "bits"),
    [("500", 500_000), ("500kbit", 500_000), ("100kbps", 800_000), ("2Mbit", 2_000_000), ("1mbps", 8_000_000)],
)
def test_fireqos_units(said: str, bits: int) -> None:
    text = f"interface eth0 wan output rate 100Mbit\nclass a commit {said}\nmatch udp port 1\n"
    (wan,) = parse_policy(run("fireqos", [(text, "f")]).text, source="f").interfaces
    assert {cls.path: cls.guarantee for cls in wan.walk()}["a"] == bits


def test_vyos_ceilings_and_priorities() -> None:
    text = """
set qos interface eth0 egress S
set qos policy shaper S bandwidth 10mbit
set qos policy shaper S class 10 bandwidth 20%
set qos policy shaper S class 10 match a ip dscp ef
set qos policy shaper S class 20 bandwidth 1mbit
set qos policy shaper S class 20 ceiling 50%
set qos policy shaper S class 20 priority 4
set qos policy shaper S class 20 match b ipv6 source port 443
set qos policy shaper S default bandwidth 1mbit
"""
    (eth0,) = parse_policy(run("vyos", [(text, "v")]).text, source="v").interfaces
    classes = {cls.path: cls for cls in eth0.walk()}
    assert (classes["class-10"].guarantee, classes["class-10"].limit) == (2_000_000, 2_000_000)
    assert (classes["class-20"].guarantee, classes["class-20"].limit) == (1_000_000, 5_000_000)
    assert [classes[name].priority for name in ("class-10", "class-20", "default")] == [0, 4, 7]
    assert eth0.default().path == "default"


def test_tcconfig_reads_kbps_as_bits() -> None:
    text = '{"eth0": {"outgoing": {"dst-port=80, protocol=ip": {"rate": "250Kbps"}}, "incoming": {}}}'
    (eth0,) = parse_policy(run("tcconfig", [(text, "t")]).text, source="t").interfaces
    assert next(cls.limit for cls in eth0.walk() if cls.path.startswith("dst-port")) == 250_000


def test_libreqos_circuits_stand_below_their_sites() -> None:
    case = next(case for case in CASES if case.parent.name == "libreqos")
    policy = parse_policy(run("libreqos", inputs(case)).text, source="l")
    down, up = policy.interfaces
    inn = 0x64400005
    assert classify(down.rules(), packet(protocol=TCP, dst=inn)) == "valley/c-4-the-inn"
    assert classify(up.rules(), packet(protocol=TCP, src=inn)) == "valley/c-4-the-inn"
    assert classify(down.rules(), packet(protocol=TCP, src=inn)) == "rest"


def test_bits_beyond_a_prefix_are_masked_as_tc_masks_them() -> None:
    text = "interface eth0 wan output rate 10Mbit\n  class a commit 1Mbit\n    match src 10.1.2.3/24\n"
    result = run("fireqos", [(text, "f")])
    (wan,) = parse_policy(result.text, source="f").interfaces
    assert not any("beyond" in lost.why for lost in result.lost)
    assert classify(wan.rules(), packet(src=0x0A0102FF)) == "a"
    assert classify(wan.rules(), packet(src=0x0A010301)) != "a"
    said = {text: network(text) for text in ("10.0.0.1", "2001:db8::1/48", "10.0.0.1/33", "lan/8", "")}
    assert said == {**{text: text for text in said}, "2001:db8::1/48": "2001:db8::/48"}
