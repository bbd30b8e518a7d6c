"""Who is asking: for the history of changes."""

from __future__ import annotations

import contextlib
import os
import pwd

from shaper.model.change import Who


def caller() -> Who:
    """The user of this process, and from where they are logged in as far as it can be known."""
    uid = os.getuid()
    user = ""
    with contextlib.suppress(KeyError):
        user = pwd.getpwuid(uid).pw_name
    return Who(uid, user, os.environ.get("SUDO_USER", ""), _terminal())


def _terminal() -> str:
    for number in range(3):
        with contextlib.suppress(OSError):
            return os.ttyname(number).removeprefix("/dev/")
    return ""
