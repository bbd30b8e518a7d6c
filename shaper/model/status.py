"""What an interface looks like at one moment: the one object behind `status`, `/metrics` and the socket."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shaper.model.decision import Bounds, Change, Grant, Shortfall
from shaper.model.freeze import Freeze
from shaper.model.link_rate import LinkStatus
from shaper.model.observation import CaptureHealth, DelayView
from shaper.model.policy import Direction, Tier, place_text
from shaper.model.probe import ProbeKind
from shaper.model.shortage import Shortage
from shaper.model.sla import SlaResult
from shaper.model.tcp import TcpView
from shaper.stats import Availability, peak_to_mean


@dataclass(frozen=True, slots=True)
class Histogram:
    """Delays since the start: `counts[i]` of them were at most `bounds[i]` seconds (cumulative); `count` in all."""

    bounds: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    count: int = 0
    sum: float = 0.0


@dataclass(frozen=True, slots=True)
class Policed:
    """Packets by the colour that they were given, since the policers were made; with one rate none is yellow."""

    green: int
    yellow: int
    red: int


@dataclass(frozen=True, slots=True)
class Borrowing:
    """Packets by whose rate they were sent: the class's `own`, or one `borrowed` from above. Super-packets are one."""

    own: int
    borrowed: int

    @property
    def ratio(self) -> float | None:
        """Those that were sent by a borrowed rate, of all; None without any."""
        return self.borrowed / (self.own + self.borrowed) if self.own + self.borrowed else None


@dataclass(frozen=True, slots=True)
class Burst:
    """How unevenly came what is not TCP, over the SLA window: by the length of a window (s) the most bytes in any such
    window, and the mean rate in bit/s."""

    envelope: Mapping[float, int]
    mean: float

    @property
    def peaks(self) -> Mapping[float, float]:
        """By the length of a window (s): the most that came in one, over what the mean rate brings in that time."""
        return peak_to_mean(self.envelope, self.mean)


@dataclass(frozen=True, slots=True)
class ProbeStatus:
    """A probe of one class. Counts are since the start, `loss` and the views over the last seconds.

    `idle` while nothing but the probe passes the class, `judges` while its SLA is judged by the probe then; `resting`
    while it does not send.
    `round_trip` is of the whole way, `waited` of the queue of this hop, by the kernel's stamps; `dropped` packets
    entered that queue and never left it. `available` and `unavailable` are whole seconds. `says` is why it fails, ""
    while it does not.
    """

    kind: ProbeKind
    to: str
    port: int
    dscp: int
    resting: bool = False
    idle: bool = False
    judges: bool = False
    sent: int = 0
    lost: int = 0
    duplicates: int = 0
    reordered: int = 0
    dropped: int = 0
    loss: float | None = None
    round_trip: DelayView | None = None
    waited: DelayView | None = None
    round_trips: Histogram = field(default_factory=Histogram)
    waits: Histogram = field(default_factory=Histogram)
    available: int = 0
    unavailable: int = 0
    says: str = ""


@dataclass(frozen=True, slots=True)
class ClassStatus:
    """One leaf class. Rates in bit/s, sizes in bytes, delays in seconds; totals are since the start of `run`.

    `delay` and `measured_lost` are None without a capture. `loss` is the ratio over the SLA window, from the kernel's
    leaf counters, None when nothing was offered. `marked_packets` got an ECN mark where they would have been dropped.
    `policed` is None where nothing polices, `probe` where the class has none, `tcp` where nobody looks at it,
    `borrowing` where the backend has none. In `waiting_seconds` the class wanted more than it got, and sent
    `waiting_bytes`. `availability` counts seconds since the start by what the kernel sent and dropped, None without a
    `run`. `burst` is None where not every arrival was seen, or nothing but TCP came.
    """

    path: str
    tier: Tier
    granted: Grant
    bounds: Bounds
    guarantee: int
    sent_bytes: int = 0
    sent_packets: int = 0
    dropped_packets: int = 0
    marked_packets: int = 0
    backlog_bytes: int = 0
    waiting_seconds: float = 0.0
    waiting_bytes: int = 0
    throughput: float = 0.0
    offered: float = 0.0
    loss: float | None = None
    delay: DelayView | None = None
    histogram: Histogram = field(default_factory=Histogram)
    measured_lost: int | None = None
    policed: Policed | None = None
    borrowing: Borrowing | None = None
    availability: Availability | None = None
    burst: Burst | None = None
    in_flight: int = 0
    sla: SlaResult | None = None
    probe: ProbeStatus | None = None
    tcp: TcpView | None = None

    @property
    def occupancy(self) -> float | None:
        """How full its queue is, a ratio; None without a limit."""
        return self.backlog_bytes / self.granted.queue if self.granted.queue > 0 else None

    @property
    def mos(self) -> float | None:
        """How a call through it sounds, where its SLA has that as a target."""
        return next((one.measured for one in self.sla.targets if one.target == "mos"), None) if self.sla else None


