"""Options of a leaf's queues as the kernel would keep them, for property tests."""

from __future__ import annotations

from hypothesis import strategies as st

from shaper.kernel.codec.clock import codel_canonical, psched_canonical
from shaper.tree import (
    LEAF_KINDS,
    CodelOptions,
    FqPieOptions,
    LeafOptions,
    PieOptions,
    Qdisc,
    RedOptions,
    SfqOptions,
)

_PACKETS = st.integers(1, 2**20)
_BYTES = st.integers(1, 2**20)
_CODEL_TIMES = st.integers(1, 4_000_000)
_PIE_TIMES = st.integers(8, 4_000_000)
_PIE = {
    "limit": _PACKETS,
    "target": _PIE_TIMES,
    "ecn": st.booleans(),
    "alpha": st.integers(0, 32),
    "beta": st.integers(0, 32),
    "update": st.sampled_from([0, 40_000, 100_000]),  # whole ticks of any kernel's clock
    "bytemode": st.booleans(),
    "rate_estimator": st.booleans(),
}
CODEL = st.builds(CodelOptions, limit=_PACKETS, target=_CODEL_TIMES, interval=_CODEL_TIMES, ecn=st.booleans())
PIE = st.builds(PieOptions, **_PIE)
FQ_PIE = st.builds(
    FqPieOptions,
    flows=st.integers(1, 65536),
    quantum=_BYTES,
    memory=st.integers(1, 2**31),
    ecn_prob=st.integers(0, 100),
    **_PIE,
)


@st.composite
def _red(draw: st.DrawFn) -> RedOptions:
    weight = draw(st.integers(1, 12))
    least = draw(st.integers(1, 2**18 - 1))
    adaptive = draw(st.booleans())
    return RedOptions(
        limit=draw(st.integers(1, 2**24)),
        least=least,
        most=draw(st.integers(least, 2**19 - 1)),
        weight=weight,
        cell=draw(st.integers(0, 31)),
        probability=0 if adaptive else draw(st.integers(1, 2**32 - 1)),
        ecn=draw(st.booleans()),
        adaptive=adaptive,
        harddrop=draw(st.booleans()),
    )


@st.composite
def _sfq(draw: st.DrawFn) -> SfqOptions:
    depth, divisor = draw(st.integers(2, 127)), 2 ** draw(st.integers(0, 16))
    flows = draw(st.integers(1, min(divisor, 65000)))
    return SfqOptions(
        limit=draw(st.integers(max(2, flows), depth * flows)),
        quantum=draw(st.integers(256, 60_000)),
        perturb=draw(st.integers(0, 600)),
        divisor=divisor,
        flows=flows,
        depth=depth,
        headdrop=draw(st.booleans()),
    )


RED, SFQ = _red(), _sfq()
ALL: dict[str, st.SearchStrategy[LeafOptions]] = {
    "codel": CODEL,
    "pie": PIE,
    "fq_pie": FQ_PIE,
    "red": RED,
    "sfq": SFQ,
}


def canonical(options: LeafOptions) -> LeafOptions:
    """With times as the kernel's clock has them."""
    match options:
        case CodelOptions(target=target, interval=interval):
            return options._replace(target=codel_canonical(target), interval=codel_canonical(interval))
        case PieOptions(target=target) | FqPieOptions(target=target):
            return options._replace(target=psched_canonical(target))
    return options


def as_dumped(options: LeafOptions) -> LeafOptions:
    """With times as the kernel dumps them: rounded down to its unit on the way in, to microseconds on the way out."""
    match options:
        case CodelOptions(target=target, interval=interval):
            return options._replace(target=_rounded(target, 1024), interval=_rounded(interval, 1024))
        case PieOptions(target=target) | FqPieOptions(target=target):
            return options._replace(target=_rounded(target, 64))
    return options


def _rounded(microseconds: int, unit: int) -> int:
    return microseconds * 1000 // unit * unit // 1000


def leaf(options: LeafOptions, *, handle: int, parent: int) -> Qdisc:
    return Qdisc(handle, parent, LEAF_KINDS[type(options)], options)
