"""One look at an interface that no `run` is watching: what the kernel holds and counts, nothing measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from shaper.compile.program import Program
from shaper.errors import UnavailableError
from shaper.kernel.protocol import ClassCounters, Kernel, within
from shaper.model.observation import CaptureHealth
from shaper.model.sla import SlaResult, SlaState
from shaper.model.status import ClassStatus, ControllerStatus, InterfaceStatus
from shaper.plan import adopt_live
from shaper.plan.drift import differences, some
from shaper.run.apply import read
from shaper.run.before import unfinished
from shaper.run.borrowing import borrowed
from shaper.run.calendar import outlook
from shaper.run.freezing import standing
from shaper.run.ours import ours
from shaper.run.policed import counted, policed
from shaper.run.probation import pending_confirmation
from shaper.run.standing import interface_of, program_of
from shaper.run.state import DeviceState
from shaper.run.waiting import read_waiting
from shaper.tree import Handle, Tree, with_offloads

_NOTHING = ClassCounters(0, 0, 0, 0, 0, 0)


def look(kernel: Kernel, state: DeviceState, *, now: float, at: float | None = None) -> InterfaceStatus:
    """Reads the kernel once and compares it with the policy that was applied last. `now` is boot time.

    With the wall time `at` it also says how the policy's schedule stands.

    Raises UnavailableError when nothing of ours is there. An apply that was killed, and a tree that somebody changed,
    are alarms.
    """
    kernel = within(kernel, state.netns)
    record, pending = state.record(), state.pending()
    if record is None:
        raise UnavailableError(
            f"nothing of the shaper's is on {state.title}"
            + (", but an apply was killed in the middle" if pending else ""),
            hint="the next `shaper apply` or `clear` takes it back" if pending else "apply a policy first",
        )
    interface = interface_of(record)
    program = program_of(record, interface, kernel.capabilities(), kernel.link(state.device))
    there = with_offloads(read(kernel, state), kernel.offloads({one.device for one in program.tree.offloads}))
    held = ours(there, record, touched=program.tree.offloads)
    counters = counted(kernel, program)
    names = {handle: path for path, handle in program.handles.items()}
    drift = differences(held, adopt_live(held, program.tree, bounds=program.field_bounds()), names)
    alarms = []
    waiting = read_waiting(state)
    if waiting is not None and waiting.left(now) <= 0:
        alarms.append(
            f"change {waiting.change} was not confirmed in time and is not rolled back yet; the next command that "
            "changes anything does it first, or `shaper rollback`"
        )
    if pending is not None or unfinished(state) is not None:
        alarms.append("an apply was killed in the middle; the next command that changes anything takes it back first")
    schedule = None if at is None else outlook(interface, at)
    if at is not None and schedule is not None and interface.at(at).phase != record.phase:
        was = interface.timetable.words(record.phase) if interface.timetable else ""
        alarms.append(
            f"the schedule has gone on ({schedule.holds}), and {state.title} still has the numbers of: {was}; "
            "`shaper run` changes them in time, `shaper apply` now"
        )
    freeze, wrong = standing(state)
    alarms += [wrong] if wrong else []
    if drift:
        alarms.append(f"somebody changed what {state.spot} holds: {some(drift)}; `shaper apply` puts it back")
    allocation = program.allocation_in(held)
    if moved := _moved(program, held, names):
        alarms.append(
            f"{state.spot} holds no static allocation: {some(moved)}; a run that was killed left it so, or somebody "
            "changed it; `shaper rollback --static` puts it back"
        )
    classes = []
    for leaf in program.interface.leaves():
        one = counters.classes.get(program.handles[leaf.path], _NOTHING)
        total = one.sent_packets + one.drops
        classes.append(
            ClassStatus(
                path=leaf.path,
                tier=leaf.tier,
                granted=allocation[leaf.path],
                bounds=program.bounds[leaf.path],
                guarantee=leaf.guarantee,
                sent_bytes=one.sent_bytes,
                sent_packets=one.sent_packets,
                dropped_packets=one.drops,
                marked_packets=one.marked,
                backlog_bytes=one.backlog_bytes,
                loss=one.drops / total if total else None,
                policed=policed(program, leaf.path, counters),
                borrowing=borrowed(None, one),
                sla=SlaResult(leaf.path, SlaState.NO_DATA, ()) if leaf.sla else None,
            )
        )
    return InterfaceStatus(
        interface=interface.name,
        device=state.spot,
        direction=state.direction,
        bandwidth=interface.bandwidth,
        policy=interface.policy,
        source=record.source,
        running=False,
        seconds=0.0,
        classes=tuple(classes),
        controller=ControllerStatus("structured" if record.structure else "static", held="no `shaper run` is up"),
        capture=CaptureHealth(running=False, reason="no `shaper run` is up"),
        unshaped_packets=counters.unshaped,
        alarms=tuple(alarms),
        drift=drift,
        confirmation=pending_confirmation(state, waiting, now) if waiting else None,
        schedule=schedule,
        frozen=freeze if freeze is not None and not (at is not None and freeze.over(at)) else None,
    )


def _moved(program: Program, held: Tree, names: Mapping[Handle, str]) -> tuple[str, ...]:
    """What differs of the rates that a controller may move, where nobody moves them. A limit may yet be on its way."""
    allocation = program.allocation_in(held)
    still = {path: replace(grant, queue=allocation[path].queue) for path, grant in program.static.items()}
    live = adopt_live(held, program.tree, bounds=program.field_bounds())
    return differences(live, program.with_allocation(still), names) if program.movable else ()
