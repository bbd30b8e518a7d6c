"""What `scripts/bench control` says of its results, and its baselines' own laws."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))
sys.path.insert(0, str(Path(__file__).parents[1] / "bench" / "controllers"))

from _judging import Results, interval, ratio_bound, settling, table
from aimd import shared
from autorate import Law, Settings

from shaper.cli.simulate import compiled
from shaper.control import setup_from
from shaper.lab.stage import the_interface

POLICY = Path(__file__).parents[2] / "policies" / "lab" / "nested.yaml"


def result(scenario: str, controller: str, seed: int, violated: list[bool]) -> dict[str, Any]:
    seconds = len(violated)
    one = {
        "tier": "priority",
        "targets": {"delay-p99_s": 0.05},
        "violation_seconds": sum(violated),
        "judged_seconds": seconds,
        "delay_s": {"p50": 0.001, "p95": None, "p99": 0.04, "p99.9": 0.05},
        "sent": 100,
        "lost": 1,
        "throughput_bit_s": 1e6,
        "by_second": {"violated": violated, "granted_bit_s": [1e6] * seconds, "delay_p95_s": [0.01] * seconds},
    }
    return {
        **{"scenario": scenario, "controller": controller, "seed": seed, "seconds": seconds, "classes": {"video": one}},
        **{"steady_changes": 2, "changes": 5, "utilisation": 0.9, "jain": {}, "link_bit_s": None},
    }


def test_the_table_has_every_loss_and_compares_what_is_paired() -> None:
    found = [
        result("step", name, seed, [number < missed + seed for number in range(20)])
        for name, missed in (("badly-sized", 12), ("aimd", 5), ("ours", 1))
        for seed in (1, 2, 3)
    ]
    results = Results({(one["scenario"], one["controller"], one["seed"]): one for one in found[:-1]})
    text = "\n".join(table(results, scenarios=["step"], controllers=["badly-sized", "aimd", "ours"], feasible=["step"]))
    assert "summed over step; 2 paired seeds" in text  # ours lacks the third
    assert "ours / aimd: 38.5%" in text  # 2.5 of 6.5
    assert "step                 video          priority" in text


def test_a_mean_of_one_has_no_interval_and_of_three_has() -> None:
    assert interval([4]) == "4"
    assert interval([1, 2, 3]) == "2 ±2.5"


def test_what_a_link_that_moves_carried_is_compared_seed_by_seed() -> None:
    found = []
    for name, carried, delay in (("autorate", 150e6, 0.05), ("ours", 180e6, 0.02)):
        for seed in (1, 2, 3):
            one = result("drop", name, seed, [False] * 20)
            by_second = one["classes"]["video"]["by_second"]
            by_second |= {"delay_p95_s": [delay] * 20, "sent_bit_s": [8e6] * 20}
            found.append(one | {"link_bit_s": [[0.0, 12e6], [10.0, 8e6]], "link_carried_bit": [carried / 2] * 2})
    results = Results({(one["scenario"], one["controller"], one["seed"]): one for one in found})
    lines = list(table(results, scenarios=["drop"], controllers=["autorate", "ours"], feasible=[]))
    assert "autorate               75 ±0 %; 12 Mbit/s: 50 ms, 50 ms, 67%; 8 Mbit/s: 50 ms, 50 ms, 100%" in lines
    assert lines[-1] == "ours - autorate: carried 15 ±0 points, p95 -30 ±0 ms"


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 40)), min_size=3, max_size=12))
def test_the_bound_of_a_ratio_is_no_less_than_the_ratio(pairs: list[tuple[int, int]]) -> None:
    found = ratio_bound([float(one) for one, _ in pairs], [float(other) for _, other in pairs])
    assert found is not None
    assert found[1] >= found[0] * (1 - 1e-9)


def test_what_never_varies_is_bounded_by_itself() -> None:
    assert ratio_bound([1.0, 1.0, 1.0], [4.0, 4.0, 4.0]) == pytest.approx((0.25, 0.25))
    assert ratio_bound([1.0, 2.0], [0.0, 0.0]) is None


def test_settling_is_the_longest_stretch_of_violations_with_short_gaps() -> None:
    violated = [False] * 30
    for number in (3, 4, 7, 20):
        violated[number] = True
    assert settling(result("step", "ours", 1, violated)) == 5


@given(st.dictionaries(st.integers(0, 6), st.floats(0, 30e6), min_size=7, max_size=7))
def test_aimd_keeps_floors_the_link_and_inner_classes(wanted: dict[int, float]) -> None:
    interface = the_interface(POLICY)
    program = compiled(interface, structure=True)
    setup = setup_from(interface, program.bounds, program.static)
    rates = shared(setup, {cls.path: wanted[number] for number, cls in enumerate(setup.classes)})
    assert all(rates[cls.path] >= cls.lowest for cls in setup.classes)
    assert sum(rates.values()) <= setup.link.bandwidth
    assert all(sum(rates[leaf] for leaf in parent.leaves) <= parent.limit for parent in setup.parents)


def test_autorate_cuts_once_a_refractory_period_and_never_below_its_least() -> None:
    law = Law()
    for number in range(40):
        law.on_delay(10.0, 0.0, number * 50.0)
    assert law.baseline == pytest.approx(10.0, abs=1.0)
    calm, cuts = law.rate, set()
    for number in range(40, 240):
        cuts.add(round(law.on_delay(210.0, 20_000.0, number * 50.0), 6))
    assert calm == Settings().base_rate
    assert len(cuts) <= 200 * 50 / Settings().bufferbloat_refractory_period + 2
    assert law.rate == Settings().min_rate


def test_autorate_grows_under_load_without_delay() -> None:
    law = Law()
    for number in range(200):
        law.on_delay(10.0, law.rate, number * 50.0)
    assert law.rate == Settings().max_rate
