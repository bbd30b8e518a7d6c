"""The receiver's account: arithmetic of the two logs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shaper.lab.account import percentile_of, settle
from shaper.lab.receiver import OVERFLOW
from shaper.lab.traffic import packet_key

S = 10**9
MS = 10**6


def log_of(*packets: tuple[int, int, int | None]) -> tuple[list[int], list[int]]:
    """The sender's and the receiver's log of (flow, sent, received or None) packets, numbered in order."""
    sender: list[int] = []
    receiver: list[int] = []
    for number, (flow, sent, received) in enumerate(packets):
        sender += [packet_key(flow, number), sent]
        if received is not None:
            receiver += [packet_key(flow, number), sent, received]
    return sender, receiver


def test_a_packet_counts_in_the_second_in_which_it_was_sent() -> None:
    sender, receiver = log_of((1, 5 * S, 5 * S + 20 * MS), (1, 6 * S - MS, 6 * S + 40 * MS), (1, 6 * S, None))
    account = settle(sender, receiver, start=5 * S, seconds=2, classes={1: "video"})
    first, second = account.classes["video"]
    assert (first.sent, first.lost, first.delays) == (2, 0, pytest.approx([0.020, 0.041]))
    assert (second.sent, second.lost, second.delays) == (1, 1, [])
    assert account.loss("video") == pytest.approx(1 / 3)
    assert account.delay("video", 0.99) == pytest.approx(0.041)


def test_flows_of_one_class_share_its_account() -> None:
    sender, receiver = log_of((1, 0, MS), (2, 0, None), (3, 0, MS))
    account = settle(sender, receiver, start=0, seconds=1, classes={1: "business", 2: "business", 3: "voice"})
    assert [(second.sent, second.lost) for second in account.classes["business"]] == [(2, 1)]
    assert [(second.sent, second.lost) for second in account.classes["voice"]] == [(1, 0)]


def test_a_second_copy_is_not_counted_again_and_the_overflow_is_kept() -> None:
    sender, receiver = log_of((1, 0, MS))
    account = settle(sender, [*receiver, *receiver, OVERFLOW, 7, 0], start=0, seconds=1, classes={1: "voice"})
    assert account.classes["voice"][0].delays == [0.001]
    assert account.overflow == 7


def test_a_class_without_packets_has_no_figures() -> None:
    account = settle([], [], start=0, seconds=1, classes={1: "voice"})
    assert account.delay("voice", 0.5) is None
    assert account.loss("voice") is None
    assert account.loss("bulk") is None


@given(
    packets=st.lists(
        st.tuples(st.integers(1, 3), st.integers(0, 12 * S), st.none() | st.integers(0, S)).map(
            lambda packet: (packet[0], packet[1], None if packet[2] is None else packet[1] + packet[2])
        )
    )
)
def test_every_packet_sent_has_arrived_or_is_lost(packets: list[tuple[int, int, int | None]]) -> None:
    sender, receiver = log_of(*packets)
    account = settle(sender, receiver, start=0, seconds=10, classes={1: "a", 2: "b", 3: "b"})
    seconds = [second for path in ("a", "b") for second in account.classes[path]]
    assert sum(second.sent for second in seconds) == len(packets)
    assert all(second.sent == second.lost + len(second.delays) for second in seconds)
    assert sum(second.lost for second in seconds) == sum(received is None for _, _, received in packets)


@given(values=st.lists(st.floats(0, 10), min_size=1).map(sorted), percentile=st.floats(0.01, 1))
def test_at_least_the_percentile_is_not_above_it(values: list[float], percentile: float) -> None:
    found = percentile_of(values, percentile)
    assert found is not None
    assert sum(value <= found for value in values) >= percentile * len(values) - 1e-9
    assert sum(value < found for value in values) < percentile * len(values) + 1e-9
