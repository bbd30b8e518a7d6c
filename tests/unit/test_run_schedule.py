"""A run that goes over to other numbers when the schedule says so: on the verified fake, with clocks that are set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from test_run_service import Bench, Talk, Watching, say, told

from shaper.errors import UnavailableError
from shaper.history.changes import ChangeLog
from shaper.kernel.protocol import Kernel
from shaper.model.change import Change
from shaper.model.policy import Interface
from shaper.plan.steps import Step, Verb
from shaper.policy import parse_policy
from shaper.run import changes
from shaper.run.changes import Order
from shaper.run.confirm import KernelWay
from shaper.run.look import look
from shaper.run.prepare import prepare
from shaper.run.service import Service
from shaper.run.settings import Mode, Settings
from shaper.run.standing import interface_of, policy_of
from shaper.run.state import DeviceState, record_from_json, record_to_json
from shaper.run.who import caller

TEXT = """\
version: 1
zone: Europe/Paris
interfaces:
  wan:
    device: eth1
    bandwidth: {egress: 20mbit}
    policy: office
    schedule:
      - {when: {days: [sat, sun]}, bandwidth: {egress: 16mbit}}
policies:
  office:
    classes:
      voice: {tier: special, guarantee: 1mbit, limit: 2mbit, match: [{dscp: ef}], sla: {delay-p99: 20ms}}
      backup:
        guarantee: 2mbit
        adapt: {min: 1mbit}
        match: [{dst: 203.0.113.0/24}]
        schedule:
          - {when: {from: "22:00", to: "06:00"}, guarantee: 8mbit, adapt: {min: 4mbit}}
      rest: {guarantee: 4mbit, default: true}
"""
DAY, NIGHT = 2_000_000, 8_000_000
BACKUP = 0x5A000012
HOUR = 3600.0


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


EVENING = at("2026-11-23T21:59:30+01:00")
"""A Monday, half a minute before the night."""


class Structured(Bench):
    """Without the controller, so that the kernel holds the static allocation of what the schedule says."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.policy = parse_policy(TEXT, source=str(folder / "office.yaml"))
        self.mode = Mode.STRUCTURED
        set_clock(self, EVENING)

    def serve(self, watcher: Watching, settings: Settings | None = None) -> Service:
        return super().serve(watcher, settings or Settings(mode=self.mode))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Structured]:
    yield Structured(tmp_path)


def set_clock(bench: Bench, wall: float) -> None:
    """As somebody setting the wall clock, or a machine that wakes up."""
    bench.clock.ahead = wall - bench.clock.now


def backup(bench: Bench) -> int:
    """What the kernel holds as the rate of the class, bit/s."""
    return next(cls.rate for cls in bench.kernel.read("eth1").classes if cls.handle == BACKUP)


def log(bench: Bench) -> list[Change]:
    return list(ChangeLog(DeviceState(bench.folder, "eth1").folder).all())


def nothing() -> None:
    """A second passes, or a few: the clock goes on at every look."""


WAIT = [nothing] * 30
"""More than half a minute."""


def test_at_the_boundary_the_numbers_change_without_a_loss(bench: Bench) -> None:
    rates: list[int] = []
    look_at: Callable[[], None] = lambda: rates.append(backup(bench))  # noqa: E731
    talk = Talk(bench, look_at, *WAIT, look_at).hold()
    assert rates == [1_000_000, 4_000_000], "the floors of the day and of the night"
    first, turned = log(bench)
    assert (first.what, turned.what, turned.result, turned.disruptive) == ("run", "schedule", "done", 0)
    assert turned.why == "the schedule: backup daily 22:00-06:00 Europe/Paris"
    assert turned.steps and turned.sha256 == first.sha256
    assert 0 <= turned.at - at("2026-11-23T22:00+01:00") < 5
    assert "eth1: the schedule: backup daily 22:00-06:00 Europe/Paris" in talk.watcher.said
    for status in talk.status:
        assert not status.drift and not status.mends
    before, after = talk.status[0].schedule, talk.status[-1].schedule
    assert before and before.holds == "outside every period"
    assert before.next_at == at("2026-11-23T22:00+01:00")
    assert before.next_local == "Mon 2026-11-23 22:00 CET"
    assert after and after.holds == before.next_holds == "backup daily 22:00-06:00 Europe/Paris"
    assert after.next_at == at("2026-11-24T06:00+01:00")


