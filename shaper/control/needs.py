"""What a class needs for its SLA: feed-forward from what arrives, an integral on what its packets then wait.

Feed-forward: traffic with envelope E(tau), served at rate r after a latency theta = L/r + S, waits at most D when
E(tau) <= r (tau + D - theta) for every tau (Le Boudec & Thiran, Network Calculus, theorem 1.4.2), which is
r >= (E(tau) + L) / (tau + D - S). TCP takes whatever it gets, so only inelastic traffic is counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from shaper.control.mixture import mixture, towards
from shaper.control.setup import ClassSetup, Setup
from shaper.control.state import Counted, Memory, Peak
from shaper.control.tuning import Tuning
from shaper.model.observation import ClassObservation
from shaper.model.sla import DelayTarget
from shaper.units import format_duration, format_percent, format_rate


@dataclass(frozen=True, slots=True)
class Need:
    """What a class needs now. Rates in bit/s.

    `rate` holds its SLA (0 where it has none or no traffic), `drain` comes on top while a backlog is too long; `demand`
    is what it would use (infinite with a backlog or drops); `throughput` what was sent of it of late, `present` in this
    tick. `missed` says which target is missed, "" when none is. `elastic` says that there is TCP in it, `inelastic`
    that there is none; neither, where no capture tells; `paced` that its TCP leaves the queue mostly empty, `modest`
    that it does not take all that is left of the link either. `strain` is the delay as a share of what is wanted of it,
    of the worst target, 0 without any: from 1 on nothing of its rate can be spared. `thin` marks too few samples to
    judge by; `capacity` the bandwidth that an infeasible delay target would take; `asked` is the need of this moment,
    without headroom and hold. `excess` is the logarithm of the worst delay over what is wanted of it, within -1..1 and
    0 in the dead band; None where none was measured or the samples are too few.
    """

    rate: float = 0.0
    drain: float = 0.0
    demand: float = 0.0
    throughput: float = 0.0
    present: float = 0.0
    pressed: bool = False
    elastic: bool = False
    inelastic: bool = False
    paced: bool = False
    modest: bool = False
    source: str = ""
    missed: str = ""
    strain: float = 0.0
    thin: bool = False
    capacity: int | None = None
    asked: float = 0.0
    excess: float | None = None


def need(
    setup: Setup,
    cls: ClassSetup,
    memory: Memory,
    seen: ClassObservation,
    *,
    now: float,
    trusted: bool,
    tuning: Tuning,
) -> tuple[Memory, Need]:
    """The class's need at this tick, and what is remembered of it. `trusted` is the capture's health."""
    throughput = seen.sent_bytes * 8 / seen.seconds
    pressed = _pressed(setup, seen)
    smooth = towards(memory.throughput, throughput, seen.seconds / tuning.throughput_seconds)
    mixed = mixture(setup, cls, memory, seen, throughput=smooth, now=now, trusted=trusted, tuning=tuning)
    share, elastic = mixed.share, mixed.elastic
    envelope: Mapping[float, int] = {}
    if trusted and seen.inelastic is not None:
        # What was captured and what was counted are not of the same instants: the lesser one is not of the next tick.
        inelastic, envelope = min(seen.inelastic, seen.offered), seen.envelope
    else:
        inelastic = seen.offered * (1.0 if share is None else share)

    candidates = list(_feed_forward(setup, cls, inelastic, envelope, now=now, seconds=seen.seconds, tuning=tuning))
    if cls.sla.throughput is not None:
        rate = tuning.headroom * (cls.sla.throughput if pressed else min(cls.sla.throughput, seen.offered))
        source = f"{format_rate(int(rate))} for the throughput target"
        candidates.append(Peak(now, rate, source, rate / tuning.headroom))
    latest = max(candidates, key=lambda peak: peak.rate, default=Peak(now, 0.0, ""))
    if share is None:
        # Perhaps it is TCP, whose offered rate follows what it is granted: grow in bounded steps.
        most = max(tuning.blind_tick, tuning.blind_growth**seen.seconds) * max(memory.grant.rate, throughput)
        latest = replace(latest, rate=min(latest.rate, most))
    peaks = tuple(peak for peak in memory.peaks if now - peak.at < tuning.window and peak.rate > latest.rate)
    peaks = (*peaks, latest)

    count = seen.delay.count if seen.delay is not None else 0
    thin = bool(cls.sla.bounds) and trusted and peaks[0].rate > 0 and count < tuning.samples
    error, missed = _error(setup, cls, memory, seen, elastic=elastic, throughput=throughput, tuning=tuning)
    bare = max((peak.bare for peak in candidates), default=0.0)
    asked, since = _asked(memory, bare, seen.seconds, now=now, tuning=tuning)
    second = _second(memory, seen, now=now) if cls.sla.bounds or cls.sla.loss is not None else ()
    # One copy: with thousands of classes copies are most of what a step takes.
    memory = replace(
        memory,
        share=share,
        elastic_at=mixed.elastic_at,
        throughput=smooth,
        pace=mixed.pace,
        peaks=peaks,
        asked=asked,
        asked_since=since,
        second=second,
    )
    if trusted and error is not None:
        integral = _integral(setup, cls, memory, seen, error, now=now, elastic=elastic, thin=thin, tuning=tuning)
        memory = replace(memory, integral=integral) if integral != memory.integral else memory

    rate, source = peaks[0].rate, peaks[0].source
    if memory.integral > 0.01 and rate > 0:
        rate = max(rate, cls.lowest) * math.exp(memory.integral)
        source = f"{source}, feedback x{math.exp(memory.integral):.2f}"
    if second and seen.dropped_packets:
        granted = memory.grant.rate >= rate * (1 - tuning.apply_up) - tuning.apply_bits
        spoilt = granted and _too_many(second, _may_spoil(cls, tuning))
        memory = replace(memory, dropped_at=now, lossy_at=now if spoilt else memory.lossy_at)
    drain = 0.0
    if cls.sla and not elastic and rate > 0:
        delay = tuning.loss_delay if cls.tightest is None else cls.tightest
        drain = max(0.0, seen.backlog_bytes * 8 - inelastic * delay) / tuning.drain
    return memory, Need(
        rate=rate,
        drain=drain,
        demand=math.inf if pressed else tuning.headroom * seen.offered,
        throughput=smooth,
        present=throughput,
        pressed=pressed,
        elastic=elastic,
        inelastic=share is not None and not elastic,
        paced=mixed.paced,
        modest=mixed.modest,
        source=source,
        missed=missed,
        strain=_strain(cls, seen, tuning) if trusted else 0.0,
        thin=thin,
        asked=asked * (math.exp(memory.integral) if memory.integral > 0.01 else 1.0),
        excess=error if trusted and count >= tuning.samples else None,
        capacity=_infeasible(setup, cls, _largest_frame(setup, envelope)),
    )


def _pressed(setup: Setup, seen: ClassObservation) -> bool:
    """More than a frame or two in transit is waiting, or something was dropped."""
    return seen.dropped_packets > 0 or seen.backlog_bytes > 2 * setup.link.mtu_frame


def _asked(memory: Memory, bare: float, seconds: float, *, now: float, tuning: Tuning) -> tuple[float, float]:
    """The mean since the last jump, no further back than a while, and when that was: a step counts at once, chance is
    evened out."""
    if abs(bare - memory.asked) > tuning.asked_step * memory.asked:
        return bare, now - seconds
    reach = min(tuning.asked_seconds, now - memory.asked_since)
    return towards(memory.asked, bare, seconds / max(seconds, reach)), memory.asked_since


def _largest_frame(setup: Setup, envelope: Mapping[float, int]) -> int:
    """No packet of the class is larger than the most bytes that came within the shortest tau."""
    least = min(envelope.values(), default=0)
    return min(setup.link.mtu_frame, least) if least > 0 else setup.link.mtu_frame


def _feed_forward(
    setup: Setup,
    cls: ClassSetup,
    inelastic: float,
    envelope: Mapping[float, int],
    *,
    now: float,
    seconds: float,
    tuning: Tuning,
) -> Iterator[Peak]:
    """The rates that hold the delay and loss targets for what arrived in this tick."""
    if inelastic <= 0 or not (cls.sla.bounds or cls.sla.loss is not None):
        return
    rate = tuning.headroom * inelastic
    source = f"feed-forward {format_rate(rate)}, {tuning.headroom:g} x {format_rate(inelastic)} offered"
    yield Peak(now, rate, source, inelastic)
    frame = _largest_frame(setup, envelope)
    curve = envelope or {seconds: int(inelastic * seconds / 8)}
    delay = cls.tightest
    spare = (tuning.loss_delay if delay is None else delay) - setup.latency(cls)
    if spare <= 0:
        return
    rate, tau = max(((size + frame) * 8 / (tau + spare), tau) for tau, size in curve.items())
    yield Peak(now, rate, f"feed-forward {format_rate(rate)} from envelope at {format_duration(tau)}", rate)


def _infeasible(setup: Setup, cls: ClassSetup, frame: int) -> int | None:
    """The bandwidth at which the tightest delay target could hold, if at this one it cannot at any rate."""
    delay = cls.tightest
    if delay is None:
        return None
    latency = setup.latency(cls)
    if delay > latency + frame * 8 / setup.link.bandwidth:
        return None
    frames = (latency - setup.link.burst_seconds) * setup.link.bandwidth + frame * 8
    # A target inside the burst time needs the bursts shortened as well: they are the smaller, the faster the link.
    return math.ceil(frames / (delay - setup.link.burst_seconds if delay > 2 * setup.link.burst_seconds else delay / 2))


def _measured(target: DelayTarget, memory: Memory, seen: ClassObservation, *, tuning: Tuning) -> float:
    """The target's own percentile in seconds; with too few samples the conservative bound that stands in for it."""
    view = seen.delay
    if view is not None and view.count >= tuning.samples and target.percentile in view.quantiles:
        return view.quantiles[target.percentile]
    queued = seen.backlog_bytes * 8 / max(memory.grant.rate, seen.sent_bytes * 8 / seen.seconds, 8.0)
    return max(queued, view.largest if view is not None else 0.0)


