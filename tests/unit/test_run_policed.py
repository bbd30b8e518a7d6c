"""The colours of a class's packets: from the kernel's counters of policers to status and metrics."""

from __future__ import annotations

from dataclasses import replace

import pytest
from compile_samples import ETHERNET
from prometheus_client import CollectorRegistry
from report_samples import RUNNING, VIDEO

from shaper.compile import compile_interface
from shaper.compile.program import Program
from shaper.kernel.fake import FULL, FakeKernel
from shaper.kernel.protocol import PolicerCounters
from shaper.model.status import ClassStatus, Policed
from shaper.plan import diff
from shaper.policy import parse_policy
from shaper.report.metrics import StatusCollector
from shaper.run.observe import Observer
from shaper.run.policed import policed

POLICY = """version: 1
interfaces:
  wan: {device: eth1, bandwidth: {egress: 20mbit}, policy: p}
policies:
  p:
    classes:
      one: {match: [{dscp: ef}], police: {cir: 2mbit, cbs: 20kb}}
      two: {match: [{dscp: cs1}], police: {cir: 2mbit, cbs: 20kb, pir: 4mbit, pbs: 40kb, yellow: {dscp: af12}}}
      rest: {default: true, set: {mark: 7}}
"""


@pytest.fixture
def program() -> Program:
    (interface,) = parse_policy(POLICY, source="p.yaml").interfaces
    return compile_interface(interface, FULL, replace(ETHERNET, super_packet=1514))


@pytest.fixture
def kernel(program: Program) -> FakeKernel:
    """With the policy, and packets through each policer."""
    made = FakeKernel("eth1")
    made.send("eth1", diff(made.read("eth1"), program.tree, bounds={}).steps)
    (single,), (peak, committed) = program.policers["one"], program.policers["two"]
    counts = {single: PolicerCounters(10, 3), peak: PolicerCounters(100, 20), committed: PolicerCounters(80, 30)}
    made.count("eth1", {}, policers=counts)
    return made


def test_red_is_beyond_the_peak_and_yellow_of_what_was_not(program: Program, kernel: FakeKernel) -> None:
    counters = kernel.counters("eth1")
    assert policed(program, "one", counters) == Policed(green=7, yellow=0, red=3)
    assert policed(program, "two", counters) == Policed(green=50, yellow=30, red=20)
    assert policed(program, "rest", counters) is None


def test_a_tick_brings_new_counts(program: Program, kernel: FakeKernel) -> None:
    observer = Observer(program, kernel.counters("eth1"))
    kernel.count("eth1", {}, policers={program.policers["one"][0]: PolicerCounters(12, 4)})
    observer.tick(now=1.0, seconds=1.0, counters=kernel.counters("eth1"), window=None, why="")
    found = {one.path: one.policed for one in observer.statuses(program.static)}
    assert found == {
        "network-control": None,
        "one": Policed(8, 0, 4),
        "two": Policed(50, 30, 20),
        "rest": None,
    }


@pytest.mark.parametrize("counted", [None, Policed(50, 30, 20)])
def test_metrics_have_a_colour_each_and_none_where_nothing_polices(counted: Policed | None) -> None:
    video: ClassStatus = replace(VIDEO, policed=counted)
    registry = CollectorRegistry()
    registry.register(StatusCollector(lambda: [replace(RUNNING, classes=(video,))]))
    labels = {"interface": "wan", "device": "eth1", "direction": "egress", "class": "video", "tier": "priority"}
    found = [
        registry.get_sample_value(f"shaper_class_policed_{colour}_packets_total", labels)
        for colour in ("green", "yellow", "red")
    ]
    assert found == ([50, 30, 20] if counted else [None] * 3)
