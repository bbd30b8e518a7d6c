"""What is kept, as rows: from the model's values to statements, and from rows back to values."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

from shaper.control import Setup, State
from shaper.history.codec import decode, encode
from shaper.history.links import LinkPremise, packed, unpacked
from shaper.history.probes import PROBE, probe_rows
from shaper.history.shortages import LEFT_OPEN, SHORTAGE, shortage_row
from shaper.model.decision import Decision, Grant
from shaper.model.observation import Observation
from shaper.model.shortage import Shortage
from shaper.model.sla import SlaState
from shaper.model.status import ClassStatus, InterfaceStatus


@dataclass(frozen=True, slots=True)
class ObservationRow:
    """One class in one second. Sizes in bytes, rates in bit/s, delays in seconds; totals since the start of `run`.

    The delays and their count are None where nothing was measured.
    """

    device: str
    second: int
    path: str
    at: float
    sent_bytes: int
    sent_packets: int
    dropped_packets: int
    backlog_bytes: int
    throughput: float
    offered: float
    delay_p50: float | None
    delay_p95: float | None
    delay_p99: float | None
    delay_count: int | None
    sla: SlaState
    rate: int
    ceil: int
    queue: int


@dataclass(frozen=True, slots=True)
class Premise:
    """What a decision stands on beside its inputs: the link and its classes, what was remembered, the boot time, and
    why it was not to be carried out, "" where it was."""

    setup: Setup
    state: State
    now: float
    frozen: str = ""


@dataclass(frozen=True, slots=True)
class JournalLine:
    """One decision with all that is needed to replay it: what was seen, what was decided, what the kernel then held.

    `applied` is false where nothing was sent (a dry run, a refusal); `read_back` is None where nothing was read.
    `premise` is what the law knew beside the inputs, None in lines of a shaper that did not keep it; `link` what that
    of a link that moves knew, None where it was not asked. `number` counts the lines of one journal from 1; it is 0
    before the line is written.
    """

    at: float
    device: str
    decision: Decision
    applied: bool
    read_back: Mapping[str, Grant] | None
    inputs: Observation
    premise: Premise | None = None
    number: int = 0
    link: LinkPremise | None = None


@dataclass(frozen=True, slots=True)
class Write:
    """One statement and the rows it is carried out for; `at` is when the caller asked for it."""

    at: float
    statement: str
    rows: tuple[tuple[Any, ...], ...]


def _insert(table: str, columns: int, verb: str = "INSERT") -> str:
    return f"{verb} INTO {table} VALUES ({', '.join('?' * columns)})"


_values_of_observation = attrgetter(*(field.name for field in fields(ObservationRow)))
_OBSERVATION = _insert("observation", len(fields(ObservationRow)), "INSERT OR REPLACE")
_DECISION = _insert("decision", 4)
_SETUP = _insert("setup", 2, "INSERT OR REPLACE")


def _quantile(status: ClassStatus, percentile: float) -> float | None:
    return status.delay.quantiles.get(percentile) if status.delay and status.delay.count else None


def _observation(at: float, device: str, status: ClassStatus) -> ObservationRow:
    return ObservationRow(
        device=device,
        second=int(at),
        path=status.path,
        at=at,
        sent_bytes=status.sent_bytes,
        sent_packets=status.sent_packets,
        dropped_packets=status.dropped_packets,
        backlog_bytes=status.backlog_bytes,
        throughput=status.throughput,
        offered=status.offered,
        delay_p50=_quantile(status, 0.5),
        delay_p95=_quantile(status, 0.95),
        delay_p99=_quantile(status, 0.99),
        delay_count=status.delay.count if status.delay and status.delay.count else None,
        sla=status.sla.state if status.sla else SlaState.NONE,
        rate=status.granted.rate,
        ceil=status.granted.ceil,
        queue=status.granted.queue,
    )


class Recorder(ABC):
    """Decides what is worth keeping and hands it on as writes. `at` is always wall-clock seconds of the caller."""

    def __init__(self) -> None:
        self._second: dict[str, int] = {}
        self._held: dict[str, str] = {}
        self._setup: Setup | None = None
        self._digest = ""

    @abstractmethod
    def _put(self, write: Write) -> None:
        """Keeps the rows."""

    def observe(self, *, at: float, device: str, status: InterfaceStatus) -> None:
        """Keeps every class as it stands, once a second: further calls within the same second keep nothing."""
        if self._second.get(device) == int(at):
            return
        rows = tuple(_values_of_observation(_observation(at, device, each)) for each in status.classes)
        if rows:
            self._put(Write(at, _OBSERVATION, rows))
        if probes := probe_rows(at, device, status.classes):
            self._put(Write(at, PROBE, probes))
        self._second[device] = int(at)

    def decide(
        self,
        *,
        at: float,
        device: str,
        decision: Decision,
        applied: bool,
        read_back: Mapping[str, Grant] | None,
        inputs: Observation,
        premise: Premise | None = None,
        link: LinkPremise | None = None,
    ) -> None:
        """Keeps a journal line if the decision changed something, or is held for another reason than the last one."""
        if decision.changes or decision.link or (decision.held and decision.held != self._held.get(device, "")):
            payload = json.dumps(
                {
                    "decision": encode(decision),
                    "applied": applied,
                    "read_back": encode(read_back),
                    "inputs": encode(inputs),
                    "premise": self._premise(at, premise) if premise is not None else None,
                    "link": packed(link) if link is not None else None,
                },
                allow_nan=False,
                separators=(",", ":"),
            )
            self._put(Write(at, _DECISION, ((None, at, device, payload),)))
        self._held[device] = decision.held

    def shortages(self, *, at: float, device: str, news: Sequence[Shortage]) -> None:
        """Keeps those that began or ended."""
        if news:
            self._put(Write(at, SHORTAGE, tuple(shortage_row(device, one) for one in news)))

    def end_shortages(self, *, at: float, device: str) -> None:
        """Ends those that a run which was killed left open."""
        self._put(Write(at, LEFT_OPEN, ((device,),)))

    def _premise(self, at: float, premise: Premise) -> Mapping[str, Any]:
        """As the journal has it: the setup, which seldom changes, by its digest."""
        if premise.setup != self._setup:
            payload = json.dumps(encode(premise.setup), allow_nan=False, separators=(",", ":"))
            self._digest = hashlib.sha256(payload.encode()).hexdigest()
            self._put(Write(at, _SETUP, ((self._digest, payload),)))
            self._setup = premise.setup
        state = encode(premise.state)
        return {"setup": self._digest, "state": state, "now_s": premise.now, "frozen": premise.frozen}


def to_observation(row: Sequence[Any]) -> ObservationRow:
    """A row of the table as a value. Raises ValueError when it is none."""
    values = dict(zip((field.name for field in fields(ObservationRow)), row, strict=True))
    return ObservationRow(**{**values, "sla": SlaState(values["sla"])})


def to_setup(payload: str) -> Setup:
    """Raises ValueError when it is none."""
    return decode(Setup, json.loads(payload))


def to_journal_line(row: Sequence[Any], setups: Mapping[str, Setup] | None = None) -> JournalLine:
    """A row of the table as a value; its premise where its setup is among those given. Raises ValueError for no row."""
    number, at, device, payload = row
    try:
        data = json.loads(payload)
        return JournalLine(
            at=at,
            device=device,
            decision=decode(Decision, data["decision"]),
            applied=bool(data["applied"]),
            read_back=_grants(data["read_back"]),
            inputs=decode(Observation, data["inputs"]),
            premise=_premise(data.get("premise"), setups or {}),
            number=number,
            link=unpacked(data["link"]) if data.get("link") is not None else None,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"this is no journal line: {error!r}") from error


def _premise(data: Mapping[str, Any] | None, setups: Mapping[str, Setup]) -> Premise | None:
    if data is None or (setup := setups.get(data["setup"])) is None:
        return None
    return Premise(setup, decode(State, data["state"]), data["now_s"], data.get("frozen", ""))


def _grants(data: Mapping[str, Any] | None) -> Mapping[str, Grant] | None:
    return None if data is None else {path: decode(Grant, grant) for path, grant in data.items()}
