"""How a call would sound: the E-model of ITU-T G.107, from one-way delay and loss.

Its transmission rating R starts at 93.2, with every parameter at G.107's default. What delay takes from it is the fit
of Cole and Rosenbluth (Voice over IP performance monitoring, 2001) to G.107's delay impairments; what a codec and lost
packets take is G.107's Ie,eff with G.113's values.

The assumption: the receiver has a jitter buffer that plays each packet a fixed time after it was sent, and has chosen
that time as well as can be; packets that come later are lost to it, as those are that never come. Losses come singly
(BurstR = 1): a queue that drops in bursts sounds worse than this says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

DEFAULT = 93.2
PLAYOUTS = (0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.4)
"""The waits in the queue (s) that a jitter buffer may be set to make up for."""

_KNEE = 177.3  # ms


@dataclass(frozen=True, slots=True)
class Codec:
    """`impairment` is Ie, `robustness` Bpl (ITU-T G.113, appendix I); `delay` in s: one packet, look-ahead, coding."""

    impairment: float
    robustness: float
    delay: float


CODECS: Mapping[str, Codec] = {
    "g711": Codec(0.0, 4.3, 0.020),
    "g711-plc": Codec(0.0, 25.1, 0.020),
    "g729a": Codec(11.0, 19.0, 0.035),
    "g723.1": Codec(15.0, 16.1, 0.0675),
    "gsm-efr": Codec(5.0, 10.0, 0.040),
}
"""20 ms a packet (G.723.1: 30 ms); G.729A and G.723.1 with voice activity detection, G.723.1 at 6.3 kbit/s."""


@dataclass(frozen=True, slots=True)
class Voice:
    """`playout` is the queueing delay (s) that the jitter buffer makes up for, `lost` what it never plays (a ratio)."""

    mos: float
    rating: float
    playout: float
    lost: float


def rating(delay: float, lost: float, codec: Codec) -> float:
    """R for a one-way delay mouth to ear in s and a ratio of lost packets."""
    milliseconds, percent = delay * 1e3, lost * 100
    waiting = 0.024 * milliseconds + 0.11 * max(0.0, milliseconds - _KNEE)
    coding = codec.impairment + (95 - codec.impairment) * percent / (percent + codec.robustness)
    return DEFAULT - waiting - coding


def mos_of(rating: float) -> float:
    """The mean opinion score, 1 to 4.5 (G.107, annex B)."""
    if rating <= 0:
        return 1.0
    if rating >= 100:
        return 4.5
    return max(1.0, 1 + 0.035 * rating + 7e-6 * rating * (rating - 60) * (100 - rating))


@cache
def longest_wait(least: float, lost: float, codec: Codec, *, path: float = 0.0) -> float | None:
    """The longest of the jitter buffer's waits (s) at which such a loss still scores `least`; None where none does."""
    scores = {wait: mos_of(rating(path + codec.delay + wait, lost, codec)) for wait in PLAYOUTS}
    return max((wait for wait, score in scores.items() if score >= least), default=None)


def voice(late: Mapping[float, float], lost: float, codec: Codec, *, path: float = 0.0) -> Voice | None:
    """The call as it is heard at best, None without a playout time.

    `late` maps queueing delays (s) to the share of the packets that came that waited longer, `lost` is the share that
    never came, `path` (s) the rest of the way from mouth to ear, beside the codec and this queue.
    """
    heard = [
        Voice(mos_of(r), r, playout, gone)
        for playout, share in sorted(late.items())
        for gone in (lost + (1 - lost) * share,)
        for r in (rating(path + codec.delay + playout, gone, codec),)
    ]
    return max(heard, key=lambda one: one.rating, default=None)
