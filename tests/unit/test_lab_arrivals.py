"""What the scenarios send: cycles, pictures, Poisson arrivals, and that each scenario fits its policy."""

from __future__ import annotations

import json
import statistics
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from shaper.lab.namespaces import Narrow
from shaper.lab.scenario import ScenarioError, read_scenario
from shaper.lab.stage import laid_out, the_interface
from shaper.lab.traffic import Step, UdpFlow, schedule
from shaper.units import parse_rate

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = sorted((ROOT / "policies" / "scenarios").glob("*.yaml"))
BASELINES = yaml.safe_load((ROOT / "tests" / "bench" / "controllers" / "baselines.yaml").read_text())


def sent(step: Step, *, until: float = 20.0, jitter: float = 0.0, seed: int = 1) -> list[float]:
    flow = UdpFlow(0, "10.0.0.1", 5000, 0, (step,), until, jitter, seed)
    return [at for at, _ in schedule(flow)]


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_every_scenario_fits_its_policy_and_sends_in_order(path: Path) -> None:
    scenario = read_scenario(path)
    policy = path.parent / scenario.policy if scenario.policy else ROOT / "policies" / "demo.yaml"
    traffic = laid_out(the_interface(policy), scenario, name=path)
    for flow in traffic.udp:
        times = [at for at, _ in schedule(flow)]
        assert times == sorted(times)
        assert times[0] >= 0


def test_the_bench_has_peaks_for_every_scenario_and_each_stays_within_the_link() -> None:
    names = [*BASELINES["feasible"], *BASELINES["others"]]
    assert set(BASELINES["peaks"]) == set(names)
    for name in names:
        path = ROOT / "policies" / "scenarios" / f"{name}.yaml"
        interface = the_interface(path.parent / read_scenario(path).policy)
        peaks = {one: parse_rate(rate) for one, rate in BASELINES["peaks"][name].items()}
        assert set(peaks) <= {leaf.path for leaf in interface.leaves()}
        assert sum(peaks.values()) <= interface.bandwidth


def test_a_cycle_is_silent_in_its_second_part() -> None:
    step = Step(1.0, 8_000_000, 1000, busy=0.25, idle=0.75)
    times = sent(step, until=11.0)
    assert len(times) == pytest.approx(0.25 * 10 * 1000, rel=0.01)
    assert all((at - 1.0) % 1.0 < 0.25 for at in times)


@given(seed=st.integers(0, 1000), spread=st.floats(0, 0.8))
def test_pictures_come_as_bursts_and_keep_their_rate(seed: int, spread: float) -> None:
    times = sent(Step(0.0, 8_000_000, 1000, every=0.04, spread=spread), seed=seed)
    assert len(times) == pytest.approx(20_000, rel=0.1)
    bursts = sorted(set(times))
    assert all(after - before == pytest.approx(0.04) for before, after in pairwise(bursts))


def test_poisson_gaps_are_as_long_as_they_vary() -> None:
    gaps = [after - before for before, after in pairwise(sent(Step(0.0, 8_000_000, 1000, poisson=True), until=60.0))]
    assert statistics.fmean(gaps) == pytest.approx(0.001, rel=0.03)
    assert statistics.stdev(gaps) == pytest.approx(0.001, rel=0.05)


def test_a_plan_of_any_step_comes_back_from_its_file() -> None:
    step = Step(0.0, 8_000, 200, busy=0.5, idle=0.5)
    assert Step(**json.loads(json.dumps({name: getattr(step, name) for name in Step.__slots__}))) == step


FLOW = """
version: 1
seed: 1
flows:
  one: {class: voice, protocol: udp, dscp: ef, JITTER steps: [{at: 0s, rate: 80kbit, size: 200b, STEP}]}
"""


@pytest.mark.parametrize(
    ("step", "jitter", "said"),
    [
        ("busy: 1s", "", "make a cycle together"),
        ("spread: 50%", "", "say how often"),
        ("arrivals: poisson, every: 40ms", "", "no cycle and no pictures"),
        ("every: 40ms, busy: 1s, idle: 1s", "", "has no cycle"),
        ("arrivals: poisson", "jitter: 10%,", "is that of even arrivals"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path: Path, step: str, jitter: str, said: str) -> None:
    file = tmp_path / "scenario.yaml"
    file.write_text(FLOW.replace("STEP", step).replace("JITTER", jitter))
    with pytest.raises(ScenarioError, match=said):
        read_scenario(file)


def test_a_link_that_moves_is_laid_out_in_seconds() -> None:
    path = ROOT / "policies" / "scenarios" / "capacity-drop.yaml"
    scenario = read_scenario(path)
    traffic = laid_out(the_interface(path.parent / scenario.policy), scenario, name=path)
    assert traffic.narrow == Narrow(500_000, ((0.0, 20_000_000), (15.0, 8_000_000), (30.0, 15_000_000)))
