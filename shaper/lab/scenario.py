"""A scenario laid out for a run of N seconds: every flow with its times, and every change of the link."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shaper.lab.namespaces import SERVER_V4, SERVER_V6, Narrow, Wan
from shaper.lab.scenario_file import (
    GREEDY,
    LinkStep,
    Scenario,
    ScenarioError,
    TcpStep,
    UdpSpec,
    UdpStep,
    parse_moment,
    read_scenario,
)
from shaper.lab.traffic import Step, UdpFlow

__all__ = ["GREEDY", "UDP_PORT", "ScenarioError", "TcpRun", "Traffic", "lay_out", "parse_moment", "read_scenario"]

UDP_PORT = 5000
"""Where the receiver listens; flows are told apart by the number inside the packets."""


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
    narrow: Narrow | None = None

    @property
    def paths(self) -> set[str]:
        """The classes that have traffic."""
        return {*self.classes.values(), *(run.name for run in self.tcp)}


def lay_out(scenario: Scenario, *, seconds: float, seed: int | None = None) -> Traffic:
    """Every flow with its times in seconds; `seed` in place of the file's own.

    Raises ScenarioError where steps are not in order within the run.
    """
    seed = scenario.seed if seed is None else seed
    udp: list[UdpFlow] = []
    tcp: list[TcpRun] = []
    classes: dict[int, str] = {}
    for number, (flow, spec) in enumerate(scenario.flows.items()):
        starts = _starts(flow, spec.steps, seconds)
        address = SERVER_V6 if spec.ip == 6 else SERVER_V4
        if isinstance(spec, UdpSpec):
            classes[number] = spec.name
            steps = tuple(_step(at, step) for at, step in zip(starts, spec.steps, strict=True))
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
    narrow = None
    if link := scenario.link:
        rates = zip(_starts("link", link.steps, seconds), (step.rate for step in link.steps), strict=True)
        narrow = Narrow(link.queue, tuple(rates))
    return Traffic(seconds, tuple(udp), tuple(sorted(tcp, key=lambda run: run.start)), classes, wan, narrow)


def _starts(name: str, steps: Sequence[UdpStep | TcpStep | LinkStep], seconds: float) -> list[float]:
    starts = [step.at.of(seconds) for step in steps]
    if starts != sorted(set(starts)) or starts[-1] >= seconds:
        raise ScenarioError(
            f"{name}: its steps must begin one after the other within the run of {seconds:g} s",
            hint="let the run be longer (--seconds), or mend the scenario's `at`",
        )
    return starts


def _step(at: float, step: UdpStep) -> Step:
    return Step(
        at,
        step.rate,
        step.size,
        poisson=step.arrivals == "poisson",
        busy=step.busy,
        idle=step.idle,
        every=step.every,
        spread=step.spread,
    )
