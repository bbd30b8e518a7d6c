"""The lines of `shaper run --json` read as they come: counters of every class, second by second, and the summary."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shaper.errors import ShaperError
from shaper.sla import Waited


@dataclass(frozen=True, slots=True)
class Interval:
    """A class between two lines: `middle` is Unix time, `rate` what it sent in bit/s, `waiting` what of that in the
    time in which it wanted more, None where it never did. `granted` bit/s at its end."""

    middle: float
    rate: float
    waiting: float | None
    granted: int = 0


@dataclass(slots=True)
class RunLines:
    """What one `shaper run` has said so far."""

    ready: bool = False
    latest: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] | None = None
    intervals: dict[str, list[Interval]] = field(default_factory=dict)
    _rest: bytes = b""

    def feed(self, data: bytes) -> None:
        """Takes what was read from the pipe. Raises ShaperError where it is no line of `shaper run --json`."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.strip():
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            said = json.loads(line)
            event = said["event"]
        except (ValueError, KeyError, TypeError) as error:
            raise ShaperError(f"`shaper run --json` printed {line[:120]!r}", hint="it should be an event") from error
        if event == "ready":
            self.ready = True
        elif event == "summary":
            self.summary = said
        elif event == "second":
            if self.latest:
                self._note(self.latest, said)
            self.latest = said

    def _note(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        seconds = after["at"] - before["at"]
        if seconds <= 0:
            return
        for path, now in after["classes"].items():
            then = before["classes"].get(path)
            if then is None:
                continue
            waited = Waited(now["waiting_s"], now["waiting_bytes"]) - Waited(then["waiting_s"], then["waiting_bytes"])
            self.intervals.setdefault(path, []).append(
                Interval(
                    middle=(after["at"] + before["at"]) / 2,
                    rate=(now["sent_bytes"] - then["sent_bytes"]) * 8 / seconds,
                    waiting=waited.rate,
                    granted=now["rate_bit_s"],
                )
            )

    def rate_of(self, path: str) -> float | None:
        """What the class sent in the latest second, in bit/s."""
        intervals = self.intervals.get(path)
        return intervals[-1].rate if intervals else None

    def by_second(self, path: str, *, start: float) -> dict[int, Interval]:
        """The intervals by the second of the run in which their middle lies."""
        return {int(one.middle - start): one for one in self.intervals.get(path, ()) if one.middle >= start}