def test_what_it_turned_to_is_what_an_apply_then_would_make(bench: Bench, tmp_path: Path) -> None:
    Talk(bench, *WAIT).hold()
    turned = bench.kernel.read("eth1")
    (tmp_path / "fresh").mkdir()
    fresh = Structured(tmp_path / "fresh")
    set_clock(fresh, EVENING + 60)
    Talk(fresh).hold()
    assert fresh.kernel.read("eth1") == turned


def test_the_controller_takes_the_new_bounds(bench: Structured) -> None:
    bench.mode = Mode.CONTROLLED
    grants: list[tuple[tuple[int, int], int]] = []

    def seen() -> None:
        (status,) = bench.service.statuses()
        one = next(cls for cls in status.classes if cls.path == "backup")
        grants.append((one.bounds.rate, one.guarantee))

    Talk(bench, seen, *WAIT, seen).hold()
    assert grants == [((1_000_000, 20_000_000), DAY), ((4_000_000, 20_000_000), NIGHT)]


@pytest.mark.parametrize("late", [60.0, 2 * HOUR, 98 * HOUR], ids=["set", "suspended", "after days"])
def test_it_does_not_matter_how_the_clock_came_to_where_it_is(bench: Bench, late: float) -> None:
    """Forward into another period and back again."""
    rates: list[int] = []

    def jump(wall: float) -> Callable[[], None]:
        return lambda: (rates.append(backup(bench)), set_clock(bench, wall))[1]

    Talk(bench, jump(EVENING + late), nothing, jump(EVENING - HOUR), nothing, jump(EVENING - HOUR)).hold()
    assert rates == [1_000_000, 4_000_000, 1_000_000]
    assert [(change.what, change.disruptive) for change in log(bench)[1:]] == [("schedule", 0)] * 2


def test_the_interface_has_another_bandwidth_on_saturday(bench: Bench) -> None:
    set_clock(bench, at("2026-11-20T23:59:30+01:00"))
    bandwidths: list[int] = []
    note: Callable[[], None] = lambda: bandwidths.append(bench.service.statuses()[0].bandwidth)  # noqa: E731
    Talk(bench, note, *WAIT, note).hold()
    assert bandwidths == [20_000_000, 16_000_000]
    assert next(cls.rate for cls in bench.kernel.read("eth1").classes if cls.handle == 0x5A000001) == 16_000_000
    (turned,) = [change for change in log(bench) if change.what == "schedule"]
    assert turned.why.endswith("wan sat, sun Europe/Paris, backup daily 22:00-06:00 Europe/Paris")


def test_while_a_change_waits_for_its_confirmation_it_stays_and_then_turns(bench: Bench) -> None:
    rates: list[int] = []
    note: Callable[[], None] = lambda: rates.append(backup(bench))  # noqa: E731
    text = TEXT.replace("limit: 2mbit", "limit: 3mbit")
    ask: Callable[[], Any] = lambda: say(  # noqa: E731
        bench, "apply", text=text, source="new.yaml", confirm={"id": "a1", "judge": False, "seconds": 600}
    )
    keep: Callable[[], Any] = lambda: say(bench, "confirm", id="a1")  # noqa: E731
    Talk(bench, ask, *WAIT, note, keep, nothing, note).hold()
    assert rates == [1_000_000, 4_000_000]
    assert [what for what, _ in told(bench)] == ["run", "apply", "confirm", "schedule"]


