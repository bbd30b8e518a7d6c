"""The targets of one class against what was measured in one window. Missing data never counts as good."""

from __future__ import annotations

from shaper.model.observation import DelayView
from shaper.model.sla import DelayTarget, JitterTarget, MosTarget, Sla, SlaResult, SlaState, TargetResult
from shaper.stats import CODECS, PLAYOUTS, variation, voice

FEW = 100
"""Below this many packets a percentile is no ratio any more: more than one late packet is a miss."""

LEAST = 20
"""Below this many packets a delay target is never called met."""

_WORST = (SlaState.MISSED, SlaState.NO_DATA, SlaState.MET)


def evaluate(
    sla: Sla,
    *,
    path: str,
    delay: DelayView | None,
    offered_packets: int,
    dropped_packets: int,
    throughput: float,
    waiting: float | None,
) -> SlaResult:
    """The class's result in one window.

    `offered_packets` came, `dropped_packets` of them were dropped by the leaf (both from the kernel's counters);
    `throughput` in bit/s, and so `waiting`: what it sent in the time in which it wanted more, None where it never did;
    `delay` covers the packets that left.
    A dropped packet counts as infinitely late, as in a violation-second. A class without traffic has no data.
    """
    if not sla:
        return SlaResult(path, SlaState.NONE, ())
    idle = offered_packets <= 0 and waiting is None
    results = [_delay(target, delay, offered_packets, dropped_packets) for target in sla.delays]
    results += [_jitter(target, delay, offered_packets) for target in sla.jitters]
    if sla.loss is not None:
        results.append(_loss(sla.loss, offered_packets, dropped_packets))
    if sla.throughput is not None:
        results.append(_throughput(sla.throughput, offered_packets, throughput, waiting=waiting, idle=idle))
    if sla.mos is not None:
        results.append(_mos(sla.mos, delay, offered_packets, dropped_packets))
    found = {result.state for result in results}
    return SlaResult(path, next(state for state in _WORST if state in found), tuple(results))


def _delay(target: DelayTarget, view: DelayView | None, offered: int, dropped: int) -> TargetResult:
    count = view.count if view is not None and offered > 0 else 0
    measured = view.quantiles.get(target.percentile) if view is not None and count else None
    lost = min(1.0, dropped / offered) if offered > 0 else 0.0
    allowed = 1 - target.percentile + 1e-9
    # The capture may see one packet in n, so the kernel's loss ratio stands for the packets that never left.
    known = view.late.get(target.seconds) if view is not None and count else None
    if known is None and measured is not None:
        known = 0.0 if measured <= target.seconds else 1.0
    late = lost + (1 - lost) * (known or 0.0)
    if offered <= 0 or (known is None and not (lost > allowed and dropped > 1)):
        state = SlaState.NO_DATA
    elif known is None:
        state = SlaState.MISSED
    elif count < FEW:
        judged = count / (1 - lost) if lost < 1 else count
        beyond = round(late * judged) > 1
        state = SlaState.MISSED if beyond else SlaState.MET if count >= LEAST else SlaState.NO_DATA
    else:
        state = SlaState.MISSED if late > allowed else SlaState.MET
    return TargetResult(target.key, target.seconds, measured, count, state)


def _jitter(target: JitterTarget, view: DelayView | None, offered: int) -> TargetResult:
    """Of the packets that came out: what is lost has no delay (RFC 3393). Few packets prove no miss."""
    count = view.count if view is not None and offered > 0 else 0
    measured = None
    if view is not None and count and view.least is not None and target.percentile in view.quantiles:
        measured = variation(view.quantiles[target.percentile], view.least)
    if measured is None or count < LEAST or (measured > target.seconds and count < FEW):
        state = SlaState.NO_DATA
    else:
        state = SlaState.MISSED if measured > target.seconds else SlaState.MET
    return TargetResult(target.key, target.seconds, measured, count, state)


def _mos(target: MosTarget, view: DelayView | None, offered: int, dropped: int) -> TargetResult:
    """The kernel's loss stands for the packets that never left, as for delay."""
    count = view.count if view is not None and offered > 0 else 0
    late = {at: view.late[at] for at in PLAYOUTS if at in view.late} if view is not None and count else {}
    heard = voice(late, min(1.0, dropped / offered) if offered > 0 else 0.0, CODECS[target.codec], path=target.path)
    if heard is None or count < LEAST:
        return TargetResult("mos", target.least, heard.mos if heard else None, count, SlaState.NO_DATA)
    state = SlaState.MISSED if heard.mos < target.least else SlaState.MET
    return TargetResult("mos", target.least, heard.mos, count, state)


def _loss(target: float, offered: int, dropped: int) -> TargetResult:
    if offered <= 0:
        return TargetResult("loss", target, None, 0, SlaState.NO_DATA)
    missed = dropped > max(1.0, target * offered + 1e-9)
    return TargetResult("loss", target, dropped / offered, offered, SlaState.MISSED if missed else SlaState.MET)


def _throughput(target: int, offered: int, throughput: float, *, waiting: float | None, idle: bool) -> TargetResult:
    """Under target without having waited the class got all that it asked for: that is met."""
    if idle:
        return TargetResult("throughput", target, None, 0, SlaState.NO_DATA)
    missed = waiting is not None and max(throughput, waiting) < target
    return TargetResult("throughput", target, throughput, offered, SlaState.MISSED if missed else SlaState.MET)
