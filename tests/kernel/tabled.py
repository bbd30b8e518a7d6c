"""Thousands of addresses in tables on a real kernel: what it counts, what the program answers, and what that takes."""

from __future__ import annotations

import ctypes
import os
import socket
import statistics
import struct
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sorting import TOP, ByTables

from collectors.bpf import lookup
from collectors.bpf.library import SCHED_CLS, load_program
from collectors.bpf.translate import answering
from shaper.compile.classifier import classifier, lookup_classifier
from shaper.model.explain import explain
from shaper.model.match import Packet, Rules
from shaper.tree import LookupProgram

if TYPE_CHECKING:
    from conftest import Lab

_BATCH = 25
_MACS = bytes.fromhex("020000000002020000000001")


class _Run(ctypes.Structure):
    """struct bpf_test_run_opts of libbpf 1.0."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("data_in", ctypes.c_char_p),
        ("data_out", ctypes.c_void_p),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_void_p),
        ("ctx_out", ctypes.c_void_p),
        ("ctx_size_in", ctypes.c_uint32),
        ("ctx_size_out", ctypes.c_uint32),
        ("retval", ctypes.c_uint32),
        ("repeat", ctypes.c_int),
        ("duration", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32),
    )


@dataclass(frozen=True)
class Cost:
    """What rules take of a processor, in seconds: a packet, and to compile and to load once."""

    packet: float
    compiling: float
    loading: float
    instructions: int


def frame(packet: Packet) -> bytes:
    """UDP with these addresses, ports and DSCP."""
    assert packet.src is not None
    assert packet.dst is not None
    assert packet.dscp is not None
    udp = struct.pack("!HHHH", packet.sport or 0, packet.dport or 0, 28, 0) + bytes(20)
    if packet.ethertype == 0x0800:
        head = struct.pack("!BBHHHBBHII", 0x45, packet.dscp << 2, 48, 0, 0, 64, 17, 0, packet.src, packet.dst)
    else:
        head = struct.pack("!IHBB", 6 << 28 | packet.dscp << 22, 28, 17, 64)
        head += packet.src.to_bytes(16, "big") + packet.dst.to_bytes(16, "big")
    return _MACS + packet.ethertype.to_bytes(2, "big") + head + udp


def paths(rules: Rules) -> tuple[str, ...]:
    """Every class of the rules, the default last."""
    return (*dict.fromkeys(rule.path for rule in rules.ordered), rules.default)


def numbers(rules: Rules) -> dict[str, int]:
    """As the sorters number them."""
    return {path: TOP | 0x10 + number for number, path in enumerate(paths(rules))}


def counted(lab: Lab, rules: Rules, packets: Sequence[Packet]) -> Iterator[str]:
    """Differences between where a device's counters say that packets went, and what is explained, batch by batch."""
    sorter = ByTables(lab, paths(rules))
    sorter.obey(rules)
    sock = lab.inside(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
    with sock:
        sock.bind((sorter.device, 0))
        before = Counter(sorter.counts())
        for at in range(0, len(packets), _BATCH):
            batch = packets[at : at + _BATCH]
            for packet in batch:
                sock.send(frame(packet))
            after = Counter(sorter.counts())
            named = Counter(explain(rules, packet).path for packet in batch)
            if after - before != named:
                yield f"packets {at} to {at + len(batch) - 1} were counted in {after - before}, named were {named}"
            before = after


def answered(rules: Rules, packets: Sequence[Packet]) -> Iterator[str]:
    """Differences between what the loaded program answers to each packet and what is explained."""
    classids = numbers(rules)
    with _looking_up(lookup_classifier(rules, classids)) as program:
        for packet in packets:
            named = explain(rules, packet).path
            answer, _ = _run(program, frame(packet), 1)
            if answer != classids[named]:
                yield f"{packet} is answered {answer:#x}, named was {named}"


def cost(rules: Rules, packets: Sequence[Packet], *, tables: bool, repeat: int) -> Cost:
    """Of the rules with tables, or as a classic program, which the kernel translates as we do."""
    began, classids = time.process_time(), numbers(rules)
    made = lookup_classifier(rules, classids) if tables else LookupProgram(classifier(rules, classids), ())
    compiled = time.process_time()
    with _looking_up(made) as program:
        loaded = time.process_time()
        times = [_run(program, frame(packet), repeat)[1] for packet in packets]
    return Cost(statistics.mean(times) / 1e9, compiled - began, loaded - compiled, len(made.program))


@contextmanager
def _looking_up(made: LookupProgram) -> Iterator[int]:
    """The descriptor of the program."""
    if made.tables:
        program = lookup.load(made.program, made.tables, ethernet=True)
    else:
        program = load_program(
            answering(made.program, tables=(), hardware_type=1), kind=SCHED_CLS, name="shaper_classic"
        )
    try:
        yield program
    finally:
        os.close(program)


def _run(program: int, data: bytes, repeat: int) -> tuple[int, int]:
    """The answer, and the mean time of a run in nanoseconds."""
    library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    options = _Run(sz=ctypes.sizeof(_Run), data_in=data, data_size_in=len(data), repeat=repeat)
    if library.bpf_prog_test_run_opts(program, ctypes.byref(options)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(options.retval), int(options.duration)