def test_what_is_rolled_back_has_the_numbers_of_by_then(bench: Bench) -> None:
    text = TEXT.replace("limit: 2mbit", "limit: 3mbit")
    ask: Callable[[], Any] = lambda: say(  # noqa: E731
        bench, "apply", text=text, source="new.yaml", confirm={"id": "a1", "judge": False, "seconds": 600}
    )
    back: Callable[[], Any] = lambda: say(bench, "rollback", number=None)  # noqa: E731
    Talk(bench, ask, *WAIT, back, nothing).hold()
    assert backup(bench) == 4_000_000
    assert [what for what, _ in told(bench)] == ["run", "apply", "rollback"]


def test_what_the_kernel_refuses_is_an_alarm_and_tried_again_after_a_while(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, refused = bench.kernel.send, []

    def refuse(device: str, steps: list[Step]) -> None:
        if len(refused) < 2 and any(step.verb is Verb.CHANGE for step in steps):
            refused.append(bench.clock.now)
            raise UnavailableError("the kernel has no room")
        send(device, steps)

    monkeypatch.setattr(bench.kernel, "send", refuse)
    talk = Talk(bench, *[nothing] * 40).hold()
    assert backup(bench) == 4_000_000
    assert len(refused) == 2 and refused[1] - refused[0] >= 5.0
    assert any("no room" in alarm for status in talk.status for alarm in status.alarms)
    assert not any("no room" in alarm for alarm in talk.status[-1].alarms)
    assert [(what, result) for what, result in told(bench) if what == "schedule"] == [
        ("schedule", "failed"),
        ("schedule", "failed"),
        ("schedule", "done"),
    ]


# --- without a run


def made(bench: Bench, interface: Interface, order: Order) -> None:
    state = DeviceState(bench.folder, "eth1")
    kernel: Kernel = bench.kernel
    prepared = prepare(kernel, state, bench.policy, interface.at(order.at))
    changes.make(kernel, state, prepared, what="apply", order=order)


def test_applied_without_a_run_the_status_says_that_time_has_gone_on(bench: Bench) -> None:
    state = DeviceState(bench.folder, "eth1")
    made(bench, bench.policy.interfaces[0], Order(caller(), EVENING))
    before = look(bench.kernel, state, now=0.0, at=EVENING)
    assert not before.alarms and not before.drift
    after = look(bench.kernel, state, now=0.0, at=EVENING + 60)
    assert not after.drift, "it is what was applied"
    (alarm,) = after.alarms
    assert "the schedule has gone on (backup daily 22:00-06:00 Europe/Paris)" in alarm
    assert "still has the numbers of: outside every period" in alarm


def test_the_record_knows_which_numbers_were_applied(bench: Bench) -> None:
    state = DeviceState(bench.folder, "eth1")
    made(bench, bench.policy.interfaces[0], Order(caller(), EVENING + 60))
    record = state.record()
    assert record is not None and record.phase == ("policies.office.classes.backup.schedule[0]",)
    assert record_from_json(record_to_json(record)) == record
    assert [cls.guarantee for cls in interface_of(record).classes][2] == NIGHT
    with pytest.raises(UnavailableError, match="no phase"):
        policy_of(replace(record, phase=("nowhere",)))
    for wrong in (5, [5], "night"):
        with pytest.raises(ValueError):
            record_from_json({**record_to_json(record), "phase": wrong})


def test_a_rollback_by_hand_has_the_numbers_of_its_time(bench: Bench) -> None:
    state = DeviceState(bench.folder, "eth1")
    made(bench, bench.policy.interfaces[0], Order(caller(), EVENING))
    record = state.record()
    assert record is not None and backup(bench) == 1_000_000
    KernelWay(bench.kernel, state).to_policy(
        policy_of(record),
        what="rollback",
        order=Order(caller(), EVENING + 60),
        of=1,
        confirmation="",
        structure=True,
    )
    assert backup(bench) == 4_000_000


def test_nothing_is_compiled_without_an_instant(bench: Bench) -> None:
    state = DeviceState(bench.folder, "eth1")
    with pytest.raises(ValueError, match="its numbers are those of"):
        prepare(bench.kernel, state, bench.policy, bench.policy.interfaces[0])
