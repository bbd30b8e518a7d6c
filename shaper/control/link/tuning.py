"""Every constant of the link's law. All are per second or in seconds, so that tick and probes may vary."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tuning:
    """Defaults were chosen on the model of a link in the tests.

    Baseline: a lower delay counts at once by `fall`, a higher one only while nothing is loaded, within `rise` seconds.
    `loaded` and `idle` are shares of the rate; between them a direction answers for a delay only where no other does.

    Vote: `votes` of the last `jury` samples that came within `fresh` seconds, late at most of the reflectors.

    Cut: at most once in `rest` seconds, to `aim` of what is seen to come through, less what drains the queue in `drain`
    seconds, and to no less than `deepest` of it. Where that cannot be seen (fewer than `least_samples`, over less than
    `least_span` seconds) between `mildest` and `hardest` of the rate, by how late it is. What is seen is of the last
    `reach` seconds.

    A queue below half of what is allowed counts as none, and the rate goes to `aim` of what came through.

    Grow: within `near` of what came through last by `slow` a second, else ever faster, doubling within `double`
    seconds, up to `fast`; in one tick by `stride` at most. Less, the more of a queue there is, and within `wary` of
    what came through last by the square of that: there it is most likely the end of the link. `back` of the base rate
    a second while there is no load. Moves below `band` are not made.

    Trust: without an answer for `stalled` seconds and without traffic (`still` of the rate) nothing is judged; without
    one for `lost` seconds the rate goes back to the base. A delay that stays above `answers` of what it was for
    `resigned` seconds at the least rate is the way's own. A reflector is given up that answers less than half of
    `trial` probes, or is late alone in most of them; `pingers` are asked at once.
    """

    fall: float = 0.9
    rise: float = 30.0
    loaded: float = 0.75
    idle: float = 0.25

    votes: int = 3
    jury: int = 6
    fresh: float = 2.0

    rest: float = 0.3
    aim: float = 0.98
    drain: float = 1.0
    deepest: float = 0.5
    mildest: float = 0.99
    hardest: float = 0.75
    least_samples: int = 4
    least_span: float = 0.12
    reach: float = 0.6

    near: float = 1.03
    wary: float = 1.1
    slow: float = 0.06
    double: float = 0.25
    fast: float = 0.5
    stride: float = 0.15
    back: float = 0.01
    band: float = 0.01

    stalled: float = 1.0
    still: float = 0.05
    lost: float = 6.0
    resigned: float = 5.0
    answers: float = 0.9
    trial: int = 20
    pingers: int = 4
