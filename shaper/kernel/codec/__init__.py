"""Between options as values and TCA_OPTIONS as bytes: one file a kind.

`encode` takes whole options; `creating` is false for a change, where a kind may leave out what the kernel lets
nobody change. None stands for no TCA_OPTIONS at all.
"""

from __future__ import annotations

from shaper.kernel.codec import cake, clsact, codel, ets, fifo, fq_codel, fq_pie, hfsc, htb, pie, prio, red, sfq
from shaper.tree import (
    CakeOptions,
    Class,
    CodelOptions,
    EtsOptions,
    FifoOptions,
    FqCodelOptions,
    FqPieOptions,
    Handle,
    HfscClass,
    HfscOptions,
    HtbOptions,
    Options,
    PieOptions,
    PrioOptions,
    RawOptions,
    RedOptions,
    SfqOptions,
)


def encode_qdisc(kind: str, options: Options, *, creating: bool) -> bytes | None:
    """TCA_OPTIONS of a qdisc. Raises ValueError when the options are not this kind's."""
    match kind, options:
        case "htb", HtbOptions():
            return htb.encode_qdisc(options)
        case "hfsc", HfscOptions():
            return hfsc.encode_qdisc(options)
        case "cake", CakeOptions():
            return cake.encode(options)
        case "ets", EtsOptions():
            return ets.encode(options)
        case "prio", PrioOptions():
            return prio.encode(options)
        case (("bfifo" | "pfifo"), FifoOptions()):
            return fifo.encode(options)
        case "fq_codel", FqCodelOptions():
            return fq_codel.encode(options, creating=creating)
        case "codel", CodelOptions():
            return codel.encode(options)
        case "pie", PieOptions():
            return pie.encode(options)
        case "fq_pie", FqPieOptions():
            return fq_pie.encode(options, creating=creating)
        case "red", RedOptions():
            return red.encode(options)
        case "sfq", SfqOptions():
            return sfq.encode(options)
        case "clsact", None:
            return clsact.encode()
        case _, RawOptions():
            return options.data
    raise ValueError(f"a {kind} qdisc takes no {type(options).__name__}")


def decode_qdisc(kind: str, data: bytes) -> Options:
    """The options of a dumped qdisc; RawOptions for a kind that we do not program."""
    match kind:
        case "htb":
            return htb.decode_qdisc(data)
        case "hfsc":
            return hfsc.decode_qdisc(data)
        case "cake":
            options = cake.decode(data)
            return RawOptions(data) if options is None else options
        case "ets":
            return ets.decode(data)
        case "prio":
            return prio.decode(data)
        case "bfifo" | "pfifo":
            return fifo.decode(data)
        case "fq_codel":
            return fq_codel.decode(data)
        case "codel":
            return codel.decode(data)
        case "pie":
            return pie.decode(data)
        case "fq_pie":
            return fq_pie.decode(data)
        case "red":
            return red.decode(data)
        case "sfq":
            return sfq.decode(data)
        case "clsact":
            return clsact.decode(data)
    return RawOptions(data)


def encode_class(cls: Class) -> tuple[str, bytes]:
    """The kind of a class and its TCA_OPTIONS. Raises ValueError for what the kind cannot say."""
    if isinstance(cls, HfscClass):
        return "hfsc", hfsc.encode_class(cls)
    return "htb", htb.encode_class(cls)


def decode_class(kind: str, handle: Handle, parent: Handle, data: bytes) -> Class | None:
    """A dumped class; None for a kind that we do not program, and for HFSC's root, which stands for the qdisc."""
    match kind:
        case "htb":
            return htb.decode_class(handle, parent, data)
        case "hfsc" if handle & 0xFFFF:
            return hfsc.decode_class(handle, parent, data)
    return None
