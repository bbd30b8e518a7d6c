"""What a plan says beforehand: SLAs that could not hold together, from throughput targets and contracted profiles."""

from __future__ import annotations

from pathlib import Path

import pytest

from shaper.cli.simulate import compiled
from shaper.kernel.fake import FakeKernel
from shaper.policy import parse_policy
from shaper.run.foreseen import foreseen
from shaper.run.prepare import prepare
from shaper.run.state import DeviceState

HEAD = """\
version: 1
interfaces: {wan: {device: eth1, bandwidth: {egress: BANDWIDTH}, policy: p}}
policies:
  p:
    classes:
"""
STARTERS = Path(__file__).resolve().parents[2] / "policies"


def said(classes: str, *, bandwidth: str = "20mbit") -> list[str]:
    text = HEAD.replace("BANDWIDTH", bandwidth) + "".join(f"      {line}\n" for line in classes.strip().splitlines())
    policy = parse_policy(text, source="p.yaml")
    return list(foreseen(compiled(policy.interfaces[0], structure=True)))


def test_throughputs_that_do_not_fit_together_are_named_with_what_lacks() -> None:
    short, order = said("""
video: {tier: priority, guarantee: 3mbit, match: [{dscp: af41}], sla: {throughput: 12mbit}}
data: {guarantee: 10mbit, adapt: {min: 2mbit}, match: [{dscp: af11}], sla: {throughput: 9mbit}}
rest: {default: true}
""")
    # Network control keeps 0.2 Mbit/s and the rest a little: 12 of the higher tier, and 7.79 of the 9 are left.
    assert short == (
        "warning: if every class sends what it was promised, throughput of data cannot hold: it needs 9mbit and "
        "there is 7.79mbit for it, 1.21mbit short; a link of 21.2mbit would do"
    )
    assert order == "given up then, in this order: throughput of data; held: video"


def test_a_contract_counts_with_the_rate_that_keeps_its_delay() -> None:
    """20 kB at once within 20 ms take 8.4 Mbit/s and more, whatever the contracted rate."""
    classes = """
video: {tier: priority, guarantee: 3mbit, match: [{dscp: af41}], sla: {throughput: SOME}}
calls:
  guarantee: 11mbit
  adapt: {min: 1mbit}
  match: [{dscp: ef}]
  profile: {cir: 2mbit, cbs: 20kb}
  sla: {delay-p99: 20ms}
rest: {default: true}
"""
    assert said(classes.replace("SOME", "8mbit")) == []
    short, order = said(classes.replace("SOME", "14mbit"))
    assert "delay-p99 of calls cannot hold: it needs " in short
    need = float(short.split("needs ")[1].split("mbit")[0])
    assert 20_000 * 8 / 0.02 / 1e6 < need < 11
    assert "delay-p99 of calls; held: video" in order


def test_what_fits_is_not_spoken_of() -> None:
    assert said("voice: {guarantee: 2mbit, match: [{dscp: ef}], sla: {delay-p99: 20ms}}\nrest: {default: true}") == []


def test_a_plan_says_it(tmp_path: Path) -> None:
    text = HEAD.replace("BANDWIDTH", "20mbit") + (
        "      video: {guarantee: 3mbit, match: [{dscp: af41}], sla: {throughput: 25%}}\n"
        "      data: {guarantee: 3mbit, match: [{dscp: af11}], sla: {throughput: 90%}}\n"
        "      rest: {default: true}\n"
    )
    policy = parse_policy(text, source="p.yaml")
    prepared = prepare(FakeKernel("eth1"), DeviceState(tmp_path, "eth1"), policy, policy.interfaces[0])
    warnings = [note for note in prepared.program.notes if note.startswith("warning: if every class")]
    assert [warning.split(" cannot")[0].split("promised, ")[1] for warning in warnings] == ["throughput of data"]


@pytest.mark.parametrize("policy", sorted(STARTERS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_policies_to_start_from_promise_no_more_than_their_links_have(policy: Path) -> None:
    for interface in parse_policy(policy.read_text(), source=policy.name).interfaces:
        assert list(foreseen(compiled(interface.at(0.0), structure=True))) == []