def _strain(cls: ClassSetup, seen: ClassObservation, tuning: Tuning) -> float:
    view = seen.delay
    if view is None or view.count < tuning.samples:
        return 0.0
    known = [target for target in cls.sla.bounds if target.percentile in view.quantiles]
    shares = (view.quantiles[target.percentile] / (tuning.setpoint * target.seconds) for target in known)
    return max(shares, default=0.0)


def _error(
    setup: Setup,
    cls: ClassSetup,
    memory: Memory,
    seen: ClassObservation,
    *,
    elastic: bool,
    throughput: float,
    tuning: Tuning,
) -> tuple[float | None, str]:
    """How far the class is from its targets, as a logarithm within -1..1 (None without data), and what it misses."""
    error: float | None = None
    missed: list[str] = []
    for target in cls.sla.bounds:
        if target.seconds <= setup.latency(cls) or seen.offered <= 0:
            continue
        measured = _measured(target, memory, seen, tuning=tuning)
        ratio = math.log(max(measured, 1e-6) / (tuning.setpoint * target.seconds))
        ratio = 0.0 if abs(ratio) < tuning.dead_band else max(-1.0, min(1.0, ratio))
        error = ratio if error is None else max(error, ratio)
        if measured > target.seconds:
            missed.append(f"{target.key[6:]} {format_duration(measured)} over {format_duration(target.seconds)}")
    packets = seen.sent_packets + seen.dropped_packets
    if cls.sla.loss is not None and seen.dropped_packets > max(1.0, cls.sla.loss * packets):
        missed.append(f"loss {format_percent(seen.dropped_packets / packets)} over {format_percent(cls.sla.loss)}")
        # TCP loses packets at any rate: only the loss of inelastic traffic asks for more.
        error = error if elastic else 1.0
    if cls.sla.throughput is not None and throughput < cls.sla.throughput and _pressed(setup, seen):
        missed.append(f"throughput {format_rate(throughput)} under {format_rate(cls.sla.throughput)}")
    return error, ", ".join(missed)


