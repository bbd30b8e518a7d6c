"""The rate of a capture: by its load, one step at a time, and never so that a packet would seem lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from collectors.sampling import LARGEST, Sampling

HORIZON = 3.0
loads = st.lists(st.tuples(st.integers(0, 4000), st.sampled_from((0, 0, 0, 5)), st.floats(0.05, 2)), max_size=120)


def power(number: int) -> bool:
    return number & (number - 1) == 0


@given(loads=loads, least=st.sampled_from((1, 2, 16)))
def test_what_is_picked_before_the_queue_is_picked_after_it(loads: list[tuple[int, int, float]], least: int) -> None:
    chosen, now = Sampling(least, HORIZON, most=1000), 0.0
    picked = [(now, chosen.before)]
    for frames, drops, seconds in loads:
        now += seconds
        chosen.take(frames, drops, now=now)
        picked.append((now, chosen.before))
        recent = [
            rate
            for index, (_, rate) in enumerate(picked)
            if index + 1 == len(picked) or picked[index + 1][0] > now - HORIZON
        ]
        assert all(chosen.after <= rate for rate in recent), "the denser sample holds the sparser one"
        assert chosen.claimed >= max(recent[-1], chosen.before)
        assert least <= chosen.before <= LARGEST
        assert power(chosen.before) and power(chosen.after)


def test_it_looks_at_less_under_load_and_at_more_after_it() -> None:
    chosen, now = Sampling(1, HORIZON, most=1000), 0.0
    chosen.take(0, 0, now=now)
    seen = []
    for frames in [500] * 10 + [200] * 10 + [0] * 90:
        now += 0.2
        chosen.take(frames // chosen.before, 0, now=now)
        seen.append(chosen.before)
    assert seen[0] == 4, "2500 frames a second are too many, and a quarter of them are not"
    assert max(seen) == 4, "nothing more is called for"
    assert seen[-1] == 1
    assert chosen.after == 1


def test_it_looks_at_as_many_again_at_once_where_there_was_little_load_for_a_while() -> None:
    chosen, now = Sampling(1, HORIZON, most=1000), 0.0
    chosen.take(0, 0, now=now)
    seen = []
    for rate in [60_000] * 2 + [300] * 49 + [400] * 2 + [300] * 60:
        now += 0.2
        chosen.take(round(rate * 0.2 / chosen.before), 0, now=now)
        seen.append(chosen.before)
    assert (seen[0], seen[52]) == (64, 64), "ten seconds of calm first"
    assert seen[53] == 1, "with all of them looked at it would still be less than half of the most"


def test_the_tick_of_a_change_calls_for_no_other_and_a_load_that_grew_on_does() -> None:
    chosen = Sampling(1, HORIZON, most=1000)
    for now, frames, expected in ((0.0, 0, 1), (1.0, 1500, 2), (2.0, 1100, 2), (3.0, 5000, 16), (4.0, 900, 16)):
        chosen.take(frames, 0, now=now)
        assert chosen.before == expected
    assert (chosen.after, chosen.claimed) == (1, 16), "the side after waits for a horizon since the last change"
    chosen.take(900, 0, now=6.1)
    assert chosen.after == 16


def test_where_packets_are_many_it_looks_at_fewer_until_they_are_few_again() -> None:
    chosen, now, packets = Sampling(1, HORIZON), 0.0, [10_000] * 10 + [50_000] * 300 + [2_000] * 600
    seen = []
    for rate in packets:
        now += 0.2
        chosen.take(round(rate * 0.2 / chosen.before), 0, now=now, sparing=rate > 40_000)
        seen.append(chosen.before)
    assert seen[:10] == [1] * 10, "a whole capture of few packets"
    assert seen[309] == 16, "at most 4,000 frames a second of 50,000"
    assert seen[-1] == 1


def test_lost_frames_are_load_too() -> None:
    chosen = Sampling(4, HORIZON)
    chosen.take(10, 0, now=0.0)
    chosen.take(10, 1, now=1.0)
    assert (chosen.before, chosen.after, chosen.claimed) == (8, 4, 8)
    chosen.take(10, 0, now=4.5)
    assert (chosen.before, chosen.after, chosen.claimed) == (8, 8, 8)
