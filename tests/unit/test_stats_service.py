"""Delay variation, voice quality, availability and burstiness against the documents that define them."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.histogram import DelayHistogram
from shaper.stats import (
    CODECS,
    PLAYOUTS,
    Availability,
    AvailabilityCount,
    availability,
    consecutive,
    dispersion,
    mos_of,
    peak_to_mean,
    rating,
    variation,
    voice,
)

delays = st.lists(st.floats(0, 10, allow_nan=False), min_size=1, max_size=200)


def test_variation_has_both_forms() -> None:
    """The example of RFC 5481, section 4: delays 20, 10, 20, 25, 20 ms."""
    sent = [0.020, 0.010, 0.020, 0.025, 0.020]
    assert [round(variation(one, min(sent)), 6) for one in sent] == [0.010, 0.0, 0.010, 0.015, 0.010]
    assert [round(one, 6) for one in consecutive(sent)] == [-0.010, 0.010, 0.005, -0.005]
    assert list(consecutive([0.1])) == []


@pytest.mark.parametrize(
    ("r", "mos"), [(93.2, 4.41), (90, 4.34), (80, 4.03), (70, 3.60), (60, 3.10), (50, 2.58), (0, 1.0), (100, 4.5)]
)
def test_the_score_is_the_one_of_g_107(r: float, mos: float) -> None:
    """R = 93.2 and MOS 4.41 by default; the others are the bounds of G.107's annex B and of G.109."""
    assert mos_of(r) == pytest.approx(mos, abs=0.0065)


@pytest.mark.parametrize(
    ("delay", "lost", "codec", "expected"),
    [
        (0.0, 0.0, "g711-plc", 93.2),
        (0.150, 0.0, "g711-plc", 89.6),  # Cole and Rosenbluth, equation 8: Id = 0.024 d below 177.3 ms
        (0.250, 0.0, "g711-plc", 93.2 - 6.0 - 0.11 * 72.7),
        (0.0, 0.0, "g729a", 82.2),  # G.113, table I.1: Ie = 11
        (0.0, 0.02, "g729a", 93.2 - 11 - 84 * 2 / 21),  # G.107, 7.5, with Bpl = 19
        (0.0, 0.0, "g723.1", 78.2),
        (0.0, 0.0, "gsm-efr", 88.2),
    ],
)
def test_the_rating_takes_off_delay_and_loss(delay: float, lost: float, codec: str, expected: float) -> None:
    assert rating(delay, lost, CODECS[codec]) == pytest.approx(expected, abs=1e-9)


def test_concealment_is_worth_something() -> None:
    assert rating(0.1, 0.02, CODECS["g711-plc"]) > rating(0.1, 0.02, CODECS["g711"]) + 20


def test_a_jitter_buffer_waits_for_late_packets_or_gives_them_up() -> None:
    none = dict.fromkeys(PLAYOUTS, 0.0)
    quiet = voice(none, 0.0, CODECS["g711-plc"])
    assert quiet is not None
    assert (quiet.playout, quiet.lost) == (PLAYOUTS[0], 0.0)
    spread = voice({at: 0.1 if at < 0.06 else 0.0 for at in PLAYOUTS}, 0.0, CODECS["g711-plc"])
    assert spread is not None
    assert (spread.playout, spread.lost) == (0.06, 0.0)
    outliers = voice({at: 0.0001 if at < 0.4 else 0.0 for at in PLAYOUTS}, 0.0, CODECS["g711-plc"])
    assert outliers is not None
    assert (outliers.playout, outliers.lost) == (PLAYOUTS[0], 0.0001)
    assert quiet.mos > spread.mos > outliers.mos or quiet.mos > outliers.mos > spread.mos
    assert voice({}, 0.0, CODECS["g711"]) is None


@given(late=st.floats(0, 1), lost=st.floats(0, 1), codec=st.sampled_from(sorted(CODECS)))
def test_worse_never_sounds_better(late: float, lost: float, codec: str) -> None:
    def heard(share: float, gone: float) -> float:
        found = voice(dict.fromkeys(PLAYOUTS, share), gone, CODECS[codec])
        assert found is not None
        return found.mos

    assert 1 <= heard(late, lost) <= heard(late, lost / 2) + 1e-9 <= heard(late / 2, lost / 2) + 2e-9 <= 4.5


def test_ten_bad_seconds_in_a_row_are_unavailable_from_the_first() -> None:
    good, bad, nothing = (10, 5), (10, 6), (0, 0)
    assert availability([good] * 5 + [bad] * 9 + [good]).unavailable == 0
    assert availability([good] * 5 + [bad] * 10 + [good] * 9) == availability([good] * 5 + [bad] * 19)
    back = availability([good] * 5 + [bad] * 10 + [good] * 10)
    assert (back.available, back.unavailable, back.ratio) == (15, 10, 0.6)
    broken = availability([bad] * 5 + [nothing] * 7 + [bad] * 5)
    assert (broken.unavailable, broken.unknown) == (10, 7)
    assert broken.coverage == pytest.approx(10 / 17)
    assert availability([nothing] * 3).ratio is None


@given(seconds=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=80))
def test_every_second_is_counted_once(seconds: list[tuple[int, int]]) -> None:
    found = availability([(offered, min(offered, lost)) for offered, lost in seconds])
    assert found.available + found.unavailable + found.unknown == len(seconds)
    assert found.unknown == sum(offered == 0 for offered, _ in seconds)


def test_dispersion_tells_bursts_from_chance_and_from_a_steady_stream() -> None:
    chance = Random(91)
    poisson = [0] * 5000
    at = 0.0
    while (at := at + chance.expovariate(20)) < len(poisson):
        poisson[int(at)] += 1
    assert dispersion(poisson) == pytest.approx(1, abs=0.1)
    assert dispersion([7] * 50) == 0
    assert dispersion([0, 140] * 25) == 70
    assert dispersion([3]) is None
    assert dispersion([0, 0]) is None
    assert peak_to_mean({0.1: 25_000, 1.0: 125_000}, 1_000_000) == {0.1: 2.0, 1.0: 1.0}


@given(parts=st.lists(delays, min_size=1, max_size=8), q=st.sampled_from((0.5, 0.95, 0.99)))
def test_quantiles_of_parts_are_those_of_the_whole_only_when_histograms_are_merged(
    parts: list[list[float]], q: float
) -> None:
    whole, merged = DelayHistogram(width=0.03), DelayHistogram(width=0.03)
    for part in parts:
        whole.add(part)
        one = DelayHistogram(width=0.03)
        one.add(part)
        merged.merge(one)
    assert merged.quantile(q) == whole.quantile(q)
    assert (merged.count, merged.least, merged.largest) == (whole.count, whole.least, whole.largest)


def test_the_average_of_percentiles_is_no_percentile() -> None:
    """Why nothing here averages them: two windows, one of ten packets and late, one of ten thousand."""
    late, fine = DelayHistogram(), DelayHistogram()
    late.add([1.0] * 10)
    fine.add([0.001] * 10_000)
    average = (late.quantile(0.95) + fine.quantile(0.95)) / 2
    fine.merge(late)
    assert fine.quantile(0.95) < 0.0011
    assert average > 0.5


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=60))
def test_availability_is_the_same_second_by_second(seconds: list[tuple[int, int]]) -> None:
    count = AvailabilityCount()
    for number, (offered, lost) in enumerate(seconds, 1):
        count.add(offered, min(offered, lost))
        assert count.found == availability([(each, min(each, gone)) for each, gone in seconds[:number]])
    before = count.found
    count.skip(7)
    assert count.found == Availability(before.available, before.unavailable, before.unknown + 7)
