"""Whom a reflector answers, with what, and whom not."""

from __future__ import annotations

from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st

from collectors.probe import stamp
from collectors.probe.endpoint import Arrival
from collectors.probe.ntp import ErrorEstimate, to_ntp
from collectors.probe.reflector import Reflector
from collectors.probe.stamp import Request

KEY = b"a key"
NOW, WALL = 100.0, 1_700_000_000 * 10**9
CLOCK = ErrorEstimate(0.001, synchronised=True)
ALLOWED = (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))
FROM = ("192.0.2.7", 40_000)


def reflector(*, key: bytes = b"", stateful: bool = False, rate: float = 1000.0) -> Reflector:
    return Reflector(ALLOWED, lambda: CLOCK, key, stateful, rate)


def asked(sequence: int = 5, *, key: bytes = b"", source: tuple[str, int] = FROM) -> Arrival:
    data = stamp.pack_request(Request(sequence, to_ntp(WALL - 10**9), 0x8001), key=key)
    return Arrival(data, WALL - 1000, 61, 46, source)


def answers(made: Reflector, packet: Arrival, *, now: float = NOW) -> stamp.Reply | None:
    data = made.answer(packet, now=now, wall=lambda: WALL)
    return None if data is None else stamp.unpack_reply(data, key=made.key)


def test_it_gives_back_what_it_was_told_and_when_that_came() -> None:
    reply = answers(reflector(), asked())
    assert reply is not None
    assert (reply.sequence, reply.sender_sequence) == (5, 5)
    assert (reply.stamp, reply.received) == (to_ntp(WALL), to_ntp(WALL - 1000))
    assert (reply.sender_stamp, reply.sender_error) == (to_ntp(WALL - 10**9), 0x8001)
    assert reply.sender_ttl == 61
    assert reply.estimate.synchronised
    assert reply.estimate.error >= CLOCK.error


def test_with_state_it_counts_by_session() -> None:
    made = reflector(stateful=True)
    other = ("192.0.2.8", 40_000)
    numbers = [answers(made, asked(n, source=who)) for n, who in ((3, FROM), (9, other), (7, FROM))]
    assert [reply.sequence for reply in numbers if reply] == [0, 0, 1]
    assert [reply.sender_sequence for reply in numbers if reply] == [3, 9, 7]
    later = answers(made, asked(8), now=NOW + 3600)  # forgotten meanwhile
    assert later is not None
    assert later.sequence == 0


def test_whom_it_does_not_answer() -> None:
    made = reflector()
    made.port = 8620
    for source in (
        ("192.0.2.7", 8620),
        ("198.51.100.1", 40_000),
        ("192.0.2.7", 862),
        ("192.0.2.7", 53),
        ("2001:db9::1", 40_000),
    ):
        assert answers(made, asked(source=source)) is None
    assert answers(made, asked(source=("2001:db8::1", 40_000))) is not None
    assert answers(made, asked(source=("::ffff:192.0.2.9", 40_000))) is not None  # a socket of both versions
    assert made.counts == {"not-allowed": 2, "source-port": 3, "answered": 2}


def test_so_many_a_second_for_each_address() -> None:
    made = reflector(rate=10)
    assert sum(answers(made, asked(n)) is not None for n in range(50)) == 10
    assert answers(made, asked(source=("192.0.2.8", 40_000))) is not None
    assert sum(answers(made, asked(n), now=NOW + 0.5) is not None for n in range(50)) == 5
    assert made.counts["rate"] == 40 + 45


def test_with_a_key_it_answers_nobody_else() -> None:
    made = reflector(key=KEY)
    assert answers(made, asked(key=KEY)) is not None
    assert answers(made, asked(key=b"another")) is None
    assert answers(made, asked()) is None
    assert made.counts == {"answered": 1, "hmac": 1, "short": 1}


@given(st.binary(max_size=300), st.booleans(), st.booleans())
def test_whatever_comes_is_counted_and_no_answer_is_longer(data: bytes, signed: bool, stateful: bool) -> None:
    made = reflector(key=KEY if signed else b"", stateful=stateful)
    answer = made.answer(Arrival(data, 0, None, None, FROM), now=NOW, wall=lambda: WALL)
    assert made.counts.total() == 1
    assert answer is None or len(answer) == len(data)
    assert (answer is not None) == (made.counts["answered"] == 1)
