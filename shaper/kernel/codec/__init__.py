"""Between options as values and TCA_OPTIONS as bytes: one file a kind.

`encode` takes whole options; `creating` is false for a change, where a kind may leave out what the kernel lets
nobody change. None stands for no TCA_OPTIONS at all.
"""

from __future__ import annotations

from shaper.kernel.codec import clsact, fifo, fq_codel, htb
from shaper.tree import FifoOptions, FqCodelOptions, HtbOptions, Options, RawOptions


def encode_qdisc(kind: str, options: Options, *, creating: bool) -> bytes | None:
    """TCA_OPTIONS of a qdisc. Raises ValueError when the options are not this kind's."""
    match kind, options:
        case "htb", HtbOptions():
            return htb.encode_qdisc(options)
        case (("bfifo" | "pfifo"), FifoOptions()):
            return fifo.encode(options)
        case "fq_codel", FqCodelOptions():
            return fq_codel.encode(options, creating=creating)
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
        case "bfifo" | "pfifo":
            return fifo.decode(data)
        case "fq_codel":
            return fq_codel.decode(data)
        case "clsact":
            return clsact.decode(data)
    return RawOptions(data)
