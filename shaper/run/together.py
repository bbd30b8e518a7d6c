"""Several directions and devices changed as one: all of them or none, whoever is killed when.

Before the first of them is touched `together.json` in the folder of each says how it stood: what is ours in the kernel,
and the files that say so. One file, `done-<id>` in the state folder, makes all of it hold at one moment; what
has no such mark is taken back by the next command that changes anything on one of the devices.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Sequence

from shaper.errors import TryAgainError, UnavailableError
from shaper.files import replace_file
from shaper.history.changes import ChangeLog
from shaper.kernel.protocol import Kernel, within
from shaper.model.change import DONE, TAKEN_BACK
from shaper.model.policy import Direction
from shaper.plan import diff
from shaper.run import apply, changes, ebbing, lending
from shaper.run.before import FILES, NAME, Before, mark_of, read_before, write_before
from shaper.run.offloads import released
from shaper.run.ours import ours
from shaper.run.state import DeviceState, boot_id
from shaper.tree import CLSACT, tree, with_offloads

_KILLED = "its program was killed"


@contextlib.contextmanager
def together(
    kernel: Kernel, sides: Sequence[DeviceState], *, at: float, reason: str, restores: bool = True
) -> Iterator[None]:
    """What is changed in here on these directions, whose devices the caller has locked, holds for all or for none.

    An error takes all of it back for that `reason`, at wall time `at`; not so with `restores` false, where the caller
    has done it when the error comes here. One direction alone needs nothing of this.
    """
    if len(sides) < 2:
        yield
        return
    ident = secrets.token_hex(8)
    places = tuple((side.place, side.direction.value) for side in sides)
    for side in sides:
        write_before(side, _look(kernel, side, ident, places))
    try:
        yield
    except BaseException:
        for side in reversed(sides):
            if restores:
                with apply.undisturbed():
                    _restore(kernel, side, at=at, reason=reason)
            else:
                side.write_json(NAME, None)
        raise
    mark = mark_of(sides[0], ident)
    with apply.undisturbed():
        replace_file(mark, b"")
        for side in sides:
            side.write_json(NAME, None)
        mark.unlink(missing_ok=True)


def recover(kernel: Kernel, state: DeviceState, *, at: float) -> bool:
    """Takes back a change of several that was killed, on every device of it that nobody else holds; whether there was.

    The caller has locked the device. Where the change was done but for its last files it is finished instead.
    """
    before = read_before(state)
    if before is None:
        return False
    done = mark_of(state, before.id).exists()
    for place, direction in reversed(before.places):
        with contextlib.ExitStack() as locked, contextlib.suppress(TryAgainError):
            side = state.on(place, Direction(direction))
            if not side.within_reach():
                continue
            if place != state.place:
                locked.enter_context(side.lock())
            found = read_before(side)
            if found is None or found.id != before.id:
                continue
            if done:
                side.write_json(NAME, None)
            else:
                with apply.undisturbed():
                    _restore(kernel, side, at=at, reason=_KILLED)
            changes.settle(side, at=at)
    if done and not any(_is_of(state.on(place, Direction(way)), before.id) for place, way in before.places):
        mark_of(state, before.id).unlink(missing_ok=True)
    return not done


def _is_of(side: DeviceState, ident: str) -> bool:
    before = read_before(side)
    return before is not None and before.id == ident


def _look(kernel: Kernel, side: DeviceState, ident: str, places: tuple[tuple[str, str], ...]) -> Before:
    record = side.record()
    try:
        held = ours(apply.read(kernel, side), record, beside=side.beside())
    except UnavailableError:  # nothing stands on a device that is gone
        held = tree(side.shaped, ())
    files = {name: side.read_json(name) for name in FILES}
    last = max((change.number for change in ChangeLog(side.folder).all()), default=0)
    return Before(ident, boot_id(), places, files, held, last)


def _restore(kernel: Kernel, side: DeviceState, *, at: float, reason: str) -> None:
    """From wherever one direction stands to where it stood; its file goes last, so it can be done again."""
    apply.recover(kernel, side)
    before = read_before(side)
    if before is None:
        return
    if before.boot == boot_id():
        with contextlib.suppress(UnavailableError):  # the device went, and with it all that stood on it
            leaving = all(qdisc.parent != CLSACT for qdisc in before.held.qdiscs)
            record = side.record() or before.record
            there = apply.read(kernel, side, also=before.held.offloads)
            held = ours(there, record, beside=side.beside(), leaving=leaving, touched=before.held.offloads)
            let_go = released(held, record, side.others(), wanted=before.held.offloads) if held.offloads else ()
            back = diff(held, with_offloads(before.held, let_go), bounds={})
            with lending.lent(kernel, side, back.steps):
                ebbing.send(within(kernel, side.netns), side.shaped, back.steps)
    log = ChangeLog(side.folder)
    for change in log.all():
        if change.number > before.last and change.result == DONE:
            log.end(change.number, at=at, result=TAKEN_BACK, reason=reason)
    for name, content in before.files.items():
        side.write_json(name, content)
    side.write_json(NAME, None)
