"""The history of changes and rolling back by it, on the fake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from change_samples import ME, NEW, NEWER, OLD, Desk

from shaper.errors import ShaperError, UnavailableError
from shaper.history.changes import ChangeLog
from shaper.history.failures import HistoryError
from shaper.kernel.protocol import StepError
from shaper.model.change import Change
from shaper.plan import diff
from shaper.policy import parse_policy
from shaper.run import apply, changes
from shaper.run.state import StateError


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "state")


def log_of(desk: Desk) -> ChangeLog:
    return ChangeLog(desk.state.folder)


def test_a_change_says_who_when_why_from_what_to_what_and_how_it_ended(desk: Desk) -> None:
    desk.apply(OLD, why="the first")
    desk.apply(NEW, why="ticket 7")
    first, second = desk.log()
    assert (first.number, first.what, first.who, first.why) == (1, "apply", ME, "the first")
    assert (second.at, second.before, second.result) == (desk.wall(), 1, "done")
    assert any("video" in step and "add" in step for step in second.steps)
    assert any("ceil 2mbit -> 3mbit" in step for step in second.steps)
    assert second.step_count == len(second.steps)
    assert first.disruptive == 1
    assert log_of(desk).text(second.sha256) == NEW
    assert f"{second.who}" == "root (sudo by alice) on pts/3"


def test_a_failed_change_says_why_and_is_not_gone_back_to(desk: Desk) -> None:
    desk.apply(OLD)
    before = desk.held()
    desk.kernel.fail_at(1, 22)
    with pytest.raises(StepError):
        desk.apply(NEW)
    assert desk.held() == before
    assert desk.told() == [("apply", "done"), ("apply", "failed")]
    assert desk.log()[1].reason
    with pytest.raises(UnavailableError, match="no other policy before"):
        desk.rollback()


def test_rolling_back_is_the_policy_and_its_static_allocation(desk: Desk) -> None:
    first = desk.apply(OLD)
    second = desk.apply(NEW)
    assert desk.rollback() == first
    assert desk.rollback() == second, "back from the way back"
    desk.apply(NEWER)
    assert desk.rollback(1) == first
    last = desk.log()[-1]
    assert (last.what, last.of, last.before) == ("rollback", 1, 5)


def test_what_a_controller_moved_is_static_again(desk: Desk) -> None:
    first = desk.apply(OLD)
    moved = tuple(
        cls
        if cls.handle != 0x5A000012
        else type(cls)(**{**{n: getattr(cls, n) for n in cls.__slots__}, "rate": 9_000_000})
        for cls in first.classes
    )
    live = type(first)(first.device, first.links, first.qdiscs, moved, first.filters)
    desk.kernel.send("eth1", diff(first, live, bounds={}).steps)
    desk.apply(NEW)
    assert any(cls.rate == 9_000_000 for cls in desk.held().classes)
    assert desk.rollback() == first


def test_handles_are_for_life_through_rollbacks(desk: Desk) -> None:
    desk.apply(NEW)
    before = desk.state.record()
    desk.apply(OLD)
    desk.rollback()
    after = desk.state.record()
    assert before is not None
    assert after is not None
    assert dict(before.handles) == dict(after.handles)


def test_the_same_policy_again_is_not_another(desk: Desk) -> None:
    first = desk.apply(OLD)
    desk.apply(NEW)
    desk.apply(NEW)
    desk.apply(NEW)
    assert desk.rollback() == first


def test_after_a_clear_rolling_back_is_what_was_cleared(desk: Desk) -> None:
    first = desk.apply(OLD)
    desk.clear()
    assert not desk.held().classes
    assert desk.log()[-1].what == "clear"
    assert desk.rollback() == first
    desk.clear()
    desk.clear()
    assert len(desk.log()) == 4, "where nothing is ours there is nothing to record"


def test_a_number_that_is_none_and_one_without_a_policy(desk: Desk) -> None:
    desk.apply(OLD)
    desk.clear()
    with pytest.raises(UnavailableError, match="no change 9; it has 1 to 2"):
        desk.rollback(9)
    with pytest.raises(UnavailableError, match="left no policy"):
        desk.rollback(2)


def test_where_the_history_cannot_be_written_nothing_is_sent(desk: Desk) -> None:
    desk.apply(OLD)
    sent = len(desk.kernel.sent)
    log_of(desk).path.unlink()
    log_of(desk).path.mkdir()
    with pytest.raises((HistoryError, StateError)):
        desk.apply(NEW)
    assert len(desk.kernel.sent) == sent


def test_a_torn_line_costs_that_line_only(desk: Desk) -> None:
    desk.apply(OLD)
    log = log_of(desk)
    with log.path.open("a") as file:
        file.write('{"schema": 1, "chan')
    desk.apply(NEW)
    assert desk.told() == [("apply", "done"), ("apply", "done")]
    log.all()
    assert log.damaged == 1


@pytest.mark.parametrize("line", ["[]", "7", '{"schema": 9}', '{"schema": 1, "end": 99}', "\x00\x00", '{"schema":1}'])
def test_no_line_ends_the_reading(desk: Desk, line: str) -> None:
    desk.apply(OLD)
    log = log_of(desk)
    with log.path.open("a") as file:
        file.write(line + "\n")
    assert len(log.all()) == 1
    assert log.damaged == 1


def test_a_policy_that_was_edited_is_not_gone_back_to(desk: Desk) -> None:
    desk.apply(OLD)
    desk.apply(NEW)
    before = desk.held()
    kept = desk.state.folder / "policies" / f"{desk.log()[0].sha256}.json"
    kept.write_text(kept.read_text().replace("1mbit", "2mbit"))
    with pytest.raises(HistoryError, match="is not the policy"):
        desk.rollback()
    kept.unlink()
    with pytest.raises(HistoryError):
        desk.rollback()
    assert desk.held() == before


def test_a_log_has_a_bound_for_a_line_and_none_for_lines(desk: Desk) -> None:
    log = log_of(desk)
    many = Change(0, 1.0, "apply", ME, "eth1", steps=("step",) * 5000, step_count=5000)
    for number in range(1, 4):
        assert log.begin(many, text="", files={}).number == number
    assert [len(change.steps) for change in log.all()] == [500] * 3
    assert all(json.loads(line) for line in log.path.read_text().splitlines())


def test_an_undone_change_is_recorded_as_taken_back(desk: Desk) -> None:
    first = desk.apply(OLD)
    policy = parse_policy(NEW, source="n.yaml")
    prepared = apply.prepare(desk.kernel, desk.state, policy, policy.interfaces[0])
    made = changes.make(desk.kernel, desk.state, prepared, what="apply", order=desk.order())
    changes.unmake(desk.kernel, desk.state, made, at=2.0, reason="another failed")
    assert desk.held() == first
    assert desk.told()[-1] == ("apply", "taken back")


def test_reading_makes_nothing(tmp_path: Path) -> None:
    log = ChangeLog(tmp_path / "nowhere")
    assert log.all() == ()
    with pytest.raises(ShaperError, match="it has none"):
        log.find(1)
    assert not (tmp_path / "nowhere").exists()


def test_the_lists_that_a_policy_names_are_kept_with_it(desk: Desk) -> None:
    listed = OLD.replace("match: [{dscp: ef}]", "match: [{dst: {file: phones.txt}}]")
    first = desk.apply(listed, files={"phones.txt": "192.0.2.1\n"})
    assert desk.apply(listed, files={"phones.txt": "192.0.2.2\n"}) != first
    assert desk.rollback() == first
