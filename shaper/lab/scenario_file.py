"""Scenario files: which traffic runs when, with every rate in it; read and refused with the name of what is wrong."""

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
from shaper.policy.names import DSCP_NAMES
from shaper.units import UnitError, parse_duration, parse_percent, parse_rate, parse_size

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
    """From `at` on: `rate` (layer 2) in frames of one size, or `silent`.

    Evenly spaced, or `arrivals: poisson`; with `busy` and `idle` only in the first part of every such cycle. With
    `every` a picture is sent so often, as a burst of frames, by up to `spread` more or less than the rate makes it.
    """

    at: Annotated[Moment, _reads(parse_moment)]
    rate: Annotated[int, _reads(_parse_udp_rate)]
    size: Annotated[int, _reads(parse_size), Field(ge=96, le=1514)]
    arrivals: Literal["even", "poisson"] = "even"
    busy: Annotated[float, _reads(parse_duration)] = 0.0
    idle: Annotated[float, _reads(parse_duration)] = 0.0
    every: Annotated[float, _reads(parse_duration)] = 0.0
    spread: Annotated[float, _reads(parse_percent)] = 0.0

    @model_validator(mode="after")
    def _of_one_kind(self) -> UdpStep:
        if (self.busy > 0) != (self.idle > 0):
            raise ValueError("`busy` and `idle` make a cycle together")
        if self.spread and not self.every:
            raise ValueError("`spread` is that of pictures: say how often one comes with `every`")
        if self.arrivals == "poisson" and (self.busy or self.every):
            raise ValueError("`arrivals: poisson` has no cycle and no pictures")
        if self.every and self.busy:
            raise ValueError("`every` has no cycle: leave out `busy` and `idle`")
        return self


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

    @model_validator(mode="after")
    def _jitter_of_what_is_even(self) -> UdpSpec:
        if self.jitter and any(step.arrivals == "poisson" for step in self.steps):
            raise ValueError("`jitter` is that of even arrivals: Poisson's need none")
        return self


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


class LinkStep(_Strict):
    """From `at` on the link beyond the router carries `rate`."""

    at: Annotated[Moment, _reads(parse_moment)]
    rate: Annotated[int, _reads(parse_rate)]


class LinkSpec(_Strict):
    """A narrower link beyond the shaped one, which nobody tells the shaper of: a FIFO of `queue` bytes before it."""

    queue: Annotated[int, _reads(parse_size), Field(ge=1514)]
    steps: Annotated[tuple[LinkStep, ...], Field(min_length=1)]


class Scenario(_Strict):
    """A whole file. `seed` decides every packet's jitter and phase; without `wan` the server is next to the router.

    `seconds` is how long it runs where nobody says otherwise, `policy` the file beside it that it is meant for.
    """

    version: Literal[1]
    seed: int
    seconds: Annotated[float, _reads(parse_duration), Field(ge=5)] = 60.0
    policy: str = ""
    wan: WanSpec | None = None
    link: LinkSpec | None = None
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
