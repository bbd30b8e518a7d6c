"""How a collector fails: with what happened and the way out."""

from __future__ import annotations


class CaptureError(Exception):
    """The capture cannot start or go on. `hint` is the way out; `errno` what the kernel said, 0 if it said nothing."""

    def __init__(self, message: str, hint: str, *, errno: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.errno = errno


class ProbeError(Exception):
    """A probe cannot be sent. `hint` is the way out."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
