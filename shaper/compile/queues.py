"""The numbers of a leaf's queue, each from the class's delay and rate where the policy does not say it.

Where a number is from stands beside it. Times are rounded to what the kernel's clock holds exactly, so that what is
sent is what the kernel says it has.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from shaper.compile.nearest import Choice
from shaper.model.aqm import MOST_SFQ_DEPTH, Aqm, AqmKind
from shaper.tree import (
    AckFilter,
    CakeOptions,
    CodelOptions,
    Diffserv,
    FlowMode,
    FqCodelOptions,
    FqPieOptions,
    Options,
    PieOptions,
    RedOptions,
    SfqOptions,
)

_CODEL_STEP, _PIE_STEP = 128, 8
"""Microseconds that CoDel's clock (1024 ns) and the packet scheduler's (64 ns) hold exactly."""
_CODEL_TARGET, _CODEL_INTERVAL = 0.005, 0.1
_PIE_TARGET = 0.015
_ALPHA, _BETA = 2, 20
_FLOWS = 1024
_SAFETY_PACKETS = 1000
"""The least limit in packets: the target keeps the delay, the limit only the memory, also of packets that are small."""
_RED_TARGET, _RED_PACKETS, _RED_SPREAD = 0.005, 5, 3
_SFQ_FLOWS = 127
_SFQ_BUCKETS = 1024


class Basis(NamedTuple):
    """What the numbers follow from: `delay` in seconds, None where the class promises none; `rate` in bit/s; `frame`,
    `size` (of the queue) and `smallest` in bytes; `memory` in bytes of the kernel's memory."""

    delay: float | None
    rate: int
    frame: int
    size: int
    smallest: int
    memory: int


def options_of(choice: Choice, basis: Basis) -> tuple[str, Options]:
    """The kind of any queue but a FIFO, and its options."""
    aqm, one = choice.aqm, choice.one_flow
    match aqm.kind:
        case AqmKind.FQ_CODEL:
            return "fq_codel", _fq_codel(aqm, basis, one_flow=one)
        case AqmKind.CODEL:
            return "codel", _codel(aqm, basis)
        case AqmKind.PIE:
            return "pie", _pie(aqm, basis)
        case AqmKind.FQ_PIE:
            return "fq_pie", _fq_pie(aqm, basis, one_flow=one)
        case AqmKind.RED:
            return "red", _red(aqm, basis)
        case AqmKind.SFQ:
            return "sfq", _sfq(aqm, basis, hashed=choice.hashed)
        case AqmKind.CAKE:
            return "cake", _cake(aqm, basis, choice.fairness or FlowMode.FLOWS)
        case AqmKind.FIFO:
            raise ValueError("a FIFO has a limit and nothing else")


def _codel_times(aqm: Aqm, basis: Basis) -> tuple[float, float]:
    """Target 5 ms, or a tenth of a laxer delay target; interval 100 ms, never under ten targets (RFC 8289, 4.2-4.4)."""
    target = aqm.target or max(_CODEL_TARGET, basis.delay / 10 if basis.delay else 0.0)
    return target, aqm.interval or max(_CODEL_INTERVAL, 10 * target)


def _rounded(seconds: float, step: int) -> int:
    """In microseconds."""
    return max(step, round(seconds * 1e6 / step) * step)


