"""From what the kernel dumps to a tree in canonical form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from collectors.qdisc import ClassReading, FilterReading, QdiscReading
from shaper.kernel.codec import bpf, decode_class, decode_qdisc, flower, stab, u32
from shaper.tree import (
    BpfFilter,
    Class,
    Filter,
    FlowerFilter,
    HtbOptions,
    LoadedFilter,
    Options,
    OtherFilter,
    Qdisc,
    U32Filter,
    U32Table,
    u32_place,
)

GONE = "?"
"""Where a filter sends to whose device has been removed; no device can have this name."""


def alias_of(device: str, *, incoming: bool = False) -> str:
    """The alias that marks an ifb as ours: for the measurement of one device, or for what comes in by it."""
    return f"sla-shaper {device} ingress" if incoming else f"sla-shaper {device}"


def qdiscs(readings: Iterable[QdiscReading], *, queue: int, on: str = "") -> list[Qdisc]:
    """All but the kernel's own defaults (handle 0:); `queue` is the device's transmit queue length in packets.

    `on` names the device where it is not the tree's own.
    """
    return [
        Qdisc(reading.handle, reading.parent, reading.kind, _options(reading, queue), stab.decode(reading.stab), on)
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


def filters(readings: Iterable[FilterReading], names: Mapping[int, str], *, on: str = "") -> list[Filter]:
    """The filters of one hook; `names` are the devices by index, `on` is the device where it is not the tree's own.

    The kernel lists a head for each preference, with handle 0. Some kinds have nothing but it: then it stands for them.
    What of u32 stands at the preference of its ethertype is read as ours would be, head and all.
    """
    listed = list(readings)
    peopled = {reading.preference for reading in listed if reading.handle}
    others = [
        _filter(reading, names, on)
        for reading in listed
        if not _is_u32(reading)
        and (reading.handle or (reading.preference not in peopled and reading.kind not in ("bpf", "flower")))
    ]
    yours = (reading for reading in listed if _is_u32(reading) and not u32.is_first_table(reading.handle))
    return others + [_u32(reading, on) for reading in yours]


def _is_u32(reading: FilterReading) -> bool:
    return reading.kind == "u32" and reading.preference == u32_place(reading.protocol)


def _u32(reading: FilterReading, on: str) -> Filter:
    place = reading.parent, reading.preference, u32.handle_read(reading.handle), reading.protocol
    if not reading.handle or u32.is_table(reading.options):
        return U32Table(*place, on)
    options = u32.decode(reading.options)
    if options is None:
        return OtherFilter(reading.parent, reading.preference, reading.handle, reading.protocol, reading.kind, on)
    return U32Filter(*place, *options, on)


def _filter(reading: FilterReading, names: Mapping[int, str], on: str) -> Filter:
    found: Filter | None = None
    if reading.kind == "flower":
        found = _flower(reading, on)
    elif reading.kind == "bpf":
        found = _bpf(reading, names, on) or _loaded(reading, on)
    return found or OtherFilter(reading.parent, reading.preference, reading.handle, reading.protocol, reading.kind, on)


def _flower(reading: FilterReading, on: str) -> FlowerFilter | None:
    options = flower.decode(reading.options)
    if options is None:
        return None
    place = reading.parent, reading.preference, reading.handle, reading.protocol
    return FlowerFilter(*place, options.keys, options.classid, options.actions, on)


def _loaded(reading: FilterReading, on: str) -> LoadedFilter | None:
    options = bpf.decode_loaded(reading.options)
    if options is None:
        return None
    return LoadedFilter(
        reading.parent,
        reading.preference,
        reading.handle,
        options.name,
        reading.protocol,
        options.direct,
        options.classid,
        on,
        options.actions,
    )


def _bpf(reading: FilterReading, names: Mapping[int, str], on: str) -> BpfFilter | None:
    options = bpf.decode(reading.options)
    if options is None:
        return None
    sent = options.sent
    target = "" if sent is None else names.get(sent.device, GONE)
    away = sent is not None and sent.away
    return BpfFilter(
        parent=reading.parent,
        preference=reading.preference,
        handle=reading.handle,
        program=options.program,
        protocol=reading.protocol,
        classid=options.classid,
        mirror="" if away else target,
        redirect=target if away else "",
        actions=options.actions,
        device=on,
        restore=options.restore,
    )
