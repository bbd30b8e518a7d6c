"""SIGKILL before every step and every file: afterwards before or after, never between, and nobody else's touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from change_samples import ID, NEW, OLD, Desk, die_everywhere

from shaper.run import confirm
from shaper.run.waiting import read_waiting
from shaper.run.watchdog import Watchdog

pytestmark = pytest.mark.slow


class Fresh:
    """Desks one after the other, each made ready the same way."""

    def __init__(self, folder: Path, *texts: str, seconds: float | None = None, later: float = 0.0) -> None:
        self._folder = folder
        self._texts = texts
        self._seconds = seconds
        self._later = later
        self._number = 0

    def __call__(self) -> Desk:
        self._number += 1
        desk = Desk(self._folder / f"{self._number}")
        for text in self._texts:
            last = text == self._texts[-1]
            desk.apply(text, seconds=self._seconds if last else None)
        desk.now += self._later
        return desk


def trees(folder: Path) -> tuple[Any, Any, Any]:
    """Nothing, the old policy's, the new one's, as one device comes to them."""
    desk = Desk(folder / "trees")
    return desk.held(), desk.apply(OLD), desk.apply(NEW)


def test_an_apply(tmp_path: Path) -> None:
    _, old, new = trees(tmp_path)
    seen = set()
    for at, desk in die_everywhere(lambda on: on[0].apply(NEW, kernel=on[1]), Fresh(tmp_path, OLD)):
        desk.tidy()
        desk.assert_whole(old, new)
        seen.add(desk.held() == new)
        assert desk.apply(NEW) == new, at
        desk.assert_whole(new)
    assert seen == {True, False}


def test_a_first_apply_and_a_clear(tmp_path: Path) -> None:
    nothing, old, _ = trees(tmp_path)
    for _, desk in die_everywhere(lambda on: on[0].apply(OLD, kernel=on[1]), Fresh(tmp_path / "apply")):
        desk.tidy()
        desk.assert_whole(nothing, old)
    for _, desk in die_everywhere(lambda on: on[0].clear(kernel=on[1]), Fresh(tmp_path / "clear", OLD)):
        desk.tidy()
        desk.assert_whole(nothing, old)
        assert desk.clear() == nothing


def test_an_apply_that_waits(tmp_path: Path) -> None:
    """Whenever it is killed, unconfirmed it ends as it was before."""
    _, old, new = trees(tmp_path)
    for _, desk in die_everywhere(lambda on: on[0].apply(NEW, seconds=60, kernel=on[1]), Fresh(tmp_path, OLD)):
        waits = read_waiting(desk.state) is not None
        desk.tidy()
        desk.assert_whole(old, new)
        if desk.held() == new:
            assert waits
        desk.now += 61
        desk.tidy()
        desk.assert_whole(old)
        assert read_waiting(desk.state) is None


def test_a_rollback(tmp_path: Path) -> None:
    _, old, new = trees(tmp_path)
    for _, desk in die_everywhere(lambda on: on[0].rollback(kernel=on[1]), Fresh(tmp_path, OLD, NEW)):
        desk.tidy()
        desk.assert_whole(old, new)
        assert desk.rollback(1) == old
        desk.assert_whole(old)


def test_a_rollback_of_what_waits(tmp_path: Path) -> None:
    _, old, new = trees(tmp_path)
    fresh = Fresh(tmp_path, OLD, NEW, seconds=60)
    for _, desk in die_everywhere(lambda on: on[0].rollback(kernel=on[1]), fresh):
        desk.tidy()
        desk.assert_whole(old, new)
        if desk.held() == new:
            assert read_waiting(desk.state) is not None, "it still goes back by its time"
        desk.now += 61
        desk.tidy()
        desk.assert_whole(old)


@pytest.mark.parametrize("first", [True, False], ids=["the first policy", "over another"])
def test_an_expiry_by_the_watchdog(tmp_path: Path, first: bool) -> None:
    nothing, old, _ = trees(tmp_path)
    fresh = Fresh(tmp_path, *([] if first else [OLD]), NEW, seconds=60, later=61)

    def look(on: tuple[Desk, Any]) -> None:
        desk, kernel = on
        dog = Watchdog(kernel, desk.folder, ID, ["eth1"], clock=desk, ask=lambda *_, **__: None)
        dog.look()

    for _, desk in die_everywhere(look, fresh):
        desk.tidy()
        desk.assert_whole(nothing if first else old)
        assert read_waiting(desk.state) is None


def test_a_confirmation(tmp_path: Path) -> None:
    _, old, new = trees(tmp_path)

    def keep(on: tuple[Desk, Any]) -> None:
        on[0].tidy(on[1])
        confirm.confirm(on[0].state, ID, now=on[0].now, order=on[0].order())

    ends = set()
    for _, desk in die_everywhere(keep, Fresh(tmp_path, OLD, NEW, seconds=60)):
        desk.tidy()
        desk.assert_whole(new)
        desk.now += 61
        desk.tidy()
        desk.assert_whole(old, new)
        kept = desk.held() == new
        confirmed = any(change.what == "confirm" and change.result == "done" for change in desk.log())
        assert kept == confirmed
        ends.add(kept)
    assert ends == {True, False}
