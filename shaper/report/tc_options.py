"""A qdisc's and a class's options in tc's words."""

from __future__ import annotations

from shaper.report.tc_leaves import leaf_words
from shaper.tree import (
    ATM,
    CakeOptions,
    Cells,
    CodelOptions,
    Curve,
    EtsOptions,
    FifoOptions,
    FqCodelOptions,
    FqPieOptions,
    HfscClass,
    HfscOptions,
    HtbOptions,
    Options,
    PieOptions,
    PrioOptions,
    RedOptions,
    SfqOptions,
    SizeTable,
)


def qdisc_words(kind: str, options: Options) -> str:
    """The kind with its options."""
    match options:
        case HtbOptions(default, direct_queue):
            return f"htb default {default:#x}" + (f" direct_qlen {direct_queue}" if direct_queue else "")
        case HfscOptions(default):
            return f"hfsc default {default:x}"
        case FifoOptions(limit):
            return f"{kind} limit {limit}"
        case FqCodelOptions():
            ecn = "ecn" if options.ecn else "noecn"
            return (
                f"fq_codel limit {options.limit} flows {options.flows} target {options.target}us "
                f"interval {options.interval}us quantum {options.quantum} memory_limit {options.memory} {ecn}"
            )
        case PrioOptions(bands, priomap):
            return f"prio bands {bands} priomap {_numbers(priomap)}"
        case EtsOptions():
            quanta = f" quanta {_numbers(options.quanta)}" if options.quanta else ""
            return f"ets bands {options.bands} strict {options.strict}{quanta} priomap {_numbers(options.priomap)}"
        case CakeOptions():
            return _cake(options)
        case CodelOptions() | PieOptions() | FqPieOptions() | RedOptions() | SfqOptions():
            return leaf_words(options)
    return kind


def _numbers(values: tuple[int, ...]) -> str:
    return " ".join(map(str, values))


def _cake(options: CakeOptions) -> str:
    """tc takes a twentieth of the round trip for the target, as the kernel does."""
    words = ["cake", f"bandwidth {options.rate}bit" if options.rate else "unlimited", str(options.diffserv)]
    words += [str(options.flows), f"rtt {options.rtt}us", "nat" if options.nat else "nonat"]
    words += ["wash" if options.wash else "nowash", str(options.ack_filter)]
    words += ["split-gso" if options.split_gso else "no-split-gso", "ingress" if options.ingress else "egress"]
    if options.autorate:
        words.append("autorate-ingress")
    if options.overhead is not None:
        words.append(f"overhead {options.overhead}")
    if options.mpu:
        words.append(f"mpu {options.mpu}")
    if options.overhead is not None or options.cells is not Cells.NONE:
        words.append(str(options.cells))
    if options.memory:
        words.append(f"memlimit {options.memory}")
    if options.fwmark:
        words.append(f"fwmark {options.fwmark:#x}")
    return " ".join(words)


def hfsc_words(cls: HfscClass) -> str:
    """The curves of a class."""
    curves = (("rt", cls.rt), ("ls", cls.ls), ("ul", cls.ul))
    return "hfsc " + " ".join(f"{name} {_curve(curve)}" for name, curve in curves if curve is not None)


def _curve(curve: Curve) -> str:
    first = f"m1 {curve.m1}bit d {curve.d}us " if curve.m1 or curve.d else ""
    return f"{first}m2 {curve.m2}bit"


def stab_words(table: SizeTable) -> str:
    """The size table, in front of the kind."""
    words = f"stab overhead {table.overhead} linklayer {'atm' if table.linklayer == ATM else 'ethernet'}"
    return words + (f" mpu {table.mpu} mtu {table.mtu} tsize {table.slots}" if table.slots else "")
