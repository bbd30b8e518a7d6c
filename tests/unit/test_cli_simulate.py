"""`shaper simulate`: the same answer each time, what it refuses, and captures as traffic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.utils import wrpcap

from shaper.cli.simulate import simulate
from shaper.errors import ShaperError, UnavailableError
from shaper.lab.offered import RecordingError

ROOT = Path(__file__).resolve().parents[2]
POLICY = ROOT / "policies" / "lab" / "office.yaml"
SCENARIO = ROOT / "policies" / "scenarios" / "open-loop.yaml"


def ran(*arguments: object) -> str:
    done = CliRunner().invoke(simulate, [str(one) for one in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def found(*arguments: object) -> dict[str, Any]:
    result = json.loads(ran(*arguments, "--json"))
    assert isinstance(result, dict)
    return result


def test_the_controller_holds_in_the_model_what_static_rates_do_not() -> None:
    asked = (POLICY, "--traffic", SCENARIO, "--seconds", 6)
    static, ours = (found(*asked, "--mode", mode) for mode in ("static", "controlled"))
    assert static["changes"] == 0
    assert static["decisions"] == []
    assert static["classes"]["video"]["violation_seconds"] >= 3
    assert ours["classes"]["video"]["violation_seconds"] <= 1
    assert ours["changes"] == sum(len(one["changes"]) for one in ours["decisions"]) > 0
    moved = [change for one in ours["decisions"] for change in one["changes"] if change["path"] == "video"]
    assert moved[-1]["after"]["rate_bit_s"] > 7_000_000
    assert all(change["reason"] for change in moved)


def test_the_same_seed_is_the_same_answer_and_another_is_another() -> None:
    asked = (POLICY, "--traffic", SCENARIO, "--seconds", 5, "--json")
    assert ran(*asked) == ran(*asked)
    assert ran(*asked) != ran(*asked, "--seed", 2)


@pytest.mark.parametrize(("option", "value"), [("--tick", "nan"), ("--seconds", "inf")])
def test_what_is_no_number_to_go_by_is_refused(option: str, value: str) -> None:
    done = CliRunner().invoke(simulate, [str(POLICY), "--traffic", str(SCENARIO), option, value])
    assert done.exit_code == 2
    assert option in done.output
    assert value in done.output


def test_people_read_a_row_a_class_and_each_move() -> None:
    said = ran(POLICY, "--traffic", SCENARIO, "--seconds", 5)
    assert "in the model of HTB and FIFOs, controlled" in said
    assert "video" in said
    assert "feed-forward" in said


def test_what_the_model_does_not_know_asks_for_exact(tmp_path: Path) -> None:
    demo = ROOT / "policies" / "demo.yaml"
    with pytest.raises(ShaperError, match="TCP") as refused:
        found(demo, "--traffic", ROOT / "policies" / "scenarios" / "demo.yaml")
    assert "--exact" in refused.value.hint
    udp = tmp_path / "udp.yaml"
    udp.write_text(
        "version: 1\nseed: 1\nflows:\n  a: {class: voice, protocol: udp, dscp: ef, "
        "steps: [{at: 0s, rate: 1mbit, size: 200b}]}\n"
    )
    with pytest.raises(UnavailableError, match="fq_codel") as refused:
        found(demo, "--traffic", udp)
    assert "--exact" in refused.value.hint


def test_a_scenario_for_another_policy_names_that_one(tmp_path: Path) -> None:
    policies = ROOT / "policies"
    with pytest.raises(ShaperError, match="traffic for web, which the policy branch-office does not know") as refused:
        ran(policies / "demo.yaml", "--traffic", SCENARIO)
    assert refused.value.hint == f"it is for {POLICY}"
    nobodys = tmp_path / "nobodys.yaml"
    nobodys.write_text("\n".join(line for line in SCENARIO.read_text().splitlines() if not line.startswith("policy:")))
    with pytest.raises(ShaperError, match="does not know") as refused:
        ran(policies / "demo.yaml", "--traffic", nobodys)
    assert refused.value.hint == "name the policy that the scenario is for"


def test_a_capture_is_classified_as_the_policy_would(tmp_path: Path) -> None:
    frames = []
    for number in range(400):  # 2 s of 200 packets a second
        packet = Ether() / IP(src="10.0.0.1", dst="10.0.0.2", tos=46 << 2) / UDP(sport=1, dport=2) / bytes(158)
        packet.time = 1_000_000 + number * 0.005
        frames.append(packet)
    tcp = Ether() / IP(src="10.0.0.1", dst="10.0.0.2") / TCP() / bytes(100)
    arp = Ether() / ARP()
    tcp.time = arp.time = 1_000_001.0
    path = tmp_path / "recorded.pcap"
    wrpcap(str(path), [*frames, tcp, arp])
    result = found(POLICY, "--traffic", path)
    assert result["classes"]["voice"]["sent"] == 400
    assert result["classes"]["bulk"]["sent"] == 1
    assert result["classes"]["voice"]["delay_s"]["p99"] == 0.0
    assert any("TCP" in note for note in result["notes"])
    assert any("no IP packets" in note for note in result["notes"])


def test_what_is_no_capture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recorded.pcap"
    path.write_bytes(b"this is no capture at all, is it?")
    with pytest.raises(RecordingError, match="as a capture"):
        found(POLICY, "--traffic", path)