def lossy(cls: ClassSetup, seen: ClassObservation) -> bool:
    """Whether as much is dropped already as may be late: what is dropped counts as that, and a shorter queue drops
    more."""
    may = min((1 - target.percentile for target in cls.sla.bounds), default=1.0)
    return _too_many(((0.0, seen.sent_packets + seen.dropped_packets, seen.dropped_packets),), may)


def _may_spoil(cls: ClassSetup, tuning: Tuning) -> float:
    """The share of its packets that a class may drop without having to be given more."""
    late = (tuning.restore_spoilt * (1 - target.percentile) for target in cls.sla.bounds)
    return min((*late, *(() if cls.sla.loss is None else (cls.sla.loss,))), default=1.0)


def _too_many(counted: Sequence[Counted], may: float) -> bool:
    dropped = sum(lost for _, _, lost in counted)
    return dropped > max(1.0, may * sum(packets for _, packets, _ in counted))


def _second(memory: Memory, seen: ClassObservation, *, now: float) -> tuple[Counted, ...]:
    """The ticks of the last second, over which an agreement is judged: TCP that has to slow down loses packets at once,
    and then none."""
    this = now, seen.sent_packets + seen.dropped_packets, seen.dropped_packets
    return *(tick for tick in memory.second if now - tick[0] < 1), this


def _integral(
    setup: Setup,
    cls: ClassSetup,
    memory: Memory,
    seen: ClassObservation,
    error: float,
    *,
    now: float,
    elastic: bool,
    thin: bool,
    tuning: Tuning,
) -> float:
    """The exponent after this tick. It grows only where more rate would help and the last of it was granted."""
    used = min(1.0, seen.offered / max(memory.grant.rate, 8))
    # An inelastic queue gets steeper as it fills, one full of TCP does not: there delay is queue / rate.
    gain = 1.0 if elastic else max(0.05, 1 - used)
    if error < 0:
        falling = 0.0 if thin else tuning.gain_down * error * gain * seen.seconds
        return max(0.0, memory.integral + falling)
    helps = used > 0.5 or seen.backlog_bytes > 0 or seen.dropped_packets > 0
    if elastic:
        # Its delay is the queue's matter until neither its limit nor its AQM's target can be shortened any more, or
        # would only drop more.
        shortest = setup.shortest_target(cls, max(memory.grant.rate, memory.throughput or 0.0), tuning)
        full = memory.grant.queue <= max(cls.bounds.queue[0], seen.backlog_bytes)
        helps = full and (lossy(cls, seen) or memory.grant.target * (1 - tuning.queue_band) <= shortest)
    # What was asked for already must be granted, and the samples must be younger than it.
    window = seen.delay.window if seen.delay is not None else 0.0
    settled = memory.raised_at is None or now - memory.raised_at >= window
    pending = memory.throttled or memory.peaks[0].rate > memory.grant.rate * (1 + tuning.apply_up) + tuning.apply_bits
    if pending or not helps or not settled:
        return memory.integral
    return min(tuning.integral_max, memory.integral + tuning.gain_up * error * gain * seen.seconds)
