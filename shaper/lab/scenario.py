"""Scenario files: which traffic runs when, with every rate in it, and what that means for a run of N seconds."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from shaper.errors import Exit, ShaperError
from shaper.lab.namespaces import SERVER_V4, SERVER_V6, Wan
from shaper.lab.traffic import Step, UdpFlow
from shaper.policy.names import DSCP_NAMES
from shaper.units import UnitError, parse_duration, parse_percent, parse_rate, parse_size

UDP_PORT = 5000
"""Where the receiver listens; flows are told apart by the number inside the packets."""
GREEDY = 0
"""The rate of a TCP connection that takes what it gets."""

_FRACTION = re.compile(r"^\s*(\d+)\s*/\s*(\d+)\s*$")


class ScenarioError(ShaperError):
    """The scenario file is wrong."""

    exit = Exit.POLICY


@dataclass(frozen=True, slots=True)
class Moment:
    """A time in a run: a part of it or a number of seconds."""

    part: Fraction = Fraction(0)
    seconds: float = 0.0

    def of(self, length: float) -> float:
        """Seconds from the start of a run of `length` seconds."""
        return float(self.part) * length + self.seconds


def parse_moment(text: str) -> Moment:
    """`1/3` (of the run) or `20s`. Raises UnitError."""
    if match := _FRACTION.match(text):
        over, under = int(match[1]), int(match[2])
        if under == 0 or over > under:
            raise UnitError(f"{text!r} is not a part of the run", "write it as 1/3 or 20s")
        return Moment(part=Fraction(over, under))
    return Moment(seconds=parse_duration(text))


def parse_dscp(text: str) -> int:
    """`ef`, `af41`, `cs1`: the code point of the name. Raises UnitError."""
    if (value := DSCP_NAMES.get(text.lower())) is None:
        raise UnitError(f"{text!r} is not a DSCP name", "such as ef, af41 or cs0")
    return value


def _parse_tcp_rate(text: str) -> int:
    return GREEDY if text == "greedy" else parse_rate(text)


def _parse_udp_rate(text: str) -> int:
    return 0 if text == "silent" else parse_rate(text)


def _reads(parse: Callable[[str], Any]) -> BeforeValidator:
    """A validator that reads a text with its unit."""

    def read(value: object) -> object:
        if not isinstance(value, str):
            raise ValueError("a quantity with its unit is wanted")
        try:
            return parse(value)
        except UnitError as error:
            raise ValueError(f"{error.message}: {error.hint}") from error

    return BeforeValidator(read)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class UdpStep(_Strict):
    """From `at` on: a constant rate (layer 2) in frames of one size, or `silent`."""

    at: Annotated[Moment, _reads(parse_moment)]
    rate: Annotated[int, _reads(_parse_udp_rate)]
    size: Annotated[int, _reads(parse_size), Field(ge=96, le=1514)]


class TcpStep(_Strict):
    """From `at` to the next step: connections, each limited to `rate` (goodput) or `greedy`."""

    at: Annotated[Moment, _reads(parse_moment)]
    rate: Annotated[int, _reads(_parse_tcp_rate)]
    connections: Annotated[int, Field(ge=1, le=64)] = 1


class UdpSpec(_Strict):
    """A flow of our own generator: the receiver accounts for every packet."""

    protocol: Literal["udp"]
    name: Annotated[str, Field(alias="class")]
    dscp: Annotated[int, _reads(parse_dscp)]
    ip: Literal[4, 6] = 4
    jitter: Annotated[float, _reads(parse_percent)] = 0.0
    steps: Annotated[tuple[UdpStep, ...], Field(min_length=1)]


class TcpSpec(_Strict):
    """iperf3 connections; step n uses the port `port` + n."""

    protocol: Literal["tcp"]
    name: Annotated[str, Field(alias="class")]
    dscp: Annotated[int, _reads(parse_dscp)]
    ip: Literal[4, 6] = 4
    congestion: Literal["cubic", "reno"] = "cubic"
    port: Annotated[int, Field(ge=1024, le=65000)]
    steps: Annotated[tuple[TcpStep, ...], Field(min_length=1)]


class WanSpec(_Strict):
    """The way between the router and the server: each way every packet takes `delay`, and up to `jitter` more."""

    delay: Annotated[float, _reads(parse_duration)]
    jitter: Annotated[float, _reads(parse_duration)] = 0.0
    loss: Annotated[float, _reads(parse_percent)] = 0.0


class Scenario(_Strict):
    """A whole file. `seed` decides every packet's jitter and phase; without `wan` the server is next to the router."""

    version: Literal[1]
    seed: int
    wan: WanSpec | None = None
    flows: dict[str, Annotated[UdpSpec | TcpSpec, Field(discriminator="protocol")]]

    @model_validator(mode="after")
    def _ports_apart(self) -> Scenario:
        ports = [
            spec.port + step
            for spec in self.flows.values()
            if isinstance(spec, TcpSpec)
            for step in range(len(spec.steps))
        ]
        if len(set(ports)) != len(ports):
            raise ValueError("two TCP steps use the same port: a flow takes one for each of its steps")
        return self


