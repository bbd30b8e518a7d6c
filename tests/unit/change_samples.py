"""A device under change management on the verified fake: its policies, its clock, and deaths at every step."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from shaper.history.changes import ChangeLog
from shaper.kernel.fake import FakeKernel, Killed
from shaper.model.change import Change, Who, outcomes
from shaper.plan.steps import Step
from shaper.policy import parse_policy
from shaper.run import apply, changes, confirm
from shaper.run.changes import Order
from shaper.run.confirm import KernelWay
from shaper.run.state import DeviceState
from shaper.tree import ROOT, HtbOptions, Qdisc, Tree

OLD = """\
version: 1
interfaces:
  wan: {device: eth1, bandwidth: {egress: 20mbit}, policy: office}
policies:
  office:
    classes:
      voice: {tier: special, guarantee: 1mbit, limit: 2mbit, match: [{dscp: ef}], sla: {delay-p99: 20ms}}
      rest: {guarantee: 12mbit, adapt: {min: 2mbit}, default: true}
"""
NEW = OLD.replace("limit: 2mbit", "limit: 3mbit").replace(
    "      rest:", "      video: {guarantee: 3mbit, match: [{dscp: af41}]}\n      rest:"
)
NEWER = NEW.replace("guarantee: 3mbit", "guarantee: 4mbit")
ME = Who(0, "root", "alice", "pts/3")
FOREIGN = Qdisc(0x00010000, ROOT, "htb", HtbOptions(0x10))
ID = "a1b2c3"


class Desk:
    """One device of ours and one of somebody else's, a clock that stands still until it is moved."""

    def __init__(self, folder: Path) -> None:
        self.kernel = FakeKernel("eth1", "eth2")
        self.kernel.put("eth2", FOREIGN)
        self.folder = folder
        self.state = DeviceState(folder, "eth1")
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.boot()

    def processor(self) -> float:
        return 0.0

    def boot(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now + 1.7e9

    def order(self, why: str = "") -> Order:
        return Order(ME, self.wall(), why)

    def tidy(self, kernel: Any = None) -> tuple[str, ...]:
        return confirm.tidy(kernel or self.kernel, self.state, now=self.now, order=self.order())

    def apply(
        self,
        text: str,
        *,
        seconds: float | None = None,
        kernel: Any = None,
        why: str = "",
        files: dict[str, str] | None = None,
    ) -> Tree:
        """What the command does under its lock; the tree that the kernel then holds."""
        kernel = kernel or self.kernel
        self.tidy(kernel)
        confirm.refuse_while_waiting(self.state, now=self.now)
        policy = parse_policy(text, source="office.yaml", files=files or {})
        prepared = apply.prepare(kernel, self.state, policy, policy.interfaces[0])
        condition = confirm.condition(ID, seconds, now=self.now) if seconds else None
        changes.make(kernel, self.state, prepared, what="apply", order=self.order(why), condition=condition)
        return self.held()

    def rollback(self, number: int | None = None, *, kernel: Any = None) -> Tree:
        kernel = kernel or self.kernel
        self.tidy(kernel)
        way = KernelWay(kernel, self.state)
        confirm.rollback(kernel, self.state, number, now=self.now, order=self.order(), way=way)
        return self.held()

    def clear(self, *, kernel: Any = None) -> Tree:
        self.tidy(kernel or self.kernel)
        changes.clear(kernel or self.kernel, self.state, order=self.order())
        return self.held()

    def held(self) -> Tree:
        return self.kernel.read("eth1")

    def log(self) -> tuple[Change, ...]:
        return outcomes(ChangeLog(self.state.folder).all())

    def told(self) -> list[tuple[str, str]]:
        return [(change.what, change.result) for change in self.log()]

    def assert_whole(self, *allowed: Tree) -> None:
        """Before or after, never between; what is on disk agrees; nobody else's was touched."""
        assert self.held() in allowed
        assert self.state.pending() is None
        record = self.state.record()
        assert (record is None) == (not self.held().classes)
        if record is not None:
            policy = parse_policy(record.text, source=record.source)
            again = apply.prepare(self.kernel, self.state, policy, policy.interfaces[0])
            assert not again.plan.steps
            assert again.mine == again.target
        assert not [change for change in self.log() if change.result == "begun"]
        assert self.kernel.read("eth2").qdiscs == (FOREIGN,)


class Death:
    """Kills the program before its `at`th effect: a step to the kernel, a file put in place, removed or flushed.

    From then on nothing that it still tries has any effect. `count` is how many effects there were.
    """

    def __init__(self, kernel: FakeKernel, at: int | None = None) -> None:
        self._kernel = kernel
        self._at = at
        self.count = 0
        self._dead = False

    def __getattr__(self, name: str) -> Any:
        if self._dead:
            raise Killed
        return getattr(self._kernel, name)

    def send(self, device: str, steps: Sequence[Step]) -> None:
        for step in steps:
            self.effect()
            self._kernel.send(device, [step])

    def effect(self) -> None:
        self._dead = self._dead or self.count == self._at
        if self._dead:
            raise Killed
        self.count += 1

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Files count as well in here."""

        def before(real: Callable[..., Any]) -> Callable[..., Any]:
            def called(*arguments: Any, **named: Any) -> Any:
                self.effect()
                return real(*arguments, **named)

            return called

        with (
            patch.object(os, "fsync", before(os.fsync)),
            patch.object(Path, "replace", before(Path.replace)),
            patch.object(Path, "unlink", before(Path.unlink)),
        ):
            yield


def die_everywhere(act: Callable[[tuple[Desk, Any]], object], fresh: Callable[[], Desk]) -> Iterator[tuple[int, Desk]]:
    """Every device on which `act`, given it and a kernel to die on, was killed: one for each effect, five or more."""
    probe = fresh()
    death = Death(probe.kernel)
    with death.watching():
        act((probe, death))
    assert death.count >= 5
    for at in range(death.count):
        desk = fresh()
        dying = Death(desk.kernel, at)
        with dying.watching():
            try:
                act((desk, dying))
            except Killed:
                pass
            else:
                raise AssertionError(f"it outlived effect {at}")
        yield at, desk
