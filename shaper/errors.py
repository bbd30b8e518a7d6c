"""What can go wrong, as data: problems with a place and a mend, and the exit code each failure has."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass


class Exit(enum.IntEnum):
    """Exit codes of every command."""

    OK = 0
    FAILED = 1
    CHANGES = 2
    SLA_MISSED = 3
    NO_DATA = 4
    USAGE = 64
    POLICY = 65
    UNAVAILABLE = 69
    TRY_AGAIN = 75
    NOT_PERMITTED = 77


@dataclass(frozen=True, slots=True, order=True)
class Where:
    """A place in a policy file; lines and columns count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, where, and how to mend it.

    `kind` is a stable slug ("unknown-key") that tests and scripts may rely on; `path` is the place in
    the document's own words ("policies.branch.classes.voice.limit").
    """

    kind: str
    where: Where | None
    path: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        text = f"{place}{self.message}"
        return f"{text}\n  mend: {self.hint}" if self.hint else text


class ShaperError(Exception):
    """A failure that a person can act on. `hint` is the way out; `exit` what the command ends with."""

    exit: Exit = Exit.FAILED

    def __init__(self, message: str, *, hint: str = "", where: Where | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.where = where

    def problems(self) -> tuple[Problem, ...]:
        """The failure as problems, for the one renderer of them."""
        return (Problem(type(self).__name__, self.where, "", self.message, self.hint),)


class PolicyError(ShaperError):
    """The policy is wrong: every problem in it, at once."""

    exit = Exit.POLICY

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(f"{len(problems)} problem{'s' if len(problems) != 1 else ''} in the policy")
        self._problems = tuple(problems)

    def problems(self) -> tuple[Problem, ...]:
        return self._problems


class UnavailableError(ShaperError):
    """The kernel or the machine lacks something: an interface, a qdisc, a device that is not ours."""

    exit = Exit.UNAVAILABLE


class NotPermittedError(ShaperError):
    """The kernel said EPERM or EACCES."""

    exit = Exit.NOT_PERMITTED


class TryAgainError(ShaperError):
    """Somebody else holds the interface, or a change is pending."""

    exit = Exit.TRY_AGAIN


def internal(error: BaseException) -> ShaperError:
    """What nobody foresaw, as a failure that names the line it comes from."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" ({'/'.join(trace.tb_frame.f_code.co_filename.split('/')[-2:])}:{trace.tb_lineno})" if trace else ""
    return ShaperError(
        f"a fault in the shaper itself: {type(error).__name__}: {error}{place}",
        hint="nothing is left half-changed; please report it with this line",
    )
