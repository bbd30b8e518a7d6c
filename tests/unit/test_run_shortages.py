"""Shortages: one alarm and one line of history each, with a begin and an end, however the figures move."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from test_run_service import Bench, Talk

from shaper.cli.entry import cli
from shaper.history.store import History
from shaper.kernel.protocol import ClassCounters
from shaper.model.decision import Decision, Shortfall
from shaper.model.shortage import Shortage
from shaper.report.metrics import families
from shaper.run.alarms import Alarms
from shaper.run.shortages import Shortages
from shaper.run.state import DeviceState

SHORT = Shortfall("video", 12_000_000, 8_000_000, 24_000_000, "delay-p99", "link")
WALL = 1.7e9


def decision(*short: Shortfall) -> Decision:
    return Decision({}, shortfalls=short, given_up=("bulk yields",) if short else ())


class Watched:
    """Ticks of 0.25 s, one decision each."""

    def __init__(self) -> None:
        self.alarms = Alarms()
        self.shortages = Shortages(self.alarms)
        self.now = 100.0
        self.news: list[Shortage] = []
        self.texts: list[tuple[str, ...]] = []

    def tick(self, *short: Shortfall, times: int = 1) -> None:
        for _ in range(times):
            self.now += 0.25
            self.news += self.shortages.tick(decision(*short), now=self.now, at=WALL + self.now)
            self.texts.append(self.alarms.texts())


def test_it_begins_once_with_one_alarm_and_ends_once() -> None:
    watched = Watched()
    watched.tick(times=4)
    watched.tick(SHORT)
    assert not watched.news, "one tick may be chance"
    for more in range(400):
        watched.tick(replace(SHORT, need=12_000_000 + more * 1000))
    (begun,) = watched.news
    assert (begun.path, begun.target, begun.began, begun.ended) == ("video", "delay-p99", WALL + 101.25, None)
    assert watched.shortages.begun == 1
    (alarm,) = {text for texts in watched.texts for text in texts}
    assert alarm == (
        "delay-p99 of video cannot hold: it needs 12mbit and there is 8mbit for it, 4mbit short; "
        "a link of 24mbit would do; given up, in this order: bulk yields"
    )
    last = watched.now
    watched.tick(times=39)
    assert watched.shortages.standing
    watched.tick()
    assert not watched.shortages.standing
    assert watched.alarms.texts() == ()
    _, ended = watched.news
    assert (ended.began, ended.ended) == (begun.began, WALL + last)
    assert ended.need == 12_399_000, "the worst of it"


def test_what_comes_and_goes_is_one_and_what_comes_later_is_another() -> None:
    watched = Watched()
    for _ in range(10):
        watched.tick(SHORT, times=3)
        watched.tick(times=20)
    assert len(watched.news) == 1
    watched.tick(times=40)
    watched.tick(SHORT, times=2)
    assert [one.ended is None for one in watched.news] == [True, False, True]
    assert watched.shortages.begun == 2


def test_the_end_of_the_run_ends_them() -> None:
    watched = Watched()
    watched.tick(SHORT, times=2)
    (ended,) = watched.shortages.close(at=WALL + 500)
    assert ended.ended == WALL + 500
    assert watched.shortages.close(at=WALL + 501) == ()
    assert watched.alarms.texts() == ()


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=200))
def test_whatever_comes_begins_and_ends_alternate(ticks: list[tuple[bool, bool]]) -> None:
    watched = Watched()
    other = replace(SHORT, path="web", target="loss")
    for one, two in ticks:
        watched.tick(*([SHORT] if one else []), *([other] if two else []))
    news = [*watched.news, *watched.shortages.close(at=WALL + watched.now)]
    for path in ("video", "web"):
        mine = [each for each in news if each.path == path]
        assert [each.ended is None for each in mine] == [number % 2 == 0 for number in range(len(mine))]
        assert len(mine) % 2 == 0
        for begun, ended in zip(mine[::2], mine[1::2], strict=True):
            assert begun.began == ended.began
            assert ended.ended is not None
            assert ended.ended >= ended.began


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    yield Bench(tmp_path)


VOICE = 0x5A000011


def test_a_run_says_it_in_status_metrics_and_history(bench: Bench) -> None:
    """Voice sends 5 Mbit/s, and its own limit is 2."""
    sent = 0

    def calls() -> None:
        nonlocal sent
        sent += 5_000_000
        bench.kernel.count("eth1", {VOICE: ClassCounters(sent, sent // 200, 0, 0, 40_000, 200)})

    talk = Talk(bench, *[calls] * 8).hold()
    status = next(status for status in talk.status if status.controller.shortages)
    (shortage,) = status.controller.shortages
    assert (shortage.path, shortage.target) == ("voice", "delay-p99")
    (alarm,) = {alarm for one in talk.status for alarm in one.alarms if "cannot hold" in alarm}
    assert alarm.startswith("delay-p99 of voice cannot hold: it needs ")
    assert "by its own limit" in alarm
    samples = {sample.name: sample.value for family in families([status]) for sample in family.samples}
    assert samples["shaper_shortages_total"] == 1
    assert samples["shaper_interface_needed_bandwidth_bytes_per_second"] == 20_000_000 / 8

    state = DeviceState(bench.folder, "eth1")
    with History(state.history) as history:
        (kept,) = history.shortages_of(device="eth1")
    assert kept.began == shortage.began
    assert kept.ended is not None, "the run has ended"
    assert kept.ended > kept.began

    command = ["history", "shortages", "--state", str(bench.folder)]
    said = CliRunner().invoke(cli, command, catch_exceptions=False).output
    assert "voice delay-p99" in " ".join(said.split())
    data: dict[str, Any] = json.loads(CliRunner().invoke(cli, [*command, "--json"], catch_exceptions=False).output)
    (one,) = data["shortages"]
    assert (one["path"], one["began_unix_s"], one["place"]) == ("voice", kept.began, "eth1")


def test_a_run_that_was_killed_has_its_shortages_ended_by_the_next(bench: Bench) -> None:
    Talk(bench, lambda: None).hold()
    state = DeviceState(bench.folder, "eth1")
    began = bench.clock.wall() - 100
    open_one = Shortage("voice", "delay-p99", began, 12, 8, 24, ("bulk yields",))
    with History(state.history) as history:
        seen = max(row.at for row in history.observations(device="eth1", since=0))
        history.shortages(at=began, device="eth1", news=[open_one])
    Talk(bench).hold()
    with History(state.history) as history:
        (kept,) = history.shortages_of(device="eth1")
    assert kept == replace(open_one, ended=max(began, seen))


def test_nothing_short_is_said_too(bench: Bench) -> None:
    Talk(bench, lambda: None).hold()
    said = CliRunner().invoke(cli, ["history", "shortages", "--state", str(bench.folder)], catch_exceptions=False)
    assert said.output == "eth1: every SLA could hold, as far as it was watched\n"
