"""Intervals of slices of time cover what all packets waited and lost, where those of independent packets do not."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shaper.stats import Cluster, clustered_ranks, clustered_wilson, design_effect, ranks, wilson
from shaper.stats.clusters import LEAST

HELD_BACK = range(880_000, 880_400)
"""Seeds that nothing was tried with before these tests."""
SECONDS, RATE, SLICE, EVERY, STEP = 8.0, 400, 0.05, 0.28, 0.01
PERCENTILES = (0.5, 0.95, 0.99)

clusters = st.lists(
    st.integers(0, 60).flatmap(lambda size: st.tuples(st.integers(0, size), st.just(size))), min_size=LEAST, max_size=40
).filter(lambda found: sum(size > 0 for _, size in found) >= LEAST)


def queue(seed: int, *, memory: float) -> tuple[list[tuple[float, bool]], list[list[tuple[float, bool]]]]:
    """Delay of each packet and whether it was lost: of all packets, and by slice of those that slices pick.

    Packets come at random; the delay's logarithm forgets in `memory` seconds, and of what waits longest some is lost.
    """
    chance = Random(seed)
    stays, level, at = math.exp(-STEP / memory), chance.gauss(0, 1), chance.random() * EVERY
    everyone: list[tuple[float, bool]] = []
    picked: dict[int, list[tuple[float, bool]]] = {}
    for number in range(round(SECONDS / STEP)):
        level = stays * level + math.sqrt(1 - stays * stays) * chance.gauss(0, 1)
        for _ in range(chance.randrange(2 * round(RATE * STEP) + 1)):
            packet = math.exp(level + chance.gauss(0, 0.3)), level > 1.2 and chance.random() < 0.3
            everyone.append(packet)
            slice_, since = divmod(at + number * STEP, EVERY)
            if since < SLICE:
                picked.setdefault(int(slice_), []).append(packet)
    return everyone, list(picked.values())


def hits(parts: list[list[float]], limit: float) -> list[Cluster]:
    return [(sum(delay <= limit for delay in part), len(part)) for part in parts]


def at(ordered: list[float], quantile: float) -> float:
    return ordered[max(1, math.ceil(quantile * len(ordered) - 1e-9)) - 1]


def covers(ordered: list[float], ends: tuple[int, int], value: float) -> bool:
    low, high = ends
    return (low < 1 or ordered[low - 1] <= value) and (high > len(ordered) or value <= ordered[high - 1])


@pytest.mark.parametrize("memory", [0.1, 0.5])
def test_percentiles_and_losses_of_slices_are_covered_and_not_by_chance_alone(memory: float) -> None:
    clustered, alone = dict.fromkeys((*PERCENTILES, "loss"), 0), dict.fromkeys((*PERCENTILES, "loss"), 0)
    ended = 0
    for seed in HELD_BACK:
        everyone, slices = queue(seed, memory=memory)
        whole = sorted(delay for delay, _ in everyone)
        parts = [[delay for delay, _ in part] for part in slices]
        seen = sorted(delay for part in parts for delay in part)
        effect = design_effect(hits(parts, at(seen, 0.5)))
        for quantile in PERCENTILES:
            ends = clustered_ranks(hits(parts, at(seen, quantile)), quantile, effect=effect)
            clustered[quantile] += covers(seen, ends, at(whole, quantile))
            alone[quantile] += covers(seen, ranks(len(seen), quantile), at(whole, quantile))
            ended += quantile == 0.5 and 1 <= ends[0] < ends[1] <= len(seen)
        ratio = sum(lost for _, lost in everyone) / len(everyone)
        lost = [(sum(gone for _, gone in part), len(part)) for part in slices]
        interval = clustered_wilson(lost, effect=effect)
        assert interval is not None
        clustered["loss"] += interval.low <= ratio <= interval.high
        naive = wilson(sum(one for one, _ in lost), len(seen))
        alone["loss"] += naive.low <= ratio <= naive.high
    assert min(clustered.values()) >= 0.93 * len(HELD_BACK), clustered
    assert max(alone.values()) < 0.85 * len(HELD_BACK), "slices are correlated, or the test shows nothing"
    assert ended > 0.95 * len(HELD_BACK), "an interval without ends covers everything"


def test_slices_drawn_one_by_one_from_a_known_distribution_are_covered() -> None:
    """Half of the variance is between slices: the truth is that of the distribution and of no finite population."""
    covered = alone = 0
    for seed in HELD_BACK:
        chance = Random(seed)
        parts = []
        for _ in range(15):
            level = chance.gauss(0, 1)
            parts.append([level + chance.gauss(0, 1) for _ in range(chance.randrange(5, 50))])
        seen = sorted(delay for part in parts for delay in part)
        covered += covers(seen, clustered_ranks(hits(parts, at(seen, 0.5)), 0.5), 0.0)
        alone += covers(seen, ranks(len(seen), 0.5), 0.0)
    assert 0.93 * len(HELD_BACK) <= covered < 0.995 * len(HELD_BACK)
    assert alone < 0.6 * len(HELD_BACK)


def test_a_design_effect_by_hand() -> None:
    # Ten slices of ten, half of them all hits: ten looks at a coin, with 9 degrees of freedom.
    found = design_effect([(10, 10), (0, 10)] * 5)
    assert found == pytest.approx(10 * 10 / 9)
    assert design_effect([(5, 10)] * 10) == 1.0, "slices more alike than chance has it prove nothing"
    assert design_effect([(10, 10)] * 10) is design_effect([(3, 7)]) is design_effect([]) is None


def test_of_packets_each_in_a_slice_of_its_own_it_is_the_usual_interval_but_for_the_degrees_of_freedom() -> None:
    packets = [(int(number % 2 == 0), 1) for number in range(1000)]
    assert clustered_ranks(packets, 0.5) == pytest.approx(ranks(1000, 0.5), abs=1)
    assert clustered_wilson(packets) == pytest.approx(wilson(500, 1000), abs=1e-4)


def test_few_slices_bound_nothing() -> None:
    few = [(5, 10), (0, 0), (9, 10), (2, 10), (4, 10)]
    assert clustered_ranks(few, 0.5) == (0, 41)
    assert clustered_wilson(few) is None


def test_without_a_loss_the_effect_of_the_median_counts_or_each_slice_as_one_packet() -> None:
    slices = [(0, 100)] * 20
    unknown, known = clustered_wilson(slices), clustered_wilson(slices, effect=10.0)
    assert unknown is not None and known is not None
    assert unknown.low == known.low == 0
    assert wilson(0, 20).high < unknown.high < 0.2, "as of 20 packets"
    assert wilson(0, 200).high < known.high < wilson(0, 160).high
    one = clustered_wilson([(1, 100), *slices[1:]], effect=10.0)
    assert one is not None and one.high > known.high, "who lost one packet is not surer than who lost none"


@given(clusters, st.sampled_from((0.05, 0.5, 0.9, 0.99)), st.none() | st.floats(1, 50), st.sampled_from((0.9, 0.95)))
def test_never_narrower_than_of_independent_packets_and_wider_with_the_confidence(
    found: list[Cluster], quantile: float, effect: float | None, confidence: float
) -> None:
    hit, count = sum(one for one, _ in found), sum(size for _, size in found)

    def both(sure: float) -> tuple[tuple[int, int], tuple[float, float]]:
        ratio = clustered_wilson(found, effect=effect, confidence=sure)
        assert ratio is not None
        return clustered_ranks(found, quantile, effect=effect, confidence=sure), ratio

    independent = ranks(count, quantile, confidence=confidence), wilson(hit, count, confidence=confidence)
    for inner, outer in zip(independent, both(confidence), strict=True):
        assert outer[0] <= inner[0] <= inner[1] <= outer[1]
    (low, high), ratio = both(confidence)
    assert 0 <= low <= high <= count + 1
    assert 0 <= ratio[0] <= hit / count <= ratio[1] <= 1
    surer = both(0.999)[1]
    assert surer[0] <= ratio[0] <= ratio[1] <= surer[1]


@given(clusters, st.randoms())
def test_neither_the_order_of_slices_nor_those_without_a_packet_count(found: list[Cluster], chance: Random) -> None:
    other = [*found, (0, 0)]
    chance.shuffle(other)
    assert clustered_ranks(other, 0.5) == clustered_ranks(found, 0.5)
    assert clustered_wilson(other) == clustered_wilson(found)
