"""From what was sent and what came to outcomes and figures."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.probe.log import Answer, Log, Outcome
from collectors.probe.ntp import ErrorEstimate
from collectors.probe.summary import ipdv, one_way, pdv, summarise

LOOSE = ErrorEstimate(16.0, synchronised=False)
WALL = 1_700_000_000 * 10**9
MS = 10**6


def sent(log: Log, *sequences: int) -> None:
    for sequence in sequences:
        log.sent(sequence, at=sequence / 10, wall=WALL + sequence * 100 * MS)


def came(log: Log, sequence: int, *, after: int, offset: int = 0, there: int | None = None, dwelt: int = 0) -> None:
    """An answer `after` ns; a reflector whose clock is `offset` ns ahead had it `there` ns after the sending."""
    begun = WALL + sequence * 100 * MS
    at = None if there is None else begun + there + offset
    answer = Answer(sequence, at, None if at is None else at + dwelt, LOOSE if at else None, 250 if at else None)
    log.answered(answer, begun + after, at=sequence / 10 + after / 1e9, wall=begun + after)


def test_queues_behind_the_device_do_not_count_as_its_own() -> None:
    log = Log(timeout=1)
    sent(log, 0)
    for after, left in ((1, False), (3, True), (4, False), (400, True)):
        log.departed(0, WALL + after * MS, left=left)
    came(log, 0, after=430 * MS)
    (one,) = log.settle(math.inf)
    assert one.waited == pytest.approx(0.002)


def test_an_eager_log_settles_with_the_first_answer() -> None:
    log = Log(timeout=5, eager=True)
    sent(log, 0, 1)
    came(log, 1, after=30 * MS)
    (one,) = log.settle(0.2)
    assert (one.sequence, one.copies) == (1, 1)
    came(log, 1, after=40 * MS)
    assert log.late == 1
    (lost,) = log.settle(6.0)
    assert (lost.sequence, lost.lost) == (0, True)


def test_the_reflectors_time_is_no_part_of_the_round_trip() -> None:
    log = Log(timeout=1)
    sent(log, 0)
    came(log, 0, after=30 * MS, there=8 * MS, dwelt=10 * MS, offset=3600 * 10**9)
    (one,) = log.settle(math.inf)
    assert one.round_trip == pytest.approx(0.020)
    assert one.there == pytest.approx(3600.008)
    assert one.back == pytest.approx(0.012 - 3600)
    assert one.hops == 250


def test_the_kernels_stamps_come_before_the_programs_own() -> None:
    log = Log(timeout=1)
    sent(log, 0, 1)
    log.departed(0, WALL + 2 * MS, left=False)
    log.departed(0, WALL + 7 * MS, left=True)
    log.departed(1, WALL + 101 * MS, left=True)
    came(log, 0, after=20 * MS)
    first, second = log.settle(math.inf)
    assert first.round_trip == pytest.approx(0.018)
    assert first.waited == pytest.approx(0.005)
    assert second.waited is None
    assert second.lost


def test_a_packet_is_decided_by_its_timeout_and_answers_after_it_are_late() -> None:
    log = Log(timeout=1)
    sent(log, 0, 1)
    assert log.settle(0.99) == ()
    (one,) = log.settle(1.0)
    assert one.lost
    came(log, 0, after=1200 * MS)
    came(log, 7, after=10 * MS)  # never sent
    assert (log.late, log.ignored["unknown-sequence"]) == (1, 1)
    came(log, 1, after=5 * MS)
    assert [each.lost for each in log.settle(math.inf)] == [False]


def test_a_clock_that_was_set_on_the_way_leaves_no_delay() -> None:
    log = Log(timeout=1)
    sent(log, 0)
    log.answered(Answer(0), WALL + 7 * 10**9, at=0.01, wall=WALL + 7 * 10**9)
    (one,) = log.settle(math.inf)
    assert one.round_trip is None
    assert not one.lost
    assert log.skewed == 1


def test_reordering_is_that_of_rfc_4737() -> None:
    """Of 1 2 3 7 4 5 6 8 the three that 7 overtook are reordered, and 7 is not."""
    log = Log(timeout=10)
    sent(log, *range(1, 9))
    for sequence in (1, 2, 3, 7, 4, 5, 6, 8):
        came(log, sequence, after=MS)
    outcomes = log.settle(math.inf)
    assert [one.sequence for one in outcomes if one.reordered] == [4, 5, 6]
    assert summarise(outcomes, interval=0.1, own=LOOSE).reordered == 3


@given(st.integers(1, 60), st.floats(0, 0.5), st.floats(0, 0.5), st.randoms(use_true_random=False))
def test_every_packet_is_counted_once(count: int, loss: float, twice: float, draw: random.Random) -> None:
    log = Log(timeout=5)
    sent(log, *range(count))
    answers: list[int] = []
    for sequence in range(count):
        answers += [sequence] * (0 if draw.random() < loss else 2 if draw.random() < twice else 1)
    draw.shuffle(answers)
    for sequence in answers:
        came(log, sequence, after=3 * MS)
    found = summarise(log.settle(math.inf), interval=0.1, own=LOOSE)
    assert (found.sent, found.received) == (count, len(set(answers)))
    assert found.duplicates == len(answers) - len(set(answers))
    newest, late = -1, set()
    for sequence in dict.fromkeys(answers):
        late |= {sequence} if sequence < newest else set()
        newest = max(newest, sequence)
    assert found.reordered == len(late)
    assert len(found.round_trips) == found.received


def test_variation_is_between_neighbours_and_over_the_least() -> None:
    series = [(0, 0.010), (1, 0.013), (3, 0.011), (4, 0.010)]
    assert ipdv(series) == pytest.approx((0.003, -0.001))  # 2 was lost: 1 and 3 are no neighbours
    assert pdv(series) == pytest.approx((0.0, 0.003, 0.001, 0.0))


delays = st.lists(st.tuples(st.floats(1e-4, 0.2), st.floats(1e-4, 0.2)), min_size=1, max_size=40)


@given(delays, st.floats(-5, 5), st.booleans(), st.floats(0, 1))
def test_the_true_delays_lie_within_the_stated_error(
    true: list[tuple[float, float]], offset: float, synchronised: bool, slack: float
) -> None:
    """Whatever the offset, and by which clocks: they are honest here, so that their bound covers it."""
    stated = ErrorEstimate((abs(offset) + slack) / 2, synchronised)
    there = [one + offset for one, _ in true]
    back = [two - offset for _, two in true]
    found = one_way(there, back, stated, stated)
    assert found is not None
    for real, said in zip(
        (*(one for one, _ in true), *(two for _, two in true)), (*found.there, *found.back), strict=True
    ):
        assert abs(real - said) <= found.error + 1e-9
    assert found.error <= (min(one for one, _ in true) + min(two for _, two in true)) / 2 + 1e-9
    assert not found.contradicted


def test_clocks_that_claim_too_much_are_found_out() -> None:
    sure = ErrorEstimate(0.001, synchronised=True)
    found = one_way([-0.5, -0.4], [0.6, 0.7], sure, sure)
    assert found is not None
    assert found.contradicted
    assert found.basis == "round trip"
    assert not found.meaningful


def test_clocks_that_are_good_enough_say_what_one_way_took() -> None:
    good = ErrorEstimate(0.0005, synchronised=True)
    found = one_way([0.030], [0.010], good, good)
    assert found is not None
    assert (found.basis, found.error) == ("clocks", 0.001)
    assert (found.there, found.back) == ((0.030,), (0.010,))
    assert found.meaningful


def outcomes(lost: Sequence[bool]) -> list[Outcome]:
    return [
        Outcome(number, number / 5, None if gone else 0.01, copies=int(not gone)) for number, gone in enumerate(lost)
    ]


def test_availability_is_by_whole_seconds() -> None:
    found = summarise(outcomes([False] * 25 + [True] * 63 + [False] * 50), interval=0.2, own=LOOSE)
    assert found.seconds == ((5, 0),) * 5 + ((5, 5),) * 12 + ((5, 3),) + ((5, 0),) * 9
    assert summarise(outcomes([False] * 9), interval=1.5, own=LOOSE).seconds == ()
