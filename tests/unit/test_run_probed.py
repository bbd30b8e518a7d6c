"""A probe's outcomes as a class's status, and when they judge its SLA."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.probe.log import Outcome
from shaper.model.policy import TrafficClass
from shaper.model.probe import Probe
from shaper.model.sla import SlaState
from shaper.policy import parse_policy
from shaper.run.probed import Findings, OwnTraffic

POLICY = """\
version: 1
interfaces:
  wan: {device: eth1, bandwidth: {egress: 20mbit}, policy: p}
policies:
  p:
    classes:
      voice: {match: [{dscp: ef}], sla: {delay-p99: 20ms, loss: 1%}, probe: {to: 192.0.2.10}}
      video: {match: [{dscp: af41}], sla: {delay-p95: 20ms, throughput: 1mbit}, probe: {to: 192.0.2.10, interval: 10s}}
      rest: {default: true}
"""


def leaf(path: str) -> tuple[TrafficClass, Probe]:
    (interface,) = parse_policy(POLICY, source="p.yaml").interfaces
    (found,) = (each for each in interface.leaves() if each.path == path)
    assert found.probe is not None
    return found, found.probe


def findings(path: str = "voice") -> Findings:
    return Findings(*leaf(path))


def answered(number: int, *, waited: float | None = 0.001, every: float = 0.2) -> Outcome:
    return Outcome(number, 100 + number * every, 0.03, waited=waited, copies=1)


def lost(number: int, *, dropped: bool = False, every: float = 0.2) -> Outcome:
    return Outcome(number, 100 + number * every, dropped=dropped, waited=None if dropped else 0.001)


def test_the_probe_goes_out_with_the_mark_of_its_class() -> None:
    assert leaf("voice")[1].dscp == 46
    assert leaf("video")[1].dscp == 34


def test_what_waited_here_judges_and_what_was_lost_beyond_does_not() -> None:
    made = findings()
    made.add([answered(number) if number % 2 else lost(number) for number in range(25)])
    status = made.status(now=105, resting=False, says="")
    assert (status.sent, status.lost, status.dropped) == (25, 13, 0)
    assert status.loss == pytest.approx(13 / 25)
    assert status.waited is not None
    assert status.waited.count == 25
    judged = made.judged(status)
    assert judged is not None
    assert [target.state for target in judged.targets] == [SlaState.MET, SlaState.MET]


def test_ipdv_is_of_probes_that_were_sent_one_after_the_other() -> None:
    trips = {0: 0.030, 1: 0.034, 3: 0.050, 4: 0.049}  # 2 was lost: 1 and 3 are no neighbours
    made = findings()
    made.add([Outcome(n, 100 + n * 0.2, trips.get(n), copies=int(n in trips)) for n in range(5)])
    status = made.status(now=101, resting=False, says="")
    assert status.round_trip is not None
    assert status.round_trip.ipdv == pytest.approx({0.5: 0.001, 0.95: 0.004, 0.99: 0.004})
    assert status.waited is None


def test_late_and_dropped_probes_miss() -> None:
    made = findings()
    made.add(answered(number, waited=0.03 if number < 3 else 0.001) for number in range(25))
    judged = made.judged(made.status(now=105, resting=False, says=""))
    assert judged is not None
    assert judged.targets[0].state is SlaState.MISSED
    made = findings()
    made.add(lost(number, dropped=True) if number < 3 else answered(number) for number in range(25))
    judged = made.judged(made.status(now=105, resting=False, says=""))
    assert judged is not None
    assert judged.targets[1].state is SlaState.MISSED


@pytest.mark.parametrize("outcomes", [[], [answered(number, waited=None) for number in range(25)]])
def test_without_stamps_there_is_no_data(outcomes: list[Outcome]) -> None:
    made = findings()
    made.add(outcomes)
    judged = made.judged(made.status(now=105, resting=False, says=""))
    assert judged is not None
    assert judged.state is SlaState.NO_DATA


def test_a_throughput_is_never_judged_by_probes() -> None:
    made = findings("video")
    made.add(answered(number, every=1) for number in range(25))
    judged = made.judged(made.status(now=125, resting=False, says=""))
    assert judged is not None
    assert [target.state for target in judged.targets] == [SlaState.MET, SlaState.NO_DATA]
    assert judged.state is SlaState.NO_DATA


def test_the_window_moves_and_the_counts_stay() -> None:
    made = findings()
    made.add(answered(number) for number in range(100))
    status = made.status(now=120 + made.reach + 1, resting=True, says="")
    assert (status.sent, status.round_trips.count, status.loss, status.round_trip) == (100, 100, None, None)


def test_unavailable_seconds_are_counted_once_they_are_whole() -> None:
    made = findings()
    made.add(answered(number) for number in range(25))
    made.add(lost(number) for number in range(25, 25 + 60))
    made.add(answered(number) for number in range(85, 85 + 60))
    status = made.status(now=130, resting=False, says="")
    assert (status.unavailable, status.available) == (12, 16)  # the last second is not over


counts = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=40)


@given(counts)
def test_a_class_is_idle_exactly_while_only_probes_pass(steps: list[tuple[int, int]]) -> None:
    traffic = OwnTraffic(connections=False)
    assert not traffic.idle
    passed = probes = 0
    seen: list[tuple[float, int]] = []
    for tick, (own, sent) in enumerate(steps):
        passed, probes = passed + own + sent, probes + sent
        traffic.add(tick * 1.0, passed=passed, probes=probes)
        seen.append((tick * 1.0, passed - probes))
    first = [seen[0], *(one for one in seen if one[0] <= len(steps) - 1 - 5)][-1]
    assert traffic.idle == (seen[-1][1] - first[1] <= 2)


def test_a_class_that_was_made_anew_is_looked_at_anew() -> None:
    traffic = OwnTraffic(connections=False)
    for now, passed in ((0, 1000), (1, 1001), (2, 3)):
        traffic.add(now, passed=passed, probes=0)
    assert not traffic.idle
    traffic.add(3, passed=3, probes=0)
    assert traffic.idle