@dataclass(frozen=True, slots=True)
class Moved:
    """The last change of one class by the controller, `ago` seconds back."""

    ago: float
    change: Change


@dataclass(frozen=True, slots=True)
class ControllerStatus:
    """`mode` is "controlled", "structured" (controller off) or "static"; `held` why it did not act, "" when free.

    `moved` has the last change of each class that was ever moved, the latest first. `shortfalls` are of the last tick
    and `given_up` says what is for the others, in this order; `shortages` stand for a while, `shortages_begun` counts
    them since the start.
    """

    mode: str
    ticks: int = 0
    changes: int = 0
    held: str = ""
    shortfalls: tuple[Shortfall, ...] = ()
    tick_seconds: float = 0.0
    moved: tuple[Moved, ...] = ()
    shortages: tuple[Shortage, ...] = ()
    shortages_begun: int = 0
    given_up: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PendingConfirmation:
    """A change that is rolled back in `left` seconds unless it is confirmed by `id`.

    `judged` is in how many seconds a running shaper judges it by what it measured, None where only a person confirms.
    `guarded` is whether the watchdog that rolls it back is alive; `trouble` why that did not work so far.
    """

    id: str
    change: int
    left: float
    judged: float | None = None
    guarded: bool = True
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class ScheduleStatus:
    """What holds of a policy's schedule, in words, and the next change: Unix time in s, and by the policy's clock.

    `next_at` is None where nothing will change.
    """

    holds: str
    next_at: float | None = None
    next_local: str = ""
    next_holds: str = ""


@dataclass(frozen=True, slots=True)
class InterfaceStatus:
    """One interface, from a running `run` (`running`) or read once from the kernel.

    `drift` says what somebody else changed of ours, `mends` how often the run has put such things back. `frozen` is
    who holds the controller still, `link` what is known of a link that moves, None of one that stands.
    """

    interface: str
    device: str
    bandwidth: int
    policy: str
    source: str
    running: bool
    seconds: float
    classes: tuple[ClassStatus, ...]
    controller: ControllerStatus
    capture: CaptureHealth
    utilisation: float | None = None
    unshaped_packets: int = 0
    alarms: tuple[str, ...] = ()
    confirmation: PendingConfirmation | None = None
    drift: tuple[str, ...] = ()
    mends: int = 0
    direction: Direction = Direction.EGRESS
    schedule: ScheduleStatus | None = None
    frozen: Freeze | None = None
    link: LinkStatus | None = None

    @property
    def place(self) -> str:
        """For people: the device, and the direction where it is not the usual one."""
        return place_text(self.device, self.direction)


@dataclass(frozen=True, slots=True)
class ClassTotals:
    """A leaf class over a whole run, by both accounts: the kernel's counters and the captured packets.

    `quantiles` maps a percentile in 0..1 to seconds over all `samples` matched packets. `arrivals` and `lost` are
    captured packets, None without a capture; `in_flight` were still queued at the end and count as neither.
    """

    path: str
    samples: int
    quantiles: Mapping[float, float]
    sent_bytes: int
    sent_packets: int
    kernel_drops: int
    arrivals: int | None
    lost: int | None
    in_flight: int


@dataclass(frozen=True, slots=True)
class RunTotals:
    """An interface over a whole run. `utilisation` is bits sent over bandwidth while something waited."""

    interface: str
    device: str
    mode: str
    seconds: float
    classes: tuple[ClassTotals, ...]
    utilisation: float | None
    changes: int
    direction: Direction = Direction.EGRESS

    @property
    def place(self) -> str:
        """As InterfaceStatus has it."""
        return place_text(self.device, self.direction)
