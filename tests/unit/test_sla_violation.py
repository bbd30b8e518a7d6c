"""The violation-second, row by row."""

import pytest

from shaper.model.sla import DelayTarget, Sla
from shaper.sla import SecondAccount, violated

P95 = DelayTarget(0.95, 0.05)
P99 = DelayTarget(0.99, 0.01)
VIDEO = Sla((P95,), 0.005, 2_000_000)
VOICE = Sla((P99,), 0.001)


def second(*, sent=1000, late=0, lost=0, throughput=2e6, waiting=None, target=P95):
    return SecondAccount(sent, {target: late}, lost, throughput, waiting)


ROWS = [
    ("all well", second(), VIDEO, False),
    ("without traffic it is neither", second(sent=0, throughput=0.0), VIDEO, None),
    ("without an SLA it is neither", second(late=1000, lost=1000), Sla(), None),
    ("exactly 5 % late is allowed", second(late=50), VIDEO, False),
    ("one more is not", second(late=51), VIDEO, True),
    ("of 100 packets, five may be late", second(sent=100, late=5), VIDEO, False),
    ("of 100 packets, six may not", second(sent=100, late=6), VIDEO, True),
    ("of 99, one may be late", second(sent=99, late=1), VIDEO, False),
    ("of 99, two may not, whatever the percentile", second(sent=99, late=2), VIDEO, True),
    ("one packet alone and late is forgiven", second(sent=1, late=1), VIDEO, False),
    ("voice: 50 packets, one late", second(sent=50, late=1, target=P99), VOICE, False),
    ("voice: 50 packets, two late", second(sent=50, late=2, target=P99), VOICE, True),
    ("voice: p99 of 200 allows two", second(sent=200, late=2, target=P99), VOICE, False),
    ("voice: p99 of 200 forbids three", second(sent=200, late=3, target=P99), VOICE, True),
    ("exactly 0.5 % lost is allowed", second(late=5, lost=5), VIDEO, False),
    ("one more is not", second(late=6, lost=6), VIDEO, True),
    ("one lost of few is allowed", second(sent=50, late=1, lost=1, target=P99), VOICE, False),
    ("two lost of few are not", second(sent=50, late=2, lost=2, target=P99), VOICE, True),
    ("one lost of 1000 at 0.1 %", second(sent=1000, late=1, lost=1, target=P99), VOICE, False),
    ("slow without backlog is no miss", second(throughput=1e6), VIDEO, False),
    ("slow under backlog is one", second(throughput=1_999_999, waiting=1_999_999), VIDEO, True),
    ("slow, but not while it waited, is none", second(throughput=1e6, waiting=2e6), VIDEO, False),
    ("slow for a part of a fast second is none", second(throughput=2e6, waiting=1e6), VIDEO, False),
    ("exactly the throughput target is met", second(throughput=2e6, waiting=2e6), VIDEO, False),
    ("starved altogether: to wait is traffic", second(sent=0, throughput=0.0, waiting=0.0), VIDEO, True),
    ("waiting and fast with nothing sent", second(sent=0, throughput=3e6, waiting=3e6), VIDEO, False),
    ("waiting, nothing sent, nothing to judge by", second(sent=0, waiting=0.0, target=P99), VOICE, None),
    ("a target that was not measured is not met", SecondAccount(1000, {}, 0, 3e6), VIDEO, None),
    ("unless another one is missed", SecondAccount(1000, {}, 6, 3e6), VIDEO, True),
    ("the second of two targets counts too", SecondAccount(1000, {P95: 0, P99: 11}), Sla((P95, P99)), True),
]


@pytest.mark.parametrize(("what", "account", "sla", "expected"), ROWS, ids=[row[0] for row in ROWS])
def test_violation_second(what, account, sla, expected):
    assert violated(account, sla) is expected