@dataclass(frozen=True, slots=True)
class TcpRun:
    """One invocation of iperf3: `rate` of each connection in bit/s or GREEDY, times in seconds from the start."""

    name: str
    address: str
    port: int
    dscp: int
    congestion: str
    start: float
    seconds: float
    rate: int
    connections: int

    def client(self) -> list[str]:
        """The command in the client's namespace."""
        limit = ["--fq-rate", str(self.rate)] if self.rate != GREEDY else []
        return [
            *("iperf3", "-c", self.address, "-p", str(self.port), "-t", str(max(1, round(self.seconds)))),
            *("-P", str(self.connections), "-S", str(self.dscp << 2), "-C", self.congestion, "-i", "0", *limit),
        ]

    def server(self) -> list[str]:
        """The command in the server's namespace: for this one test."""
        return ["iperf3", "-s", "-1", "-p", str(self.port), "-i", "0"]


@dataclass(frozen=True, slots=True)
class Traffic:
    """A scenario laid out for a run of `seconds`: `classes` maps the UDP flows' numbers to their class paths."""

    seconds: float
    udp: tuple[UdpFlow, ...]
    tcp: tuple[TcpRun, ...]
    classes: dict[int, str]
    wan: Wan | None = None


def read_scenario(path: Path) -> Scenario:
    """Raises ScenarioError that names every wrong key."""
    try:
        document = yaml.safe_load(path.read_text())
        return Scenario.model_validate(document)
    except OSError as error:
        raise ScenarioError(f"cannot read {path}: {error.strerror}", hint="name a scenario file") from error
    except yaml.YAMLError as error:
        raise ScenarioError(f"{path} is not YAML: {error}", hint="see policies/scenarios/demo.yaml") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise ScenarioError(f"{path}: {wrong}", hint="see policies/scenarios/demo.yaml") from error


def lay_out(scenario: Scenario, *, seconds: float, seed: int | None = None) -> Traffic:
    """Every flow with its times in seconds; `seed` in place of the file's own.

    Raises ScenarioError where steps are not in order within the run.
    """
    seed = scenario.seed if seed is None else seed
    udp: list[UdpFlow] = []
    tcp: list[TcpRun] = []
    classes: dict[int, str] = {}
    for number, (flow, spec) in enumerate(scenario.flows.items()):
        starts = [step.at.of(seconds) for step in spec.steps]
        if starts != sorted(set(starts)) or starts[-1] >= seconds:
            raise ScenarioError(
                f"{flow}: its steps must begin one after the other within the run of {seconds:g} s",
                hint="let the run be longer (--seconds), or mend the scenario's `at`",
            )
        address = SERVER_V6 if spec.ip == 6 else SERVER_V4
        if isinstance(spec, UdpSpec):
            classes[number] = spec.name
            steps = tuple(Step(at, step.rate, step.size) for at, step in zip(starts, spec.steps, strict=True))
            udp.append(UdpFlow(number, address, UDP_PORT, spec.dscp, steps, seconds, spec.jitter, seed + number))
        else:
            ends = (*starts[1:], seconds)
            tcp.extend(
                TcpRun(
                    name=spec.name,
                    address=address,
                    port=spec.port + index,
                    dscp=spec.dscp,
                    congestion=spec.congestion,
                    start=starts[index],
                    seconds=ends[index] - starts[index],
                    rate=step.rate,
                    connections=step.connections,
                )
                for index, step in enumerate(spec.steps)
            )
    wan = Wan(scenario.wan.delay, scenario.wan.jitter, scenario.wan.loss) if scenario.wan else None
    return Traffic(seconds, tuple(udp), tuple(sorted(tcp, key=lambda run: run.start)), classes, wan)
