"""Compilation: model and capabilities to the tree that the kernel should hold. Deterministic and pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from shaper.compile import incoming
from shaper.compile.adopted import in_its_numbers
from shaper.compile.bands import compile_bands
from shaper.compile.cake import compile_cake
from shaper.compile.choose import choose
from shaper.compile.ground import Ground
from shaper.compile.hfsc import compile_hfsc
from shaper.compile.htb import compile_htb
from shaper.compile.inside import marks_for, unread_note
from shaper.compile.link import counted, link_notes, table_of
from shaper.compile.notes import drift_note, service_notes
from shaper.compile.numbers import Adopted
from shaper.compile.offloads import changes, offload_notes, without_super_packets
from shaper.compile.policed import compile_policed
from shaper.compile.program import Program
from shaper.compile.stamp import stamped
from shaper.errors import UnavailableError
from shaper.model.policy import Backend, Direction, Interface
from shaper.tree import Capabilities, Handle, LinkFacts

__all__ = ["compile_interface"]

_COMPILERS: Mapping[Backend, Callable[[Ground, Mapping[str, Handle]], Program]] = {
    Backend.HTB: compile_htb,
    Backend.HFSC: compile_hfsc,
    Backend.CAKE: compile_cake,
    Backend.ETS: compile_bands,
    Backend.PRIO: compile_bands,
}


def compile_interface(
    interface: Interface,
    capabilities: Capabilities,
    link: LinkFacts,
    *,
    previous: Mapping[str, Handle] | None = None,
    structure: bool = True,
    tap: bool = True,
    adopted: Adopted | None = None,
    stamp: str = "",
) -> Program:
    """The tree for one interface, the same for the same arguments.

    `previous` maps every class path that ever had a handle to it. `structure` off gives the static tree; `tap` off
    leaves the measurement of what goes out away. `link` is of the interface's device. `adopted` has the numbers of an
    HTB tree that was taken over. With `stamp`, which becomes part of its name, a loaded program measures in the kernel
    where that can be, instead of captured packets. Raises UnavailableError when the kernel lacks what the backend
    needs, or what brings incoming packets to a queue, when a rate cannot be expressed, when the rules are more than one
    classifier holds, and when handles run out. ValueError for an interface with a timetable that was not asked for its
    numbers at an instant.
    """
    if interface.phase is None:
        raise ValueError(f"{interface.name} has a schedule: its numbers are those of `interface.at(instant)`")
    if interface.direction is Direction.INGRESS:
        link = replace(link, super_packet=link.joined_packet)
        if interface.policed:
            return compile_policed(interface, capabilities, link, previous or {})
        incoming.require(interface, capabilities)
        incoming.refuse_unknown(interface, interface.rules())
    backend = choose(interface, capabilities)
    offloads = changes(interface, link, backend)
    sized = (*offload_notes(interface, link, backend),)
    link = without_super_packets(link, interface, offloads)
    table = None if backend is Backend.CAKE else table_of(interface, capabilities, link)  # CAKE counts by itself
    _only_htb_has(interface, backend)
    if interface.direction is Direction.INGRESS and backend in (Backend.ETS, Backend.PRIO):
        raise UnavailableError(
            f"{interface.title}: {backend} orders what waits for a device, and what comes in waits for none",
            hint="shape it with a backend that holds a rate, such as `backend: htb`",
            where=interface.where,
        )
    if interface.moving is not None and backend not in (Backend.HTB, Backend.CAKE):
        raise UnavailableError(
            f"{interface.title}: the root of {backend} has no rate that could follow a link that moves",
            hint="shape it with `backend: htb` or `backend: cake`, or write one bandwidth",
            where=interface.where,
        )
    marks = marks_for(interface, capabilities, link)
    told = [marks.note()] if marks else []
    said = (
        *link_notes(interface, link, table),
        *sized,
        *service_notes(interface),
        *drift_note(interface),
        *unread_note(interface, link),
        *told,
    )
    ground = Ground(
        interface,
        capabilities,
        counted(link, table),
        structure,
        tap,
        table=table,
        said=said,
        offloads=offloads,
        marks=marks,
    )
    program = _COMPILERS[backend](ground, previous or {})
    if adopted is not None and backend is Backend.HTB:
        program = in_its_numbers(program, adopted)
    if not stamp or not (tap or interface.direction is Direction.INGRESS):
        return program
    return stamped(program, stamp, capabilities, link)


def _only_htb_has(interface: Interface, backend: Backend) -> None:
    """Raises UnavailableError for a priority or a burst where the backend has no such thing."""
    if backend is Backend.HTB:
        return
    for cls in interface.walk():
        if cls.aqm is not None and backend is Backend.CAKE:
            raise UnavailableError(
                f"{cls.path}: cake keeps its queues short in its own way", hint="take `aqm` out", where=cls.where
            )
        if cls.strict and backend in (Backend.ETS, Backend.PRIO):
            continue
        if cls.fairness is not None and backend is Backend.CAKE:
            raise UnavailableError(
                f"{cls.path}: cake shares all its tins in one way",
                hint=f"write `cake: {{fairness: {cls.fairness}}}` at the interface",
                where=cls.where,
            )
        key = "priority" if cls.priority is not None else "burst" if cls.burst or cls.cburst else ""
        if key:
            raise UnavailableError(
                f"{cls.path}: {backend} has no {key}", hint="take it out, or shape with `backend: htb`", where=cls.where
            )