def _packets(aqm: Aqm, basis: Basis) -> int:
    """A thousand, or twice as many frames as the class's queue has room for."""
    return aqm.packets or max(_SAFETY_PACKETS, 2 * basis.size // basis.frame)


def _fq_codel(aqm: Aqm, basis: Basis, *, one_flow: bool) -> FqCodelOptions:
    """10240 packets and 1024 flows, as RFC 8290, 5.2.3 and 5.2.5, has them; the memory is what bounds the queue."""
    target, interval = _codel_times(aqm, basis)
    return FqCodelOptions(
        limit=aqm.packets or 10240,
        target=_rounded(target, _CODEL_STEP),
        interval=_rounded(interval, _CODEL_STEP),
        quantum=aqm.quantum or basis.frame,
        flows=1 if one_flow else aqm.flows or _FLOWS,
        memory=basis.memory,
        ecn=aqm.ecn is not False,
    )


def _codel(aqm: Aqm, basis: Basis) -> CodelOptions:
    target, interval = _codel_times(aqm, basis)
    return CodelOptions(
        limit=_packets(aqm, basis),
        target=_rounded(target, _CODEL_STEP),
        interval=_rounded(interval, _CODEL_STEP),
        ecn=aqm.ecn is not False,
    )


def _pie_target(aqm: Aqm, basis: Basis) -> int:
    """QDELAY_REF, 15 ms (RFC 8033, 4.2); half of a delay target that is tighter than 30: PIE keeps an average there."""
    half = basis.delay / 2 if basis.delay else _PIE_TARGET
    return _rounded(aqm.target or min(_PIE_TARGET, half), _PIE_STEP)


def _pie(aqm: Aqm, basis: Basis) -> PieOptions:
    """alpha and beta by RFC 8033, 4.2."""
    alpha, beta = _gains(aqm)
    return PieOptions(_packets(aqm, basis), _pie_target(aqm, basis), aqm.ecn is not False, alpha, beta)


def _gains(aqm: Aqm) -> tuple[int, int]:
    return (_ALPHA if aqm.alpha is None else aqm.alpha), (_BETA if aqm.beta is None else aqm.beta)


def _fq_pie(aqm: Aqm, basis: Basis, *, one_flow: bool) -> FqPieOptions:
    """Marks up to a probability of 10 % (RFC 8033, 5.1)."""
    alpha, beta = _gains(aqm)
    return FqPieOptions(
        limit=aqm.packets or 10240,
        flows=1 if one_flow else aqm.flows or _FLOWS,
        target=_pie_target(aqm, basis),
        quantum=aqm.quantum or basis.frame,
        memory=basis.memory,
        ecn=aqm.ecn is not False,
        alpha=alpha,
        beta=beta,
    )


def _red(aqm: Aqm, basis: Basis) -> RedOptions:
    """Floyd, Gummadi, Shenker: "Adaptive RED", 2001: the average is kept at rate x target, midway between thresholds.

    min = max(5 packets, rate x target / 2), max = 3 min; the weight 1 - exp(-1 / packets a second), a memory of about
    a second; the probability is adapted. The limit is twice max, where gentle RED drops all, but never more than the
    delay target has room for. Target: 5 ms, or a tenth of a laxer delay target.
    """
    target = aqm.target or max(_RED_TARGET, basis.delay / 10 if basis.delay else 0.0)
    least = aqm.least or max(_RED_PACKETS * basis.frame, int(basis.rate * target / 16))
    most = aqm.most or _RED_SPREAD * least
    limit = aqm.size or 2 * most
    if basis.delay and aqm.size is None:
        limit = min(limit, max(basis.smallest, int(basis.rate * basis.delay / 8)))
    most = aqm.most or min(most, limit)
    least = aqm.least or min(least, max(1, most // _RED_SPREAD))
    packets = max(1.0, basis.rate / 8 / basis.frame)  # a second
    weight = min(max(1, round(-math.log2(-math.expm1(-1 / packets)))), 31 - most.bit_length())
    halving = 1e6 / packets / -math.log2(1 - 2.0**-weight)  # microseconds in which an idle queue's average is halved
    return RedOptions(
        limit=limit,
        least=least,
        most=most,
        weight=weight,
        cell=min(max(0, round(math.log2(halving * 31 / 256))), 31),
        probability=round(aqm.probability * 2**32) if aqm.probability else 0,
        ecn=aqm.ecn is not False,
        adaptive=aqm.probability is None,
    )


def _sfq(aqm: Aqm, basis: Basis, *, hashed: bool) -> SfqOptions:
    """Nothing but its limit keeps the delay: as many frames as the queue has room for. A turn is one frame (McKenney:
    "Stochastic Fairness Queueing", 1990); the hash is not perturbed, since that reorders packets."""
    depth = aqm.depth or MOST_SFQ_DEPTH
    limit = aqm.packets or max(2, basis.size // basis.frame)
    flows = min(aqm.flows or _SFQ_FLOWS, limit)
    flows = max(flows, -(-limit // depth))
    buckets = max(_SFQ_BUCKETS if hashed else 1, 1 << (8 * flows - 1).bit_length() if flows > _SFQ_FLOWS else 1024)
    return SfqOptions(
        limit=limit,
        quantum=aqm.quantum or basis.frame,
        perturb=round(aqm.perturb or 0),
        divisor=min(65536, buckets),
        flows=flows,
        depth=depth,
    )


def _cake(aqm: Aqm, basis: Basis, fairness: FlowMode) -> CakeOptions:
    """Without a rate: the class above has one. CAKE's target is CoDel's, its interval twenty targets, as tc has it."""
    target, interval = _codel_times(aqm, basis)
    interval = aqm.interval or max(interval, 20 * target)
    return CakeOptions(
        rate=0,
        diffserv=Diffserv.BESTEFFORT,
        flows=fairness,
        rtt=round(interval * 1e6),
        target=round(target * 1e6),
        nat=bool(aqm.nat),
        wash=bool(aqm.wash),
        ack_filter=aqm.ack_filter or AckFilter.NONE,
        split_gso=aqm.split_gso is not False,
        memory=basis.memory,
    )
