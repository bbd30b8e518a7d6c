"""The fields of the disciplines beside HTB in words: pairs of a name and a text, for plans and tables."""

from __future__ import annotations

from collections.abc import Iterator

from shaper.tree import AckFilter, CakeOptions, Cells, Curve, EtsOptions, HfscClass, HfscOptions, PrioOptions
from shaper.units import format_duration, format_rate, format_size

Words = Iterator[tuple[str, str]]


def hfsc_words(cls: HfscClass) -> Words:
    """The curves that the class has."""
    for name, curve in (("rt", cls.rt), ("ls", cls.ls), ("ul", cls.ul)):
        if curve is not None:
            yield name, curve_text(curve)


def curve_text(curve: Curve) -> str:
    """`2mbit for 10ms, then 1mbit`; one rate where the curve is straight."""
    if not curve.d or curve.m1 == curve.m2:
        return format_rate(curve.m2)
    return f"{format_rate(curve.m1)} for {format_duration(curve.d / 1e6)} then {format_rate(curve.m2)}"


def option_words(options: object) -> Words:
    """Of a qdisc's options; nothing for those that have words of their own."""
    if isinstance(options, HfscOptions):
        yield "default", f"{options.default:x}"
    elif isinstance(options, CakeOptions):
        yield from _cake(options)
    elif isinstance(options, (EtsOptions, PrioOptions)):
        yield "bands", str(options.bands)
        if isinstance(options, EtsOptions):
            yield "strict", str(options.strict)
            yield "quanta", " ".join(f"{quantum}b" for quantum in options.quanta)
        yield "priomap", " ".join(map(str, options.priomap))


def _cake(options: CakeOptions) -> Words:
    """The rate and the tins always; of the rest what a change could be about."""
    yield "bandwidth", format_rate(options.rate) if options.rate else "unlimited"
    yield "tins", options.diffserv
    yield "flows", options.flows
    yield "rtt", format_duration(options.rtt / 1e6)
    yield "target", format_duration(options.target / 1e6)
    switches = {
        "nat": options.nat,
        "wash": options.wash,
        "split-gso": options.split_gso,
        "ingress": options.ingress,
        "autorate-ingress": options.autorate,
        options.ack_filter: options.ack_filter is not AckFilter.NONE,
        options.cells: options.cells is not Cells.NONE,
    }
    yield "with", " ".join(name for name, on in switches.items() if on) or "nothing more"
    yield "overhead", "raw" if options.overhead is None else f"{options.overhead}b"
    yield "mpu", f"{options.mpu}b"
    yield "memory", format_size(options.memory) if options.memory else "the kernel's own"
    yield "fwmark", f"{options.fwmark:#x}"
