"""The fields of the disciplines beside HTB in words: pairs of a name and a text, for plans and tables."""

from __future__ import annotations

from collections.abc import Iterator

from shaper.tree import (
    AckFilter,
    CakeOptions,
    Cells,
    CodelOptions,
    Curve,
    EtsOptions,
    FqPieOptions,
    HfscClass,
    HfscOptions,
    LeafOptions,
    PieOptions,
    PrioOptions,
    RedOptions,
    SfqOptions,
)
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
    elif isinstance(options, LeafOptions):
        yield from leaf_words(options)
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


def leaf_words(options: LeafOptions) -> Words:
    """Of a leaf's queue: the delay first, then how much it holds, then what else it has."""
    match options:
        case CodelOptions():
            yield "target", format_duration(options.target / 1e6)
            yield "interval", format_duration(options.interval / 1e6)
            yield "limit", f"{options.limit} packets"
        case PieOptions() | FqPieOptions():
            yield "target", format_duration(options.target / 1e6)
            yield "limit", f"{options.limit} packets"
            if isinstance(options, FqPieOptions):
                yield "memory", format_size(options.memory)
                yield "flows", str(options.flows)
                yield "quantum", f"{options.quantum}b"
                yield "ecn up to", f"{options.ecn_prob}%"
            yield "alpha", str(options.alpha)
            yield "beta", str(options.beta)
            yield "update", format_duration((options.update or 15_000) / 1e6)
            yield "bytemode", _on(options.bytemode)
            yield "rate estimator", _on(options.rate_estimator)
        case RedOptions():
            yield "min", format_size(options.least)
            yield "max", format_size(options.most)
            yield "probability", "adaptive" if options.adaptive else f"{options.probability / 2**32:.4g}"
            yield "limit", format_size(options.limit)
            yield "weight", f"1/{2**options.weight}"
            yield "idle cell", f"{2**options.cell}us"
            yield "harddrop", _on(options.harddrop)
        case SfqOptions():
            yield "limit", f"{options.limit} packets"
            yield "flows", str(options.flows)
            yield "depth", f"{options.depth} packets"
            yield "quantum", f"{options.quantum}b"
            yield "perturb", f"{options.perturb}s" if options.perturb else "never"
            yield "divisor", str(options.divisor)
            yield "headdrop", _on(options.headdrop)
            return
    yield "ecn", _on(options.ecn)


def _on(value: bool) -> str:
    return "on" if value else "off"
