"""Signals as exceptions, held back where half a step must not be left behind."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal asked us to end. `exit` is what a shell expects of it: 128 + the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def exit(self) -> int:
        return 128 + self.number


class _Gate:
    """Only the first signal counts: the ones after it must not break into the cleaning up."""

    def __init__(self) -> None:
        self.depth = 0
        self.arrived: int | None = None
        self.raised = False

    def on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.arrived is None:
            self.arrived = number
        self.raise_if_open()

    def raise_if_open(self) -> None:
        if self.arrived is not None and self.depth == 0 and not self.raised:
            self.raised = True
            raise Interrupted(self.arrived)


_gate = _Gate()


@contextmanager
def interruptible() -> Iterator[None]:
    """Within it SIGINT, SIGTERM and SIGHUP raise `Interrupted`, once. The handlers from before are put back."""
    global _gate  # noqa: PLW0603 - a process has one set of signal handlers
    _gate = _Gate()
    before = {number: signal.signal(number, _gate.on_signal) for number in _CAUGHT}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def deferred() -> Iterator[None]:
    """A signal that arrives within is raised at the end of the block: for steps that must be whole."""
    _gate.depth += 1
    try:
        yield
    finally:
        _gate.depth -= 1
    _gate.raise_if_open()
