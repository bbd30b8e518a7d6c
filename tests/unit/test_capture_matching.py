"""Matching as pure arithmetic: every arrival ends in exactly one account, whenever the rings hand over."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from collectors.matching import BITS, NOISE, Arrival, Departure, Matcher, Matches

MS = 1_000_000
HORIZON = 100 * MS
CLASS = 7

moments = st.integers(0, 1000).map(lambda tenth: tenth * MS)
delays = st.none() | st.integers(0, HORIZON - 2 * NOISE)


def matcher() -> Matcher:
    return Matcher(horizon=HORIZON / 1e9)


@st.composite
def traffic(draw: st.DrawFn) -> tuple[list[Arrival], list[Departure]]:
    """Packets of two classes, some alike, some super-packets, some lost; and departures of packets never seen."""
    arrivals: list[Arrival] = []
    departures: list[Departure] = []
    for number, (came, delay, alike, single) in enumerate(
        draw(st.lists(st.tuples(moments, delays, st.booleans(), st.booleans()), max_size=40))
    ):
        identity = b"alike" if alike else b"%d" % number
        arrivals.append((came, identity, number % 2, single))
        if delay is not None:
            departures.append((came + delay, identity))
    departures.extend((stamp, b"unseen %d" % stamp) for stamp in draw(st.sets(moments, max_size=3)))
    return sorted(arrivals), sorted(departures)


def tally(*parts: Matches) -> tuple[dict[int, list[float]], Counter[int], int, int]:
    times: dict[int, list[float]] = {}
    lost: Counter[int] = Counter()
    for part in parts:
        lost.update(part.lost)
        for classid, found in part.delays.items():
            times.setdefault(classid, []).extend(found)
    return times, +lost, sum(part.ambiguous for part in parts), sum(part.unmatched for part in parts)


@given(traffic(), st.lists(st.tuples(moments, moments), max_size=6))
def test_the_moments_of_draining_make_no_difference(
    flows: tuple[list[Arrival], list[Departure]], ends: list[tuple[int, int]]
) -> None:
    arrivals, departures = flows
    once = matcher()
    once.add(arrivals, departures)
    whole, _ = once.settle(queued={})

    often = matcher()
    parts: list[Matches] = []
    came = left = 0
    for before, after in zip(sorted(end for end, _ in ends), sorted(end for _, end in ends), strict=True):
        often.add(
            [arrival for arrival in arrivals if came <= arrival[0] < before],
            [departure for departure in departures if left <= departure[0] < after],
        )
        came, left = before, after
        parts.append(often.match(complete=min(came, left) - 1))
    often.add([arrival for arrival in arrivals if arrival[0] >= came], [gone for gone in departures if gone[0] >= left])
    parts.append(often.settle(queued={})[0])
    assert tally(*parts) == tally(whole)


@given(traffic(), st.dictionaries(st.integers(0, 1), st.integers(0, 10)))
def test_every_single_packet_ends_in_exactly_one_account(
    flows: tuple[list[Arrival], list[Departure]], queued: dict[int, int]
) -> None:
    arrivals, departures = flows
    arrivals = [(*arrival[:3], True) for arrival in arrivals]
    held = matcher()
    held.add(arrivals, departures)
    middle = held.match(complete=HORIZON * 3)
    known, lost, ambiguous, _ = tally(middle)
    assert len(arrivals) == sum(map(len, known.values())) + lost.total() + ambiguous + sum(held.in_flight().values())
    found, flying = held.settle(queued=queued)
    known, lost, ambiguous, unmatched = tally(middle, found)
    assert len(arrivals) == sum(map(len, known.values())) + lost.total() + ambiguous + sum(flying.values())
    assert all(count <= queued.get(classid, 0) for classid, count in flying.items())
    assert unmatched == sum(1 for _, identity in departures if identity.startswith(b"unseen"))


def test_a_departure_handed_over_before_its_arrival_waits_for_it() -> None:
    held = matcher()
    held.add([], [(30 * MS, b"one")])
    first = held.match(complete=20 * MS)  # the ring before has given nothing younger
    assert (first.delays, first.unmatched) == ({}, 0)
    held.add([(10 * MS, b"one", CLASS, True)], [])
    assert held.match(complete=50 * MS).delays == {CLASS: [0.02]}


def test_a_departure_whose_arrival_was_never_seen_is_unmatched_once() -> None:
    held = matcher()
    held.add([], [(30 * MS, b"one")])
    assert held.match(complete=50 * MS).unmatched == 1
    assert held.match(complete=90 * MS).unmatched == 0


def test_noise_of_the_stamps_is_no_negative_delay() -> None:
    held = matcher()
    held.add([(30 * MS + NOISE, b"one", CLASS, True)], [(30 * MS, b"one")])
    assert held.match(complete=50 * MS).delays == {CLASS: [0.0]}


def test_two_alike_inside_together_are_ambiguous_and_neither_is_matched() -> None:
    held = matcher()
    held.add(
        [(0, b"alike", CLASS, True), (10 * MS, b"alike", CLASS, True), (60 * MS, b"alike", CLASS, True)],
        [(20 * MS, b"alike"), (30 * MS, b"alike"), (70 * MS, b"alike")],
    )
    found = held.match(complete=2 * HORIZON)
    assert (found.delays, found.lost, found.ambiguous, found.unmatched) == ({}, {}, 3, 0)


def test_one_that_left_before_the_other_came_is_told_apart_by_time() -> None:
    held = matcher()
    held.add([(0, b"alike", CLASS, True), (10 * MS, b"alike", CLASS, True)], [(5 * MS, b"alike"), (12 * MS, b"alike")])
    found = held.match(complete=2 * HORIZON)
    assert (found.delays, found.ambiguous) == ({CLASS: [0.005, 0.002]}, 0)


def test_lost_after_the_horizon_and_in_flight_until_then() -> None:
    held = matcher()
    held.add([(0, b"one", CLASS, True)], [])
    assert not held.match(complete=HORIZON).lost
    assert held.in_flight() == {CLASS: 1}
    assert held.match(complete=HORIZON + 1).lost == {CLASS: 1}
    assert held.in_flight() == {}


def test_a_super_packet_is_never_lost_and_matches_where_it_leaves_whole() -> None:
    held = matcher()
    held.add([(0, b"cut", CLASS, False), (0, b"whole", CLASS, False)], [(MS, b"whole")])
    found = held.match(complete=2 * HORIZON)
    assert (found.delays, found.lost.total(), held.in_flight()) == ({CLASS: [0.001]}, 0, {})


def test_one_that_nobody_looks_for_is_neither_matched_nor_lost() -> None:
    held = matcher()
    held.add([(0, b"out", None, True), (0, b"gone", None, True)], [(10 * MS, b"out")])
    found = held.match(complete=2 * HORIZON)
    assert (found.delays, found.lost.total(), found.ambiguous, found.unmatched) == ({}, 0, 0, 0)
    assert (held.waiting, held.in_flight()) == (False, {})


def test_of_one_class_the_slices_that_came_last_are_those_still_queued() -> None:
    first, second = 1 << BITS | CLASS, 2 << BITS | CLASS
    held = matcher()
    held.add([(number * MS, b"%d" % number, first if number < 3 else second, True) for number in range(5)], [])
    found, flying = held.settle(queued={CLASS: 3})
    assert (flying, +found.lost) == ({first: 1, second: 2}, {first: 2})


def test_one_like_it_is_ambiguous_as_it_may_be_either_that_comes_out() -> None:
    for first, second in ((None, CLASS), (CLASS, None)):
        held = matcher()
        held.add([(0, b"alike", first, True), (10 * MS, b"alike", second, True)], [(20 * MS, b"alike")])
        found = held.match(complete=2 * HORIZON)
        assert (found.delays, found.lost.total(), found.ambiguous, found.unmatched) == ({}, 0, 1, 0)


@given(traffic(), moments, moments)
def test_of_a_slice_each_packet_has_its_own_delay_or_none(
    flows: tuple[list[Arrival], list[Departure]], begin: int, end: int
) -> None:
    """Whoever else comes: what is matched in a slice is matched without one, but for those that are alike."""
    arrivals, departures = flows
    whole, part = matcher(), matcher()
    whole.add(arrivals, departures)
    picked = [(stamp, identity, classid if begin <= stamp < end else None, single)
              for stamp, identity, classid, single in arrivals]  # fmt: skip
    part.add(picked, [departure for departure in departures if departure[0] >= begin])
    known, lost, *_ = tally(whole.settle(queued={})[0])
    seen, missed, alike, _ = tally(part.settle(queued={})[0])
    looked = sum(single for _, _, classid, single in picked if classid is not None)
    assert looked <= sum(map(len, seen.values())) + missed.total() + alike
    for classid, delays in seen.items():
        assert not Counter(delays) - Counter(known[classid])
    assert alike or not missed - lost
