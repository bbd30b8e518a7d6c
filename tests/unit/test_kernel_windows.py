"""What the kernel has counted, as windows: differences, the envelope from bins, and how many packets are stamped."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from collectors.bpf.counts import BINS, CUTS, ClassCounts, Health, buckets_of
from collectors.bpf.windows import BIN_NS, Arrivals, Whole, difference, sampling_for
from collectors.histogram import DelayHistogram

LOWEST = 1.024e-6


def counts(delays: list[float], limit: float = 0.01) -> ClassCounts:
    """As the kernel would count these delays, with its buckets found by ours."""
    histogram = DelayHistogram(width=1 / 32, lowest=LOWEST, highest=68.0)
    histogram.add(delays)
    buckets = [histogram._counts[number] for number in range(buckets_of(CUTS))]
    return ClassCounts(
        arrived=len(delays),
        arrived_bytes=1000 * len(delays),
        inelastic_bytes=500 * len(delays),
        stamped=len(delays),
        matched=len(delays),
        ambiguous=0,
        no_room=0,
        delay_sum=sum(delays),
        least=min(delays, default=None),
        largest=max(delays, default=0.0),
        delays=buckets,
        late={limit: sum(1 for delay in delays if delay > limit)},
    )


samples = st.lists(st.floats(2e-6, 1.0), max_size=60)


@given(samples, samples)
def test_a_window_is_what_came_between_two_readings(before: list[float], after: list[float]) -> None:
    first, second = counts(before), counts([*before, *after])
    seen = difference(first, second, lost=3, envelope={})
    assert (seen.arrived_packets, seen.taken, seen.matched, seen.lost) == (len(after), len(after), len(after), 3)
    assert (seen.arrived_bytes, seen.inelastic_bytes) == (1000 * len(after), 500 * len(after))
    assert seen.histogram is not None
    assert seen.histogram.count == len(after)
    if after:
        ordered = sorted(after)
        median = ordered[(len(after) + 1) // 2 - 1]
        assert median * (1 - 1e-9) <= seen.histogram.quantile(0.5) <= median * (1 + 1 / 32) + 1e-9
        assert seen.histogram.count_above(0.01) == sum(1 for delay in after if delay > 0.01)


class Bins:
    """The kernel's bins, written as `stamp` in measure.bpf.c does."""

    def __init__(self) -> None:
        self.words = [0] * BINS

    def arrive(self, at: int, size: int) -> None:
        number = at // BIN_NS
        generation = (number // BINS) << 32
        if (self.words[number % BINS] ^ generation) >> 32:
            self.words[number % BINS] = generation
        self.words[number % BINS] += size


arrivals = st.lists(st.tuples(st.integers(0, 30_000_000), st.integers(40, 1500)), min_size=1, max_size=60)


@given(arrivals, st.integers(0, 10**12), st.lists(st.integers(1, 8), max_size=8))
def test_the_envelope_holds_all_that_came_however_often_it_is_read(
    gaps: list[tuple[int, int]], start: int, reads: list[int]
) -> None:
    """In one second no bin is written twice round, so all of it is in the longest window or in an earlier one."""
    bins, taken = Bins(), Arrivals((0.002, 1.0), since=start)
    at, most, total, first = start, 0.0, 0, start
    pauses = iter(reads)
    due = next(pauses, 0)
    for number, (gap, size) in enumerate(gaps, 1):
        at += gap
        bins.arrive(at, size)
        total += size
        if due and number % due == 0:
            most = max(most, taken.take(bins.words, at)[1.0])
            due = next(pauses, 0)
    last = taken.take(bins.words, at)
    most = max(most, last[1.0])
    assert most <= total
    if at - first < 990_000_000:
        assert most == total
    assert last[0.002] <= last[1.0]


def test_bins_of_the_last_round_are_not_counted_again() -> None:
    bins, taken = Bins(), Arrivals((1.0,), since=0)
    bins.arrive(5 * BIN_NS, 1000)
    assert taken.take(bins.words, 6 * BIN_NS) == {1.0: 1000}
    later = (5 + BINS) * BIN_NS
    assert taken.take(bins.words, later) == {1.0: 0}
    bins.arrive(later, 700)
    assert taken.take(bins.words, later) == {1.0: 700}


@given(st.floats(0, 1e8), st.sampled_from((1, 16, 256)))
def test_fewer_are_stamped_the_faster_they_come(rate: float, present: int) -> None:
    wanted = sampling_for(rate, present)
    assert wanted in (1, 16, 256)
    assert rate / wanted <= 120_000 or wanted == 256
    assert sampling_for(rate, wanted) == wanted  # it stays there
    if rate < 60_000:
        assert wanted == 1


readings = st.lists(st.tuples(st.floats(0.1, 30), st.integers(0, 3), st.integers(0, 1)), min_size=1, max_size=40)


@given(readings)
def test_addresses_are_trusted_a_minute_after_the_last_super_packet_once_one_was_cut(
    steps: list[tuple[float, int, int]],
) -> None:
    whole, now, before, doubted = Whole(), 0.0, Health(0, 0, 0, 0), -1e9
    for pause, supers, cut in steps:
        now += pause
        health = Health(0, 0, 0, before.super_packets + supers + cut, before.cut + cut)
        if cut or (supers and now < doubted + 60):
            doubted = now
        assert whole.after(before, health, now=now) == (now >= doubted + 60)
        before = health
