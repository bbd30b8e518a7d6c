"""Changes that wait for their confirmation: kept, extended, rolled back; by a person, the watchdog, after a reboot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from change_samples import ID, NEW, NEWER, OLD, Desk

from shaper.errors import Exit, ShaperError, TryAgainError, UnavailableError
from shaper.kernel.fake import Killed
from shaper.policy import parse_policy
from shaper.run import confirm
from shaper.run.look import look
from shaper.run.state import DeviceState, StateError, waiting_devices
from shaper.run.waiting import read_refused, read_waiting, write_waiting
from shaper.run.watchdog import Watchdog, dismiss, guarding, is_guarded


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "state")


def nobody(*_: Any, **__: Any) -> None:
    """No shaper runs."""


def dog(desk: Desk, ask: Callable[..., Any] = nobody) -> Watchdog:
    return Watchdog(desk.kernel, desk.folder, ID, ["eth1"], clock=desk, ask=ask)


def reboot(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another boot: the queues are gone, and the boot's clock begins anew."""
    for module in ("apply", "ours", "prepare", "changes", "confirm", "waiting", "state"):
        monkeypatch.setattr(f"shaper.run.{module}.boot_id", lambda: "another boot")
    desk.kernel.remove_device("eth1")
    desk.kernel.add_device("eth1")
    if "shp-eth1" in desk.kernel._links:
        desk.kernel.remove_device("shp-eth1")
    desk.now = 5.0


def test_confirmed_it_stays(desk: Desk) -> None:
    desk.apply(OLD)
    after = desk.apply(NEW, seconds=60)
    guard = dog(desk)
    assert guard.look() == 0.5
    confirm.confirm(desk.state, ID, now=desk.now, order=desk.order())
    desk.now += 100
    assert guard.look() is None
    desk.tidy()
    assert desk.held() == after
    assert desk.told() == [("apply", "done"), ("apply", "confirmed by 3"), ("confirm", "done")]
    assert not waiting_devices(desk.folder)


def test_unconfirmed_it_is_rolled_back_by_the_watchdog(desk: Desk) -> None:
    before = desk.apply(OLD)
    assert desk.apply(NEW, seconds=60) != before
    guard = dog(desk)
    desk.now += 59.9
    assert guard.look() == pytest.approx(0.1)
    desk.now += 0.2
    assert guard.look() == 0.0
    assert guard.look() is None
    assert desk.held() == before
    assert desk.told()[1:] == [("apply", "rolled back by 3"), ("expiry", "done")]
    assert "nobody confirmed it" in desk.log()[-1].why


def test_the_first_policy_unconfirmed_leaves_nothing(desk: Desk) -> None:
    found = desk.held()
    desk.apply(OLD, seconds=60)
    desk.now += 61
    dog(desk).look()
    assert desk.held() == found
    assert desk.state.record() is None
    desk.assert_whole(found)


def test_a_longer_time(desk: Desk) -> None:
    desk.apply(OLD)
    after = desk.apply(NEW, seconds=60)
    guard = dog(desk)
    assert confirm.extend(desk.state, ID, 60.0, now=desk.now, order=desk.order()).left(desk.now) == 120
    desk.now += 100
    assert guard.look() is not None
    assert desk.held() == after
    desk.now += 30
    guard.look()
    assert desk.held() != after
    with pytest.raises(UnavailableError):
        confirm.extend(desk.state, ID, 60.0, now=desk.now, order=desk.order())


def test_rolled_back_by_a_person_before_the_time(desk: Desk) -> None:
    before = desk.apply(OLD)
    desk.apply(NEW, seconds=60)
    assert desk.rollback() == before
    assert desk.told()[1:] == [("apply", "rolled back by 3"), ("rollback", "done")]
    with pytest.raises(UnavailableError, match="no other policy"):
        desk.rollback()  # never forth to what nobody confirmed


def test_a_second_change_meanwhile_is_refused_and_says_how_long(desk: Desk) -> None:
    desk.apply(OLD)
    after = desk.apply(NEW, seconds=60)
    desk.now += 18
    for refused in (lambda: desk.apply(NEWER), lambda: desk.rollback(1)):
        with pytest.raises(TryAgainError) as caught:
            refused()
        assert caught.value.exit is Exit.TRY_AGAIN
        assert "42 s are left" in caught.value.message
        assert f"shaper confirm {ID}" in caught.value.hint
    assert desk.held() == after


def test_the_wrong_id_and_too_late(desk: Desk) -> None:
    desk.apply(OLD)
    desk.apply(NEW, seconds=60)
    with pytest.raises(UnavailableError, match="by the id nobody"):
        confirm.confirm(desk.state, "nobody", now=desk.now, order=desk.order())
    desk.now += 61
    with pytest.raises(TryAgainError, match="is over"):
        confirm.confirm(desk.state, ID, now=desk.now, order=desk.order())


def test_without_a_watchdog_the_next_command_rolls_back(desk: Desk) -> None:
    before = desk.apply(OLD)
    desk.apply(NEW, seconds=60)
    desk.now += 61
    assert any("not rolled back yet" in alarm for alarm in look(desk.kernel, desk.state, now=desk.now).alarms)
    assert any("rolled back to the policy of change 1" in words for words in desk.tidy())
    desk.assert_whole(before)


def test_a_failed_change_waits_for_nothing(desk: Desk) -> None:
    desk.apply(OLD)
    desk.kernel.deny()
    with pytest.raises(ShaperError) as caught:
        desk.apply(NEW, seconds=60)
    assert caught.value.exit is Exit.NOT_PERMITTED
    assert read_waiting(desk.state) is None


