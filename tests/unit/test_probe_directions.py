"""On which way packets were lost: what a stateful reflector's numbers say, and when they say nothing."""

from __future__ import annotations

from ipaddress import ip_network
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.probe.directions import LostWays, lost_ways
from collectors.probe.endpoint import Arrival
from collectors.probe.log import Answer, Log, Outcome
from collectors.probe.ntp import ErrorEstimate
from collectors.probe.reflector import Reflector
from collectors.probe.stamp import Request, pack_request, unpack_reply

FATES = st.lists(st.sampled_from(["answered"] * 4 + ["lost there", "lost back"]), min_size=1, max_size=80)


def reflector(*, stateful: bool) -> Reflector:
    return Reflector(
        (ip_network("192.0.2.0/24"),), lambda: ErrorEstimate(1.0, False), stateful=stateful, rate=1e9, port=862
    )


def through(fates: list[str], *, stateful: bool = True, begins: int = 0) -> tuple[Outcome, ...]:
    """The outcomes of packets of these fates, by a real reflector."""
    far, log = reflector(stateful=stateful), Log(timeout=1)
    for sequence, fate in enumerate(fates, begins):
        log.sent(sequence, at=sequence, wall=sequence * 10**9)
        if fate == "lost there":
            continue
        request = Arrival(pack_request(Request(sequence, 0, 1)), 0, 64, 0, ("192.0.2.1", 40000))
        data = far.answer(request, now=float(sequence), wall=lambda: 10**18)
        assert data is not None
        reply = unpack_reply(data)
        if fate != "lost back":
            for _ in range(2 if fate == "twice back" else 1):
                log.answered(
                    Answer(reply.sender_sequence, number=reply.sequence), 10**9 * sequence, at=sequence, wall=10**9
                )
    return log.settle(float("inf"))


@given(FATES)
def test_every_loss_before_the_last_answer_is_on_its_way(fates: list[str]) -> None:
    found = lost_ways(through(fates), stateful=True)
    heard = [number for number, fate in enumerate(fates) if fate == "answered"]
    if not heard:
        assert found is None
        return
    told = fates[: heard[-1]]
    assert found == LostWays(told.count("lost there"), told.count("lost back"), len(fates) - 1 - heard[-1])


def test_without_being_told_only_numbers_that_differ_prove_a_stateful_reflector() -> None:
    back = ["answered", "lost back", "answered"]
    assert lost_ways(through(back)) is None
    assert lost_ways(through(back), stateful=True) == LostWays(0, 1, 0)
    assert lost_ways(through(["answered", "lost there", "answered"])) == LostWays(1, 0, 0)
    assert lost_ways(through(["answered", "lost there", "answered"], stateful=False)) is None


def test_answers_twice_on_the_way_back_are_one() -> None:
    fates = ["answered", "twice back", "lost there", "twice back", "lost back", "answered"]
    assert lost_ways(through(fates)) == LostWays(1, 1, 0)


def test_packets_doubled_on_the_way_there_are_no_loss_and_hide_none() -> None:
    """The reflector answers both, with two numbers."""
    log = Log(timeout=1)
    for sequence in range(4):
        log.sent(sequence, at=sequence, wall=0)
    for sequence, number in ((0, 0), (1, 1), (1, 2), (3, 3)):
        log.answered(Answer(sequence, number=number), 0, at=sequence, wall=0)
    assert lost_ways(log.settle(float("inf"))) == LostWays(1, 0, 0)


def test_a_session_that_the_reflector_knew_before_is_told_from_its_first_answer_on() -> None:
    outcomes = [Outcome(0, 0.0), Outcome(1, 1.0, copies=1, numbers=(7,)), Outcome(2, 2.0)]
    outcomes += [Outcome(3, 3.0, copies=1, numbers=(9,))]
    assert lost_ways(outcomes) == LostWays(0, 1, 1)
    assert lost_ways(through(["answered", "lost there", "answered"], begins=50)) == LostWays(1, 0, 0)


def test_a_reflector_that_began_anew_tells_nothing() -> None:
    numbers = (0, 1, 0, 1)
    outcomes = [Outcome(at, float(at), copies=1, numbers=(number,)) for at, number in enumerate(numbers)]
    assert lost_ways(outcomes, stateful=True) is None
    assert lost_ways([]) is None


@pytest.mark.parametrize("seed", range(3))
def test_a_long_session_with_losses_both_ways(seed: int) -> None:
    random = Random(seed)
    fates = [*random.choices(["answered", "lost there", "lost back"], weights=[80, 15, 5], k=2000), "answered"]
    found = lost_ways(through(fates))
    assert found == LostWays(fates.count("lost there"), fates.count("lost back"), 0)
