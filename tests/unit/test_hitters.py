"""The largest flows in bounded memory, against an exact count."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from wire_samples import udp

from collectors.frames import dissect
from collectors.hitters import Hitters, words

CAPACITY = 8


def flow(port: int) -> bytes:
    found = dissect(udp(sport=port))
    assert found is not None
    return found[1]


@given(packets=st.lists(st.tuples(st.integers(1, 60), st.integers(1, 1500)), max_size=400))
def test_a_count_is_too_small_by_no_more_than_it_says(packets: list[tuple[int, int]]) -> None:
    sketch, exact = Hitters(capacity=CAPACITY), Counter[str]()
    for port, size in packets:
        sketch.add(flow(port), size)
        exact[words(flow(port))] += size
    found = sketch.largest(2 * CAPACITY)
    bound = sum(exact.values()) / CAPACITY
    for one in found:
        assert one.bytes <= exact[one.flow] <= one.bytes + one.error
        assert one.error <= bound
    kept = {one.flow for one in found}
    assert all(name in kept for name, size in exact.items() if size > bound), "who sends that much is never forgotten"


def test_flows_in_words_and_by_a_hash() -> None:
    sketch = Hitters()
    sketch.add(flow(7), 100)
    (plain,), (hidden,), (again,) = (sketch.largest(1, secret=secret) for secret in (b"", b"one", b"two"))
    assert plain.flow.startswith("udp ")
    assert ":7 > " in plain.flow
    assert hidden.flow != again.flow
    source = plain.flow.split()[1].rpartition(":")[0]
    assert source not in hidden.flow
