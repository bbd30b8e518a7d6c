"""From what the kernel dumps to a tree in canonical form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from collectors.qdisc import ClassReading, FilterReading, QdiscReading
from shaper.kernel.codec import bpf, decode_class, decode_qdisc, flower, stab
from shaper.tree import BpfFilter, Class, Filter, FlowerFilter, HtbOptions, Options, OtherFilter, Qdisc

GONE = "?"
"""The mirror of a filter whose device has been removed; no device can have this name."""


def alias_of(device: str) -> str:
    """The alias that marks an ifb as ours, for the measurement of one device."""
    return f"sla-shaper {device}"


def qdiscs(readings: Iterable[QdiscReading], *, queue: int) -> list[Qdisc]:
    """All but the kernel's own defaults (handle 0:); `queue` is the device's transmit queue length in packets."""
    return [
        Qdisc(reading.handle, reading.parent, reading.kind, _options(reading, queue), stab.decode(reading.stab))
        for reading in readings
        if reading.handle
    ]


def _options(reading: QdiscReading, queue: int) -> Options:
    options = decode_qdisc(reading.kind, reading.options)
    if isinstance(options, HtbOptions) and options.direct_queue == queue:
        return options._replace(direct_queue=0)  # what the kernel takes when it is told nothing
    return options


def classes(readings: Iterable[ClassReading]) -> list[Class]:
    """The classes of the kinds that we program."""
    found = (decode_class(reading.kind, reading.handle, reading.parent, reading.options) for reading in readings)
    return [cls for cls in found if cls is not None]


def filters(readings: Iterable[FilterReading], names: Mapping[int, str]) -> list[Filter]:
    """The filters of one hook; `names` are the devices by index.

    The kernel lists a head for each preference, with handle 0. Some kinds have nothing but it: then it stands for them.
    """
    listed = list(readings)
    peopled = {reading.preference for reading in listed if reading.handle}
    return [
        _filter(reading, names)
        for reading in listed
        if reading.handle or (reading.preference not in peopled and reading.kind not in ("bpf", "flower"))
    ]


def _filter(reading: FilterReading, names: Mapping[int, str]) -> Filter:
    found = _flower(reading) if reading.kind == "flower" else _bpf(reading, names) if reading.kind == "bpf" else None
    return found or OtherFilter(reading.parent, reading.preference, reading.handle, reading.protocol, reading.kind)


def _flower(reading: FilterReading) -> FlowerFilter | None:
    options = flower.decode(reading.options)
    if options is None:
        return None
    place = reading.parent, reading.preference, reading.handle, reading.protocol
    return FlowerFilter(*place, options.keys, options.classid)


def _bpf(reading: FilterReading, names: Mapping[int, str]) -> BpfFilter | None:
    options = bpf.decode(reading.options)
    if options is None:
        return None
    mirror = "" if options.mirror is None else names.get(options.mirror, GONE)
    return BpfFilter(
        parent=reading.parent,
        preference=reading.preference,
        handle=reading.handle,
        program=options.program,
        protocol=reading.protocol,
        classid=options.classid,
        mirror=mirror,
    )