@pytest.mark.parametrize("confirmed", [True, False])
def test_after_a_reboot_the_last_confirmed_policy_comes_up(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, confirmed: bool
) -> None:
    before = desk.apply(OLD)
    after = desk.apply(NEW, seconds=60)
    if confirmed:
        confirm.confirm(desk.state, ID, now=desk.now, order=desk.order())
    reboot(desk, monkeypatch)
    told = desk.tidy()
    assert bool(told) is not confirmed
    wanted = parse_policy(NEW, source="office.yaml")
    policy, why = confirm.confirmed_policy(desk.state, wanted)
    assert (policy.text, bool(why)) == ((NEW, False) if confirmed else (OLD, True))
    assert desk.apply(policy.text) == (after if confirmed else before)
    if not confirmed:
        assert "the machine went down" in desk.log()[2].why
        assert desk.apply(NEW) == after, "a person may have it all the same"
        assert confirm.confirmed_policy(desk.state, wanted) == (wanted, "")


def test_what_was_never_confirmed_does_not_come_up_by_itself(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.apply(OLD, seconds=60)
    reboot(desk, monkeypatch)
    desk.tidy()
    assert desk.state.record() is None
    with pytest.raises(TryAgainError, match="never confirmed"):
        confirm.confirmed_policy(desk.state, parse_policy(OLD, source="office.yaml"))
    assert confirm.confirmed_policy(desk.state, parse_policy(NEW, source="x"))[1] == ""


def test_a_policy_rolled_back_by_its_time_stays_refused_until_a_person_applies_it(desk: Desk) -> None:
    desk.apply(OLD)
    desk.apply(NEW, seconds=60)
    desk.now += 61
    desk.tidy()
    assert read_refused(desk.state) is not None
    desk.apply(NEW)
    assert read_refused(desk.state) is None


def test_a_device_that_went_away_has_nothing_to_roll_back(desk: Desk) -> None:
    desk.apply(OLD)
    desk.apply(NEW, seconds=60)
    desk.kernel.remove_device("eth1")
    desk.now += 61
    assert dog(desk).look() == 0.0
    record = desk.state.record()
    assert record is not None
    assert record.text == OLD
    assert "went away" in desk.log()[-1].why


def test_a_running_shaper_is_asked_first(desk: Desk) -> None:
    desk.apply(OLD)
    desk.apply(NEW, seconds=60)
    asked: list[Any] = []

    def ask(state: DeviceState, command: str, **arguments: Any) -> dict[str, Any]:
        asked.append((command, arguments))
        write_waiting(state, None)
        return {}

    desk.now += 61
    guard = dog(desk, ask)
    assert guard.look() == 0.0
    assert guard.look() is None
    assert asked == [("lapse", {"id": ID})]


def test_a_lock_that_is_held_is_waited_for(desk: Desk) -> None:
    before = desk.apply(OLD)
    after = desk.apply(NEW, seconds=60)
    desk.now += 61
    guard = dog(desk)
    with desk.state.lock():
        assert guard.look() == 0.5
        assert desk.held() == after
    guard.look()
    assert desk.held() == before


def test_what_cannot_be_rolled_back_is_said_and_tried_again(desk: Desk) -> None:
    before = desk.apply(OLD)
    desk.apply(NEW, seconds=60)
    desk.now += 61
    desk.kernel.deny()
    guard = dog(desk)
    assert guard.look() == 3.0
    status = look(desk.kernel, desk.state, now=desk.now).confirmation
    assert status is not None
    assert status.trouble
    desk.kernel.deny(denied=False)
    guard.look()
    assert desk.held() == before


def test_a_watchdog_for_nothing_loses_its_patience(desk: Desk) -> None:
    desk.apply(OLD)
    guard = dog(desk)
    assert guard.look() == 0.5
    desk.now += 121
    assert guard.look() is None


def test_the_sign_of_a_living_watchdog(tmp_path: Path) -> None:
    assert not is_guarded(tmp_path, ID)
    with guarding(tmp_path, ID) as wanted:
        assert is_guarded(tmp_path, ID)
        assert wanted()
        with pytest.raises(StateError), guarding(tmp_path, ID):
            pass
        dismiss(tmp_path, ID)
        assert not wanted()
    assert not is_guarded(tmp_path, ID)


def test_status_says_what_waits(desk: Desk) -> None:
    desk.apply(OLD)
    desk.apply(NEW, seconds=60)
    desk.now += 18
    pending = look(desk.kernel, desk.state, now=desk.now).confirmation
    assert pending is not None
    assert (pending.id, pending.change, pending.left, pending.guarded) == (ID, 2, 42.0, False)


@pytest.mark.parametrize("damage", [{"id": 7}, {"deadline": "soon"}, {"before": []}, {"more": 1}, {"judged": "no"}])
def test_a_damaged_file_is_named(desk: Desk, damage: dict[str, Any]) -> None:
    desk.apply(OLD)
    desk.apply(NEW, seconds=60)
    data = desk.state.read_json("confirm.json")
    assert data is not None
    desk.state.write_json("confirm.json", {**data, **damage})
    with pytest.raises(StateError, match=r"confirm\.json is damaged"):
        read_waiting(desk.state)


def test_an_apply_that_a_power_failure_cut_short_leaves_nothing_to_take_back(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.apply(OLD)
    desk.kernel.die_at(1)
    with pytest.raises(Killed):
        desk.apply(NEW)
    desk.kernel.revive()
    assert desk.state.pending() is not None
    reboot(desk, monkeypatch)
    desk.tidy()
    assert desk.state.pending() is None
    assert not desk.held().classes
    desk.apply(NEWER)
    assert not [change for change in desk.log() if change.result == "begun"]
