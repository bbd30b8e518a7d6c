"""One look at an interface that no `run` is watching: what the kernel holds and counts, nothing measured."""

from __future__ import annotations

from shaper.compile import compile_interface
from shaper.errors import UnavailableError
from shaper.kernel.protocol import ClassCounters, Kernel
from shaper.model.observation import CaptureHealth
from shaper.model.sla import SlaResult, SlaState
from shaper.model.status import ClassStatus, ControllerStatus, InterfaceStatus
from shaper.plan import diff
from shaper.policy import parse_policy
from shaper.run.apply import ours
from shaper.run.state import DeviceState

_NOTHING = ClassCounters(0, 0, 0, 0, 0, 0)


def look(kernel: Kernel, state: DeviceState) -> InterfaceStatus:
    """Reads the kernel once and compares it with the policy that was applied last.

    Raises UnavailableError when nothing of ours is there. An apply that was killed, and a tree that somebody changed,
    are alarms.
    """
    record, pending = state.record(), state.pending()
    if record is None:
        raise UnavailableError(
            f"nothing of the shaper's is on {state.device}"
            + (", but an apply was killed in the middle" if pending else ""),
            hint="the next `shaper apply` or `clear` takes it back" if pending else "apply a policy first",
        )
    policy = parse_policy(record.text, source=record.source, files=record.files)
    interface = next(one for one in policy.interfaces if one.device == state.device)
    program = compile_interface(
        interface,
        kernel.capabilities(),
        kernel.link(state.device),
        previous=record.handles,
        structure=record.structure,
        tap=bool(record.tap),
    )
    held = ours(kernel.read(state.device), record)
    counters = kernel.counters(state.device)
    drift = diff(held, program.tree, bounds=program.field_bounds())
    alarms = []
    if pending is not None:
        alarms.append("an apply was killed in the middle; the next command that changes anything takes it back first")
    if drift.steps:
        alarms.append(f"the kernel holds something else than the policy says in {len(drift.steps)} places; see `plan`")
    allocation = program.allocation_in(held)
    classes = []
    for leaf in interface.leaves():
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
                backlog_bytes=one.backlog_bytes,
                loss=one.drops / total if total else None,
                sla=SlaResult(leaf.path, SlaState.NO_DATA, ()) if leaf.sla else None,
            )
        )
    return InterfaceStatus(
        interface=interface.name,
        device=state.device,
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
    )
