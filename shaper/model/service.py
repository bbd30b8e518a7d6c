"""Service classes by name: what RFC 4594 and its successors give to each kind of traffic.

DSCPs: RFC 4594, figure 3; VOICE-ADMIT from RFC 5865, LE from RFC 8622, which obsoletes RFC 3662 and puts LE in place of
figure 3's CS1: both names are kept, each with its own DSCP, since networks still mark either.
Telephony alone is served ahead of all (EF, RFC 3246); lower effort borrows last (RFC 8622).

Loss and delay variation: ITU-T Y.1541 (12/2011), table 1. It is from end to end: no one hop may take more, and none is
given its mean delay (100 ms in classes 0 and 2, 400 ms in 1 and 3, 1 s in 4), most of which is distance. IPLR is 1 in
1000 in classes 0 to 4. IPDV is 50 ms in classes 0 and 1, of the 1 - 10^-3 quantile of the delay less the least; the
others have none. By the guidance of table 2 calls and conferences are of class 0, signalling of 2, transactions of 3,
streams of 4. Bulk data, also of class 4, has no target: TCP that fills a link loses more than that by design.
"""

from __future__ import annotations

from dataclasses import dataclass

from shaper.model.policy import Tier
from shaper.model.sla import DelayTarget

LAST = 7
"""The priority of lower effort."""

_Y1541_LOSS = 0.001
_Y1541_VARIATION = DelayTarget(0.999, 0.05)


@dataclass(frozen=True, slots=True)
class ServiceClass:
    """What stands for the keys that a class does not say itself; `managed` by an AQM (RFC 4594, figure 4)."""

    source: str
    dscp: tuple[int, ...]
    tier: Tier
    priority: int | None = None
    delays: tuple[DelayTarget, ...] = ()
    loss: float | None = None
    managed: bool = True


def _af(cls: int) -> tuple[int, ...]:
    return tuple(cls << 3 | drop << 1 for drop in (1, 2, 3))


def _voice(source: str, dscp: int) -> ServiceClass:
    return ServiceClass(source, (dscp,), Tier.SPECIAL, None, (_Y1541_VARIATION,), _Y1541_LOSS, False)


SERVICE_CLASSES: dict[str, ServiceClass] = {
    "network-control": ServiceClass("RFC 4594, section 3.2", (48,), Tier.PRIORITY),
    "telephony": _voice("RFC 4594, section 4.1", 46),
    "voice-admit": _voice("RFC 5865", 44),
    "signaling": ServiceClass("RFC 4594, section 4.2", (40,), Tier.PRIORITY, loss=_Y1541_LOSS, managed=False),
    "multimedia-conferencing": ServiceClass(
        "RFC 4594, section 4.3", _af(4), Tier.PRIORITY, delays=(_Y1541_VARIATION,), loss=_Y1541_LOSS
    ),
    "real-time-interactive": ServiceClass(
        "RFC 4594, section 4.4", (32,), Tier.PRIORITY, delays=(_Y1541_VARIATION,), loss=_Y1541_LOSS, managed=False
    ),
    "multimedia-streaming": ServiceClass("RFC 4594, section 4.5", _af(3), Tier.PRIORITY, loss=_Y1541_LOSS),
    "broadcast-video": ServiceClass("RFC 4594, section 4.6", (24,), Tier.PRIORITY, loss=_Y1541_LOSS, managed=False),
    "low-latency-data": ServiceClass("RFC 4594, section 4.7", _af(2), Tier.STANDARD, loss=_Y1541_LOSS),
    "oam": ServiceClass("RFC 4594, section 3.3", (16,), Tier.STANDARD),
    "high-throughput-data": ServiceClass("RFC 4594, section 4.8", _af(1), Tier.STANDARD),
    "standard": ServiceClass("RFC 4594, section 4.9", (0,), Tier.STANDARD),
    "low-priority-data": ServiceClass("RFC 4594, section 4.10", (8,), Tier.STANDARD, priority=LAST),
    "lower-effort": ServiceClass("RFC 8622", (1,), Tier.STANDARD, priority=LAST),
}
