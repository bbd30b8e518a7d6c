"""Values of the model as JSON and back: one form for the journal, the socket and `--json`.

A dataclass is an object whose keys carry their unit (`rate_bit_s`, `backlog_bytes`, `largest_s`). JSON has no
infinity: a number that is not finite is null, and null reads back as the field's default, else as infinity. Reading
ignores keys it does not know and fills missing ones with their defaults, so that a store or a peer of another version
stays readable where that is possible.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar

from shaper.control import link
from shaper.model import decision, freeze, link_rate, measurement, observation, shortage, status, tcp
from shaper.stats import Availability

Json = None | bool | int | float | str | list[Any] | dict[str, Any]
T = TypeVar("T")

_KEYS: Mapping[type, Mapping[str, str]] = {
    decision.Grant: {"rate": "rate_bit_s", "ceil": "ceil_bit_s", "queue": "queue_bytes", "target": "target_us"},
    decision.Bounds: {"rate": "rate_bit_s", "ceil": "ceil_bit_s", "queue": "queue_bytes", "target": "target_us"},
    decision.Change: {"wanted": "wanted_bit_s"},
    decision.Shortfall: {"need": "need_bit_s", "granted": "granted_bit_s", "capacity": "capacity_bit_s"},
    decision.Want: {"need": "need_bit_s", "drain": "drain_bit_s", "given": "given_bit_s"},
    decision.Decision: {"needs": "needs_bit_s"},
    link_rate.LinkMove: {
        **{name: f"{name}_bit_s" for name in ("before", "after", "achieved", "capacity")},
        "delay": "delay_s",
    },
    link_rate.LinkStatus: {
        **{name: f"{name}_bit_s" for name in ("rate", "least", "base", "most", "capacity")},
        "delay": "delay_s",
    },
    link_rate.LinkSample: {"at": "at_s", "delay": "delay_s", "way": "way_s"},
    link_rate.LinkSeen: {"seconds": "tick_s", "beside": "beside_ratio"},
    link.Setup: {
        **{name: f"{name}_bit_s" for name in ("least", "base", "most")},
        "bloat": "bloat_s",
        "packet": "packet_bytes",
    },
    link.Heard: {"round_trip": "round_trip_s", "way": "way_s", "at": "at_s"},
    link.Excess: {name: f"{name}_s" for name in ("at", "came", "delay")},
    link.State: {
        **{name: f"{name}_bit_s" for name in ("rate", "applied", "capacity")},
        **{name: f"{name}_s" for name in ("cut_at", "answered_at", "still_since", "ignored_before")},
        "sent": "sent_bits",
        "vain": "vain_s",
    },
    observation.DelayView: {
        "window": "window_s",
        "quantiles": "quantiles_s",
        "late": "late_ratio",
        "largest": "largest_s",
        "least": "least_s",
        "coverage": "coverage_ratio",
        "low": "low_s",
        "high": "high_s",
        "ipdv": "ipdv_s",
    },
    observation.ClassObservation: {
        "seconds": "tick_s",
        "offered": "offered_bit_s",
        "inelastic": "inelastic_bit_s",
        "envelope": "envelope_bytes",
    },
    observation.Observation: {"seconds": "tick_s"},
    measurement.Loss: {"lost": "lost_packets", "offered": "offered_packets", "low": "low_ratio", "high": "high_ratio"},
    measurement.Call: {"playout": "playout_s", "lost": "lost_ratio"},
    measurement.Flow: {"error": "error_bytes"},
    measurement.ClassMeasure: {
        "throughput": "throughput_bit_s",
        "offered": "offered_bit_s",
        "mean": "mean_s",
        "ipdv": "ipdv_s",
        "peaks": "peak_to_mean",
        "occupancy": "occupancy_ratio",
        "in_flight": "in_flight_packets",
    },
    measurement.Measurement: {"seconds": "window_s"},
    tcp.TcpFlow: {"rtt": "rtt_s", "least": "least_s"},
    tcp.TcpView: {"rtt": "rtt_s", "least": "least_s"},
    Availability: {name: f"{name}_s" for name in ("available", "unavailable", "unknown")},
    status.Histogram: {"bounds": "bounds_s", "sum": "sum_s"},
    status.ClassStatus: {
        "guarantee": "guarantee_bit_s",
        "throughput": "throughput_bit_s",
        "offered": "offered_bit_s",
        "loss": "loss_ratio",
        "waiting_seconds": "waiting_s",
        "in_flight": "in_flight_packets",
        "measured_lost": "measured_lost_packets",
    },
    status.ProbeStatus: {
        "loss": "loss_ratio",
        **{count: f"{count}_packets" for count in ("sent", "lost", "dropped")},
        "available": "available_s",
        "unavailable": "unavailable_s",
    },
    status.Burst: {"envelope": "envelope_bytes", "mean": "mean_bit_s"},
    status.Borrowing: {"own": "own_packets", "borrowed": "borrowed_packets"},
    status.Policed: {colour: f"{colour}_packets" for colour in ("green", "yellow", "red")},
    status.PendingConfirmation: {"left": "left_s", "judged": "judged_s"},
    shortage.Shortage: {
        "began": "began_unix_s",
        "ended": "ended_unix_s",
        "need": "need_bit_s",
        "granted": "granted_bit_s",
        "capacity": "capacity_bit_s",
    },
    freeze.Freeze: {"at": "at_unix_s", "until": "until_unix_s"},
    status.Moved: {"ago": "ago_s"},
    status.ControllerStatus: {"tick_seconds": "tick_s"},
    status.ScheduleStatus: {"next_at": "next_at_unix_s"},
    status.InterfaceStatus: {
        "bandwidth": "bandwidth_bit_s",
        "seconds": "elapsed_s",
        "utilisation": "utilisation_ratio",
    },
}


@cache
def _fields(kind: Any) -> tuple[tuple[str, str], ...]:
    """Pairs of a dataclass's field and its key in JSON."""
    keys = _KEYS.get(kind, {})
    return tuple((field.name, keys.get(field.name, field.name)) for field in dataclasses.fields(kind) if field.init)


