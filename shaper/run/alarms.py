"""The alarms of one interface: each stands until what it is about works again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from shaper.errors import ShaperError


class Alarms:
    """One alarm for each thing that can go wrong, by its name."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def sound(self, what: str, message: str) -> None:
        """From now on, in the place of what was said of the same thing before."""
        self._said[what] = message

    def end(self, what: str) -> None:
        """It is over. Harmless where there was none."""
        self._said.pop(what, None)

    def texts(self) -> tuple[str, ...]:
        """All that stand, the oldest first."""
        return tuple(self._said.values())

    @contextlib.contextmanager
    def watching(self, what: str) -> Iterator[None]:
        """An error in here is an alarm until the same thing works again."""
        try:
            yield
        except ShaperError as error:
            self.sound(what, error.message)
        else:
            self.end(what)
