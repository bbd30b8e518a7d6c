"""What comes in, policed: the receiver's account against the policers', to the packet; their rates; and TCP's.

In virtual time, because a sender that stands still for 100 ms on a busy machine leaves 2 % of the rate unused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from policed import SHAPER, Site

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.virtual

POLICY = """\
version: 1
interfaces:
  wan: {{device: {device}, bandwidth: {{ingress: {rate}mbit}}, ingress: police, policy: all}}
policies:
  all: {{classes: {{bulk: {{default: true}}}}}}
"""
ON_THE_LINE = 1514 / 1448
"""Bytes that count for each one that a program gets."""


@pytest.fixture
def site(netns: Lab, tmp_path: Path) -> Site:
    return Site(netns, tmp_path)


@pytest.mark.parametrize("classifier", ["bpf", "flower"])
def test_the_policers_count_what_the_receiver_gets_and_keep_every_rate(site: Site, classifier: str) -> None:
    """8 Mbit/s, of which 80 kbit are network control's, 4 guaranteed, and 3.92 guaranteed to nobody."""
    seconds, lead = 5.0, 1.0
    site.says("ingress: 8mbit", f"ingress: police, classifier: {classifier}")
    site.apply()
    assert "shi-" not in site.lab.run("ip -br link"), "no ifb"
    sent, got = site.offer(seconds, lead, voice=4e6, bulk=8e6, rest=8e6)
    counted = site.classes()
    for name, count in sent.items():
        cls, came = counted[name], got[name]
        print(
            f"{classifier} {name}: sent {count}, came {came['packets']}, counted {cls['sent_packets']} passed and "
            f"{cls['dropped_packets']} dropped"
        )
        assert cls["sent_packets"] == came["packets"], name
        assert cls["dropped_packets"] == count - came["packets"], name
        assert cls["sent_bytes"] == came["frames"], name
    rates = {name: one["bytes"] * 8 / (seconds - 0.2 - lead) for name, one in got.items()}
    print({name: f"{rate / 1e6:.3f} Mbit/s" for name, rate in rates.items()}, f"{sum(rates.values()) / 1e6:.3f} in all")
    assert 1e6 <= rates["voice"] <= 2e6, "between its guarantee and its limit"
    assert rates["bulk"] >= 3e6, "its guarantee"
    assert sum(rates.values()) == pytest.approx(8e6 - 80e3, rel=0.005), "what network control is guaranteed is kept"


def test_a_limit_is_kept_and_colours_are_counted_and_a_change_keeps_the_counts(site: Site) -> None:
    seconds, lead = 4.0, 1.0
    site.apply()
    sent, got = site.offer(seconds, lead, voice=6e6, marked=2e6)
    rate = got["voice"]["bytes"] * 8 / (seconds - 0.2 - lead)
    print(f"{rate / 1e6:.4f} Mbit/s of a limit of 2")
    assert rate == pytest.approx(2e6, rel=0.005)
    before = site.classes()
    cls, dscps = before["marked"], got["marked"]["dscps"]
    assert got["marked"]["packets"] == sent["marked"] == cls["sent_packets"], "2 and 1 of 3.92 that are nobody's"
    assert dscps == {"10": cls["policed"]["green_packets"], "12": cls["policed"]["red_packets"]}, (
        "remarked, not dropped"
    )
    assert dscps["10"] * 1042 * 8 == pytest.approx(seconds * 1e6 + 20e3 * 8, rel=0.03)
    site.says("ingress: 8mbit", change=("limit: 2mbit", "limit: 3mbit"))
    code, answer = site.shaper(f"apply {site.policy}")
    (one,) = answer["interfaces"]
    assert code == 0 and [(step["verb"], step["impact"]) for step in one["steps"]] == [("change", "hitless")]
    assert site.classes()["voice"]["sent_packets"] == before["voice"]["sent_packets"]


@pytest.mark.parametrize(("rate", "round_trip"), [(8, 50), (50, 20)])
def test_one_connection_gets_what_its_policer_lets_through(
    netns: Lab, tmp_path: Path, rate: int, round_trip: int
) -> None:
    """With bursts as they are without a word in the policy, 50 ms; the usual rule is a round trip at least."""
    pair = netns.link_pair()
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY.format(device=pair.a, rate=rate))
    netns.run(f"{SHAPER} apply {policy} --state {tmp_path / 'state'}")
    netns.run(f"tc qdisc add dev {pair.a} root netem delay {round_trip}ms limit 10000")
    netns.start("iperf3 --server --one-off")
    netns.run(f"ping -c 3 -i 0.2 {pair.b_v4}")
    asked = f"iperf3 --client {pair.a_v4} --time 8 --omit 4 --json"
    told = json.loads(netns.run(asked, peer=True, timeout=120))["end"]
    got = told["sum_received"]["bits_per_second"] * ON_THE_LINE / rate / 1e6
    print(f"{rate} Mbit/s, {round_trip} ms: {got:.1%} of the rate, {told['sum_sent']['retransmits']} retransmitted")
    assert 0.85 <= got <= 1.02