def encode(value: object) -> Any:
    """A value of the model as plain JSON values. Raises TypeError for what the model does not hold."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        return value.name.lower() if isinstance(value, enum.IntEnum) else value.value
    if isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in value]
    if dataclasses.is_dataclass(value):
        return {key: encode(getattr(value, name)) for name, key in _fields(value.__class__)}
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def decode(kind: type[T], data: Any) -> T:
    """The value of that kind which `encode` turned into `data`. Raises ValueError when it is not one."""
    try:
        return typing.cast("T", _decoder(typing.cast("Any", kind))(data))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"this is no {kind.__name__}: {error!r}") from error


@cache
def _decoder(kind: Any) -> Callable[[Any], Any]:
    if kind is float:
        return _number
    if kind in (int, str, bool):
        return _exactly(kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        inner = _decoder(next(each for each in arguments if each is not types.NoneType))
        return lambda data: None if data is None else inner(data)
    if origin is tuple:
        item = _decoder(arguments[0])
        length = None if arguments[-1] is Ellipsis else len(arguments)
        return lambda data: _items(item, length, data)
    if origin is not None and issubclass(origin, Mapping):
        key = arguments[0]
        item = _decoder(arguments[1])
        return lambda data: {key(name): item(value) for name, value in data.items()}
    if isinstance(kind, type) and issubclass(kind, enum.IntEnum):
        return lambda data: kind[data.upper()]
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind
    return _object(kind)


def _number(data: Any) -> float:
    if data is None:
        return math.inf
    if isinstance(data, bool) or not isinstance(data, (int, float)):
        raise TypeError(f"{data!r} is not a number")
    return float(data)


def _exactly(kind: type) -> Callable[[Any], Any]:
    def check(data: Any) -> Any:
        if type(data) is not kind:
            raise TypeError(f"{data!r} is not of type {kind.__name__}")
        return data

    return check


def _items(item: Callable[[Any], Any], length: int | None, data: Any) -> tuple[Any, ...]:
    if not isinstance(data, list) or (length is not None and len(data) != length):
        raise TypeError(f"{data!r} is not a list of the right length")
    return tuple(item(each) for each in data)


def _object(kind: type) -> Callable[[Any], Any]:
    hints = typing.get_type_hints(kind)
    decoders = {name: _decoder(hints[name]) for name, _ in _fields(kind)}
    defaulted = {
        field.name
        for field in dataclasses.fields(kind)
        if field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
    }

    def build(data: Any) -> Any:
        values = {
            name: decoders[name](data[key])
            for name, key in _fields(kind)
            if name not in defaulted or data.get(key) is not None
        }
        return kind(**values)

    return build
