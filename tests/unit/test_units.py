"""Quantities: text to numbers and back, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shaper.units import (
    UnitError,
    format_duration,
    format_rate,
    parse_duration,
    parse_percent,
    parse_rate,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "rate"),
    [("20mbit", 20_000_000), ("1.5gbit", 1_500_000_000), ("64 kbit", 64_000), ("20Mbit", 20_000_000), ("8bit", 8)],
)
def test_rates(text: str, rate: int) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["20", "mbit", "", "-1mbit", "1e3mbit", "20mb", "0.1bit", "0mbit", "1000000tbit"])
def test_no_rates(text: str) -> None:
    with pytest.raises(UnitError) as caught:
        parse_rate(text)
    assert caught.value.hint


def test_ambiguous_units_name_both_readings() -> None:
    with pytest.raises(UnitError) as caught:
        parse_rate("20Mbps")
    assert "20mbit" in caught.value.hint
    assert "160mbit" in caught.value.hint


def test_durations_sizes_percentages() -> None:
    assert parse_duration("10ms") == pytest.approx(0.01)
    assert parse_duration("250us") == pytest.approx(250e-6)
    assert [parse_duration(text) for text in ("90s", "2m", "1.5h", "7d")] == [90, 120, 5400, 604_800]
    assert parse_size("64kb") == 64_000
    assert parse_percent("0.5%") == pytest.approx(0.005)
    for text in ("101%", "5"):
        with pytest.raises(UnitError):
            parse_percent(text)


@given(st.integers(8, 10**12))
def test_what_is_formatted_reads_back_within_a_thousandth(rate: int) -> None:
    assert parse_rate(format_rate(rate)) == pytest.approx(rate, rel=1e-3)


@given(st.floats(1e-6, 3000))
def test_durations_read_back(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=0.06)


@given(st.text(max_size=20))
def test_any_text_is_a_rate_or_a_unit_error(text: str) -> None:
    try:
        assert parse_rate(text) >= 8
    except UnitError as error:
        assert error.hint
