"""Every constant of the control law, in one place. All are per second or in seconds, so that the tick may vary."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tuning:
    """Defaults were chosen on the fluid model of the tests; what each does and what a larger value costs:

    Need: `headroom` over the offered rate (a constant-rate class has no envelope to size it by); `window` seconds over
    which the largest need counts (and the hold before any decrease); `drain` seconds in which a backlog of inelastic
    traffic beyond its delay target is to be gone; `blind_growth` the largest factor a second, `blind_tick` a tick, by
    which a class may grow whose traffic could be TCP, since no capture tells: there the need follows the grant.
    The share of a class that is not TCP is smoothed over `share_seconds`, since counters and capture are not read at
    the same instant; below `inelastic_above` there is TCP in it. Throughput is smoothed over `throughput_seconds`. TCP
    is taken for greedy for `greedy_seconds` after it came, and for a window after it filled its queue by more than
    `greedy_fill`, on average over `fill_seconds` (one tick counts for `fill_tick` of that at most), or took more than
    `greedy_share` of what it could have; where it was not taken for that before, for `greedy_again` seconds, twice as
    long the next time, and `greedy_longest` at most. `loss_delay` is the delay that stands in for a class with a loss
    target and none for delay.

    What is asked of the link now, by which it is said what cannot hold, is evened out over `asked_seconds`; a change of
    more than `asked_step` of it counts at once. Less than `asked_share` of it is not called lacking: it cannot be told.

    Integral: wanted delay as a share of the target (`setpoint`), no reaction within `dead_band` (in logarithms), gains
    a second `gain_up` and `gain_down`, at most `integral_max` (exp(0.7) is a doubling).

    Apply: a rise of more than `apply_up`, a fall of more than `apply_down` of the rate (falls come in fewer, larger
    steps), both of more than `apply_bits` and `apply_link` of the bandwidth. Who rises again within the window rises
    `spare` further; a rate is kept while the need is within `slack` of it, and for a window below. Larger ones move the
    rates less often, and hold more of the link than is needed.

    Yielding classes: harmed (more than `restore_short` of the guarantee short) for `restore_wait` seconds, raised by
    `restore_step` of it, and so on; let down where they had `restore_surplus` times the guarantee for a window. Where
    that would be taken from a class that drops nothing: by `restore_first` of it, and every `restore_trial` seconds by
    twice as much. Such a rise is taken back if a class above drops `restore_spoilt` of what may be late in a second, no
    more than `restore_trial` seconds later. The next is the first again, and waits for `restore_again` seconds; after
    another in a row `restore_slower` times as long, `restore_longest` seconds at most.

    Queue: share of the delay target that an elastic class may fill (`elastic_share`), one that may lose no packets and
    has the rate that it needs (`lossless_share`); changes only beyond `queue_band`, or beyond `reach_band` where the
    queue follows what the others leave.

    AQM: its target falls by the delay's excess, to no less than `aqm_cut` of itself, and not again within `aqm_settle`
    seconds, in which an AQM finds its drops; it rises after a window by at most a factor of exp(`aqm_raise`). At least
    `aqm_frames` frames fit into it at the rate of the class, and it is at least `aqm_least` seconds.

    Rails: `samples` packets before a percentile is believed; `stale` seconds without fresh counters before the
    static allocation returns; `changes_per_minute` of the whole interface, beyond which only a class that misses its
    SLA is raised.
    """

    headroom: float = 1.1
    window: float = 15.0
    drain: float = 0.25
    blind_growth: float = 4.0
    blind_tick: float = 2.0
    share_seconds: float = 1.0
    inelastic_above: float = 0.9
    throughput_seconds: float = 2.0
    fill_seconds: float = 2.0
    fill_tick: float = 0.2
    greedy_fill: float = 0.3
    greedy_share: float = 0.9
    greedy_seconds: float = 5.0
    greedy_again: float = 60.0
    greedy_longest: float = 600.0
    loss_delay: float = 0.1
    asked_seconds: float = 2.0
    asked_step: float = 0.25
    asked_share: float = 0.05

    setpoint: float = 0.75
    dead_band: float = 0.1
    gain_up: float = 0.25
    gain_down: float = 0.05
    integral_max: float = 0.7

    apply_up: float = 0.02
    apply_down: float = 0.1
    apply_bits: int = 8_000
    apply_link: float = 0.001
    spare: float = 0.1
    slack: float = 0.2

    restore_wait: float = 3.0
    restore_first: float = 1 / 32
    restore_step: float = 0.25
    restore_trial: float = 1.5
    restore_spoilt: float = 0.5
    restore_again: float = 20.0
    restore_slower: float = 4.0
    restore_longest: float = 300.0
    restore_short: float = 0.02
    restore_surplus: float = 1.2

    elastic_share: float = 0.75
    lossless_share: float = 1.25
    queue_band: float = 0.1
    reach_band: float = 0.25

    aqm_cut: float = 0.5
    aqm_settle: float = 1.0
    aqm_raise: float = 0.5
    aqm_frames: float = 1.5
    aqm_least: float = 0.001

    samples: int = 100
    stale: float = 10.0
    changes_per_minute: int = 60
