"""A leaf's queue as it stands in the kernel, as the `aqm` of a class: the kind, and the numbers that are its own."""

from __future__ import annotations

from collections.abc import Iterator

from shaper.tree import (
    AckFilter,
    CakeOptions,
    CodelOptions,
    FifoOptions,
    FqCodelOptions,
    FqPieOptions,
    PieOptions,
    Qdisc,
    RedOptions,
    SfqOptions,
)


def aqm_text(qdisc: Qdisc) -> str:
    """`{kind: pie, target: 15ms, limit: 500, ecn: true}`; "" for a kind that no class can have."""
    kind = "fifo" if isinstance(qdisc.options, FifoOptions) else qdisc.kind
    said = list(_said(qdisc))
    if not said:
        return ""
    return f"{{{', '.join([f'kind: {kind}', *(f'{key}: {value}' for key, value in said)])}}}"


def _said(qdisc: Qdisc) -> Iterator[tuple[str, str]]:
    match qdisc.options:
        case FifoOptions(limit):
            yield "limit", str(limit) if qdisc.kind == "pfifo" else f"{limit}b"
        case FqCodelOptions() as options:
            yield from (("target", f"{options.target}us"), ("interval", f"{options.interval}us"))
            yield from (("limit", str(options.limit)), ("flows", str(options.flows)), ("ecn", _switch(options.ecn)))
        case CodelOptions() as options:
            yield from (("target", f"{options.target}us"), ("interval", f"{options.interval}us"))
            yield from (("limit", str(options.limit)), ("ecn", _switch(options.ecn)))
        case PieOptions() | FqPieOptions() as options:
            yield from (("target", f"{options.target}us"), ("limit", str(options.limit)))
            yield from (("alpha", str(options.alpha)), ("beta", str(options.beta)), ("ecn", _switch(options.ecn)))
            if isinstance(options, FqPieOptions):
                yield "flows", str(options.flows)
        case RedOptions() as options:
            yield from (("min", f"{options.least}b"), ("max", f"{options.most}b"), ("limit", f"{options.limit}b"))
            yield "ecn", _switch(options.ecn)
            if not options.adaptive:
                yield "probability", f"{max(options.probability / 2**32 * 100, 0.001):.3f}%"
        case SfqOptions() as options:
            yield from (("limit", str(options.limit)), ("flows", str(min(options.flows, options.limit))))
            yield from (("depth", str(options.depth)), ("perturb", f"{options.perturb}s"))
        case CakeOptions(rate=0) as options:
            yield from (("target", f"{options.target}us"), ("interval", f"{options.rtt}us"))
            yield from (("nat", _switch(options.nat)), ("wash", _switch(options.wash)))
            yield "split-gso", _switch(options.split_gso)
            ways = {AckFilter.NONE: "false", AckFilter.FILTER: "true", AckFilter.AGGRESSIVE: "aggressive"}
            yield "ack-filter", ways[options.ack_filter]


def _switch(on: bool) -> str:
    return "true" if on else "false"
