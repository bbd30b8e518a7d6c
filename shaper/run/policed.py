"""What is counted of a class: where it waits, where it is policed instead, and of its own policers by colour."""

from __future__ import annotations

from dataclasses import replace

from shaper.compile.program import Program
from shaper.kernel.protocol import ClassCounters, DeviceCounters, Kernel, PolicerCounters, VerdictCounters
from shaper.model.status import Policed

_NONE = PolicerCounters(0, 0)
_NOTHING = VerdictCounters(0, 0)


def counted(kernel: Kernel, program: Program) -> DeviceCounters:
    """The counters of a program's classes, by their handles; `kernel` is inside its network namespace.

    Of what is policed those of the verdicts: what passed and what was dropped. Raises UnavailableError, TryAgainError.
    """
    interface = program.interface
    if not interface.policed:
        return kernel.counters(interface.shaped)
    found = kernel.verdicts(interface.device)
    classes = {}
    for path, (passing, dropping) in program.verdicts.items():
        passed, dropped = (found.verdicts.get(index, _NOTHING) for index in (passing, dropping))
        classes[program.handles[path]] = ClassCounters(
            sent_bytes=passed.bytes + passed.packets * program.overhead,
            sent_packets=passed.packets,
            drops=dropped.packets,
            overlimits=dropped.packets,
            backlog_bytes=0,
            queued_packets=0,
        )
    return replace(found, classes=classes)


def policed(program: Program, path: str, counters: DeviceCounters) -> Policed | None:
    """None for a class that nothing polices.

    What exceeds the peak rate is red and never comes to the committed one's policer. With one rate what exceeds is red.
    """
    indexes = program.policers.get(path, ())
    if not indexes:
        return None
    *peak, committed = (counters.policers.get(index, _NONE) for index in indexes)
    green = max(0, committed.packets - committed.exceeded)
    if not peak:
        return Policed(green, 0, committed.exceeded)
    return Policed(green, committed.exceeded, peak[0].exceeded)
