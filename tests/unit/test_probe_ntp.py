"""NTP's time and OWAMP's error estimate."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.probe.kernel_clock import clock_error
from collectors.probe.ntp import ErrorEstimate, from_ntp, from_ptp, to_ntp


@pytest.mark.parametrize(
    ("when", "seconds"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), 2_208_988_800),  # RFC 5905, figure 4
        (datetime(1999, 12, 31, tzinfo=UTC), 3_155_587_200),
        (datetime(2036, 2, 7, 6, 28, 16, tzinfo=UTC), 0),  # the first day of era 1, its first second
    ],
)
def test_the_dates_that_rfc_5905_lists(when: datetime, seconds: int) -> None:
    stamp = to_ntp(int(when.timestamp()) * 10**9)
    assert stamp == seconds << 32
    assert from_ntp(stamp) == int(when.timestamp()) * 10**9


@given(st.integers(0, 4_200_000_000 * 10**9))
def test_a_time_comes_back_to_the_nanosecond(wall: int) -> None:
    assert from_ntp(to_ntp(wall)) == wall


def test_half_a_second_is_the_highest_bit_of_the_fraction() -> None:
    assert to_ntp(500_000_000) & 0xFFFFFFFF == 1 << 31


def test_ptp_counts_tai() -> None:
    assert from_ptp((1_700_000_037 << 32) | 123) == 1_700_000_000 * 10**9 + 123


@given(st.floats(0, 1e12, allow_nan=False), st.booleans(), st.booleans())
def test_an_error_is_never_understated_and_overstated_by_less_than_a_part_in_64(
    error: float, synchronised: bool, ptp: bool
) -> None:
    bits = ErrorEstimate(error, synchronised, ptp).pack()
    assert bits & 0xFF > 0
    read = ErrorEstimate.unpack(bits)
    assert (read.synchronised, read.ptp) == (synchronised, ptp)
    assert read.error >= min(error, 1e9)
    assert read.error <= min(error, 1e9) * (1 + 1 / 64) + 2**-31  # the unit is 2**-32 s


def test_the_bits_are_those_of_rfc_4656() -> None:
    estimate = ErrorEstimate.unpack(0b10_000101_00000011)
    assert estimate == ErrorEstimate(3 * 2.0**-32 * 2**5, synchronised=True, ptp=False)
    assert ErrorEstimate.unpack(0b01_000000_00000001) == ErrorEstimate(2.0**-32, synchronised=False, ptp=True)


def test_a_multiplier_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="multiplier"):
        ErrorEstimate.unpack(0x8100)


def test_the_kernel_says_how_far_its_clock_may_be_off() -> None:
    mine = clock_error()
    assert 0 <= mine.error < math.inf
    assert mine.error > 0 or mine.synchronised
