"""Keys that authenticate probes: from a file that nobody else reads, or from the environment; never a command line."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from shaper.errors import NotPermittedError, UnavailableError
from shaper.files import read_regular

VARIABLE = "SHAPER_STAMP_KEY"
_MOST = 4096


def read_key(path: Path | None) -> bytes:
    """The bytes of a file without the end of its last line; without a file those of the variable, b"" without either.

    Raises NotPermittedError for a file that others may read, UnavailableError where it cannot be read or is empty.
    """
    if path is None:
        return os.environ.get(VARIABLE, "").encode(errors="surrogateescape")
    try:
        mode = path.stat().st_mode
        key = read_regular(path, most=_MOST).removesuffix(b"\n").removesuffix(b"\r")
    except PermissionError as error:
        raise NotPermittedError(f"the key file {path} cannot be read: {error.strerror}") from error
    except OSError as error:
        raise UnavailableError(f"the key file {path} cannot be read: {error.strerror}") from error
    if stat.S_IMODE(mode) & 0o077:
        raise NotPermittedError(f"the key file {path} is open to others", hint=f"chmod 600 {path}")
    if not key:
        raise UnavailableError(f"the key file {path} is empty", hint="`head -c 32 /dev/urandom | base64` makes a key")
    return key
