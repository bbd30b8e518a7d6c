"""What the probes of classes found, as rows of their own: never among what the classes' packets showed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

from shaper.model.observation import DelayView
from shaper.model.status import ClassStatus, ProbeStatus


@dataclass(frozen=True, slots=True)
class ProbeRow:
    """The probe of one class in one second. Delays in seconds over its window; counts since the start of `run`.

    Delays and their counts are None where nothing was measured; `judges` where the class's SLA was judged by it.
    """

    device: str
    second: int
    path: str
    at: float
    kind: str
    target: str
    judges: bool
    sent: int
    lost: int
    dropped: int
    duplicates: int
    reordered: int
    round_trip_p50: float | None
    round_trip_p95: float | None
    round_trip_p99: float | None
    round_trip_count: int | None
    waited_p50: float | None
    waited_p95: float | None
    waited_p99: float | None
    waited_count: int | None


PROBE = f"INSERT OR REPLACE INTO probe VALUES ({', '.join('?' * len(fields(ProbeRow)))})"
_values = attrgetter(*(field.name for field in fields(ProbeRow)))


def probe_rows(at: float, device: str, classes: Sequence[ClassStatus]) -> tuple[tuple[Any, ...], ...]:
    """Of those classes that have a probe."""
    return tuple(_values(_row(at, device, one.path, one.probe)) for one in classes if one.probe is not None)


def _row(at: float, device: str, path: str, probe: ProbeStatus) -> ProbeRow:
    return ProbeRow(
        device,
        int(at),
        path,
        at,
        probe.kind.value,
        probe.to,
        probe.judges,
        probe.sent,
        probe.lost,
        probe.dropped,
        probe.duplicates,
        probe.reordered,
        *_delays(probe.round_trip),
        *_delays(probe.waited),
    )


def _delays(view: DelayView | None) -> tuple[float | None, float | None, float | None, int | None]:
    if view is None or not view.count:
        return None, None, None, None
    return view.quantiles.get(0.5), view.quantiles.get(0.95), view.quantiles.get(0.99), view.count


def to_probe(row: Sequence[Any]) -> ProbeRow:
    """A row of the table as a value."""
    values = dict(zip((field.name for field in fields(ProbeRow)), row, strict=True))
    return ProbeRow(**{**values, "judges": bool(values["judges"])})
