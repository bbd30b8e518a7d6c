"""Scenario files and the schedules they stand for."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shaper.lab.namespaces import Wan
from shaper.lab.scenario import GREEDY, ScenarioError, lay_out, parse_moment, read_scenario
from shaper.lab.traffic import Step, UdpFlow, plan_of, read_plan, schedule
from shaper.policy import read_policy
from shaper.units import UnitError

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "policies" / "scenarios" / "demo.yaml"

FLOW = """
version: 1
seed: 1
flows:
  one:
    class: voice
    protocol: udp
    dscp: ef
    steps: [{at: 0s, rate: 80kbit, size: 200b}]
"""


def written(path: Path, text: str) -> Path:
    file = path / "scenario.yaml"
    file.write_text(text)
    return file


def test_the_demo_scenario_steps_at_its_thirds() -> None:
    traffic = lay_out(read_scenario(DEMO), seconds=60)
    video = next(flow for flow in traffic.udp if traffic.classes[flow.flow] == "video")
    assert [(step.at, step.rate) for step in video.steps] == [(0, 2_500_000), (20, 10_000_000)]
    business = [run for run in traffic.tcp if run.name == "business"]
    assert [(run.start, run.seconds, run.rate) for run in business] == [(0, 40, 400_000), (40, 20, GREEDY)]


def test_the_demo_scenario_names_classes_of_the_demo_policy() -> None:
    (interface,) = read_policy(ROOT / "policies" / "demo.yaml").interfaces
    traffic = lay_out(read_scenario(DEMO), seconds=60)
    leaves = {leaf.path for leaf in interface.leaves()}
    assert {*traffic.classes.values(), *(run.name for run in traffic.tcp)} <= leaves


def test_the_demo_over_a_wan_is_the_demo_with_a_wan() -> None:
    plain, wan = read_scenario(DEMO), read_scenario(DEMO.with_name("demo-wan.yaml"))
    assert (plain.flows, plain.seed) == (wan.flows, wan.seed)
    assert lay_out(plain, seconds=60).wan is None
    assert lay_out(wan, seconds=60).wan == Wan(delay=0.02, jitter=0.0005)


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("{jitter: 1ms}", "wan.delay"),
        ("{delay: 20}", "its unit"),
        ("{delay: 20ms, loss: 0.1}", "its unit"),
        ("{delay: 20ms, loss: 101%}", "more than the whole"),
        ("{delay: 20ms, duplicate: 1%}", "wan.duplicate"),
    ],
)
def test_a_wan_that_is_not_understood_is_refused(tmp_path: Path, block: str, said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        read_scenario(written(tmp_path, f"{FLOW}wan: {block}\n"))


def test_another_seed_is_another_sample_of_the_same_traffic() -> None:
    scenario = read_scenario(DEMO)
    own, same, other = (lay_out(scenario, seconds=9, seed=seed) for seed in (None, scenario.seed, 7))
    assert own == same != other
    assert [len(list(schedule(flow))) for flow in other.udp] == pytest.approx(
        [len(list(schedule(flow))) for flow in own.udp], abs=2
    )


def test_iperf3_is_told_the_mark_the_limit_and_the_congestion_control() -> None:
    first = next(run for run in lay_out(read_scenario(DEMO), seconds=30).tcp if run.rate != GREEDY)
    argv = first.client()
    assert argv[argv.index("-S") + 1] == str(18 << 2)
    assert argv[argv.index("--fq-rate") + 1] == "400000"
    assert argv[argv.index("-C") + 1] == "cubic"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("rate: 80kbit", "rate: 80", "with its unit is wanted"),
        ("rate: 80kbit", "rate: '80'", "has no unit"),
        ("rate: 80kbit", "rate: 80kbps", "ambiguous"),
        ("rate: 80kbit", "rate: 80kbit, colour: red", "colour"),
        ("dscp: ef", "dscp: gold", "not a DSCP name"),
        ("at: 0s", "at: 3/2", "not a part of the run"),
        ("size: 200b", "size: 20b", "size"),
        ("protocol: udp", "protocol: sctp", "sctp"),
        ("version: 1", "version: [", "not YAML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, before: str, after: str, said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        read_scenario(written(tmp_path, FLOW.replace(before, after)))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="cannot read"):
        read_scenario(tmp_path / "nowhere.yaml")


def test_two_tcp_steps_on_one_port_are_refused(tmp_path: Path) -> None:
    tcp = "{class: bulk, protocol: tcp, dscp: cs0, port: 5201, steps: [{at: 0s, rate: greedy}]}"
    with pytest.raises(ScenarioError, match="same port"):
        read_scenario(written(tmp_path, f"{{version: 1, seed: 1, flows: {{a: {tcp}, b: {tcp}}}}}"))


def test_a_step_beyond_the_end_is_refused(tmp_path: Path) -> None:
    scenario = read_scenario(written(tmp_path, FLOW.replace("at: 0s", "at: 20s")))
    with pytest.raises(ScenarioError, match="within the run"):
        lay_out(scenario, seconds=10)


def test_moments() -> None:
    assert parse_moment("2/3").of(30) == 20
    assert parse_moment("5s").of(30) == 5
    with pytest.raises(UnitError):
        parse_moment("1/0")


flows = st.builds(
    UdpFlow,
    flow=st.just(3),
    address=st.sampled_from(["10.0.0.1", "fd00::1"]),
    port=st.just(5000),
    dscp=st.integers(0, 63),
    steps=st.tuples(
        st.builds(Step, at=st.just(0.0), rate=st.integers(50_000, 2_000_000), size=st.integers(200, 1514)),
        st.builds(Step, at=st.just(1.0), rate=st.integers(50_000, 2_000_000), size=st.integers(200, 1514)),
    ),
    until=st.just(3.0),
    jitter=st.floats(0, 1),
    seed=st.integers(0, 1000),
)


@given(flow=flows)
def test_a_schedule_keeps_the_rate_of_every_step(flow: UdpFlow) -> None:
    packets = list(schedule(flow))
    first = [size for at, size in packets if size == flow.steps[0].size and at < 1 + flow.steps[0].size * 8 / 50_000]
    assert packets == list(schedule(flow))
    if flow.steps[0].size != flow.steps[1].size:
        for step, seconds in zip(flow.steps, (1.0, 2.0), strict=True):
            sent = sum(size for _, size in packets if size == step.size) * 8
            assert abs(sent - step.rate * seconds) <= step.size * 8
        assert first


@given(flow=flows)
def test_without_jitter_packets_are_evenly_spaced(flow: UdpFlow) -> None:
    even = UdpFlow(1, flow.address, 5000, 0, flow.steps[:1], 1.0)
    times = [at for at, _ in schedule(even)]
    interval = flow.steps[0].size * 8 / flow.steps[0].rate
    assert all(abs(later - earlier - interval) < 1e-9 for earlier, later in pairwise(times))


def test_a_plan_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    planned = lay_out(read_scenario(DEMO), seconds=9).udp
    (tmp_path / "plan").write_text(plan_of(planned, start=12.5))
    assert read_plan(tmp_path / "plan") == (12.5, planned)
