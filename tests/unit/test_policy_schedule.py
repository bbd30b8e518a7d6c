"""Schedules of a policy as it is read: what holds with what, in which direction, and what that costs."""

from __future__ import annotations

import time
from datetime import datetime

import pytest

from shaper.errors import PolicyError
from shaper.model.policy import Direction, Interface
from shaper.policy import parse_policy

HEAD = """\
version: 1
zone: UTC
interfaces:
  wan:
    device: eth1
    bandwidth: {egress: 20mbit, ingress: 50mbit}
    policy: p
"""
NOON = datetime.fromisoformat("2026-11-25T12:00+00:00").timestamp()
NIGHT = NOON + 12 * 3600
NIGHTLY = '{from: "22:00", to: "06:00"}'


def both(text: str) -> tuple[Interface, Interface]:
    """What goes out and what comes in."""
    egress, ingress = parse_policy(text, source="p.yaml").interfaces
    assert (egress.direction, ingress.direction) == tuple(Direction)
    return egress, ingress


def guarantees(interface: Interface, at: float) -> dict[str, int]:
    return {cls.path: cls.guarantee for cls in interface.at(at).walk() if not cls.implied}


def policy(*classes: str, head: str = HEAD) -> str:
    return f"{head}policies:\n  p:\n    classes:\n" + "".join(f"      {cls}\n" for cls in classes)


REST = "rest: {default: true}"


def test_classes_with_the_same_hours_change_together() -> None:
    text = policy(
        f"a: {{guarantee: 1mbit, match: [{{dscp: ef}}], schedule: [{{when: {NIGHTLY}, guarantee: 2mbit}}]}}",
        f"b: {{guarantee: 3mbit, match: [{{dscp: cs1}}], schedule: [{{when: {NIGHTLY}, guarantee: 4mbit}}]}}",
        REST,
    )
    for interface in both(text):
        assert guarantees(interface, NOON) == {"a": 1_000_000, "b": 3_000_000, "rest": 0}
        assert guarantees(interface, NIGHT) == {"a": 2_000_000, "b": 4_000_000, "rest": 0}
        assert interface.timetable is not None
        assert interface.timetable.words(interface.at(NIGHT).phase or ()) == ("a and b daily 22:00-06:00 UTC")


def test_what_a_period_says_of_one_direction_leaves_the_other_as_it_is() -> None:
    period = f"{{when: {NIGHTLY}, guarantee: {{egress: 5mbit}}}}"
    text = policy(f"a: {{guarantee: 1mbit, match: [{{dscp: ef}}], schedule: [{period}]}}", REST)
    egress, ingress = both(text)
    assert (guarantees(egress, NIGHT)["a"], guarantees(ingress, NIGHT)["a"]) == (5_000_000, 1_000_000)
    assert ingress.timetable is None and ingress.phase == (), "nothing ever changes there"


def test_a_period_of_one_direction_holds_before_a_later_one_in_both() -> None:
    first = f"{{when: {NIGHTLY}, limit: {{egress: 9mbit}}}}"
    second = '{when: {from: "20:00", to: "08:00"}, guarantee: 2mbit}'
    text = policy(f"a: {{guarantee: 1mbit, match: [{{dscp: ef}}], schedule: [{first}, {second}]}}", REST)
    for interface in both(text):
        assert guarantees(interface, NIGHT)["a"] == 1_000_000
        assert guarantees(interface, NOON + 9 * 3600)["a"] == 2_000_000


def test_the_bandwidth_of_one_direction() -> None:
    head = HEAD + f"    schedule: [{{when: {NIGHTLY}, bandwidth: {{egress: 10mbit}}}}]\n"
    egress, ingress = both(policy("a: {guarantee: 10%, match: [{dscp: ef}]}", REST, head=head))
    assert [egress.at(then).bandwidth for then in (NOON, NIGHT)] == [20_000_000, 10_000_000]
    assert guarantees(egress, NIGHT)["a"] == 1_000_000, "a percentage is of what there is then"
    assert ingress.timetable is None and ingress.bandwidth == 50_000_000


def test_defaults_and_service_classes_come_after_what_a_period_says() -> None:
    head = HEAD + "defaults: {limit: 5mbit}\n"
    period = f"{{when: {NIGHTLY}, limit: 8mbit, sla: {{delay-p99: 80ms}}}}"
    text = policy(f"a: {{service-class: telephony, schedule: [{period}]}}", REST, head=head)
    egress, _ = both(text)
    day, night = (next(cls for cls in egress.at(then).walk() if cls.name == "a") for then in (NOON, NIGHT))
    assert (day.limit, night.limit) == (5_000_000, 8_000_000)
    assert [target.seconds for target in night.sla.delays] == [0.08] != [target.seconds for target in day.sla.delays]


def test_what_is_wrong_in_one_combination_names_it() -> None:
    weekend = "{when: {days: [sat, sun]}, guarantee: 15mbit}"
    text = policy(
        f"a: {{guarantee: 1mbit, match: [{{dscp: ef}}], schedule: [{{when: {NIGHTLY}, guarantee: 8mbit}}]}}",
        f"b: {{guarantee: 1mbit, match: [{{dscp: cs1}}], schedule: [{weekend}]}}",
        REST,
    )
    with pytest.raises(PolicyError) as caught:
        parse_policy(text, source="p.yaml")
    (problem,) = caught.value.problems()
    assert "come to 23.2mbit of 20mbit" in problem.message
    assert problem.message.endswith("(while: a daily 22:00-06:00 UTC, b sat, sun UTC) (egress)")
    assert problem.where is not None and problem.where.line == 12


def test_periods_that_never_meet_need_not_fit_together() -> None:
    text = policy(
        "a: {match: [{dscp: ef}], schedule: [{when: {days: mon-fri}, guarantee: 15mbit}]}",
        "b: {match: [{dscp: cs1}], schedule: [{when: {days: [sat, sun]}, guarantee: 15mbit}]}",
        REST,
    )
    egress, _ = both(text)
    assert len(egress.variants) == 2, "and there is no time outside every period"


def test_a_thousand_classes_with_the_same_hours_are_no_more_than_so_many_policies() -> None:
    plain = [f"c{n}: {{limit: 1mbit, match: [{{dst: 10.0.{n // 250}.{n % 250}}}]}}" for n in range(300)]
    timed = [
        line.replace("limit: 1mbit", f"limit: 1mbit, schedule: [{{when: {NIGHTLY}, limit: 2mbit}}]") for line in plain
    ]
    seconds = []
    for classes in (plain, timed):
        begun = time.process_time()
        parse_policy(policy(*classes, REST), source="p.yaml")
        seconds.append(time.process_time() - begun)
    assert seconds[1] < 5 * seconds[0] + 0.2, "two phases, and the shape of the file once more"
