"""Changes that somebody else makes to our tree: named by field, put back, and never fought over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_run_service import TEXT, Bench, Watching

from shaper.history.changes import ChangeLog
from shaper.model.policy import Drift
from shaper.plan.drift import differences, some
from shaper.policy import parse_policy
from shaper.run.drift import Mending, changed_facts
from shaper.run.look import look
from shaper.run.settings import Mode, Settings
from shaper.run.state import DeviceState
from shaper.tree import Granted, HtbClass, LinkFacts, Tree, tree, with_grants


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    yield Bench(tmp_path)


def rest_of(held: Tree) -> HtbClass:
    return next(cls for cls in held.classes if cls.prio == 2)


def test_differences_in_words() -> None:
    ours = HtbClass(0x5A000012, 0x5A000001, 3_000_000, 20_000_000, 8000, 1200, 1, 1514)
    names = {ours.handle: "video"}
    wanted = tree("eth1", [ours])
    assert differences(wanted, wanted, names) == ()
    slower = tree("eth1", [replace(ours, ceil=5_000_000, cburst=4800)])
    assert differences(slower, wanted, names) == ("class video 5a00:12: ceil is 5mbit, ours is 20mbit",)
    assert differences(tree("eth1", []), wanted, names) == ("class video 5a00:12 is gone",)
    assert differences(wanted, tree("eth1", []), names) == ("class video 5a00:12 is not ours",)
    finer = tree("eth1", [replace(ours, cburst=1201)])
    assert differences(finer, wanted, names) == ("class video 5a00:12: cburst is 1201, ours is 1200",)
    assert some(["a", "b", "c", "d", "e"]) == "a; b; c; and 2 more"


def test_changed_facts_in_words() -> None:
    link = LinkFacts("ppp0", 7, 1492, 0, 1492, True, None)
    assert changed_facts(link, replace(link, index=9, up=False)) == ()
    assert changed_facts(link, replace(link, mtu=1400, speed=10**9)) == (
        "the MTU of ppp0 is 1400, was 1492",
        "the speed of ppp0 is 1gbit, was unknown",
    )


@given(st.lists(st.floats(min_value=0.0, max_value=90.0), max_size=60))
def test_never_more_than_three_mends_in_a_minute(gaps: list[float]) -> None:
    mending, now, sent = Mending(), 1000.0, []
    for gap in gaps:
        now += gap
        mending.saw(("something",), ())
        if mending.due(now):
            mending.tries()
            assert not mending.due(now), "once a look"
            mending.sends(now)
            sent.append(now)
    for first, fourth in zip(sent, sent[3:], strict=False):
        assert fourth - first >= 60.0


@given(st.lists(st.floats(min_value=0.0, max_value=90.0), max_size=60))
def test_a_device_that_comes_and_goes_is_followed_however_often(gaps: list[float]) -> None:
    mending, now = Mending(), 1000.0
    for attack in (1000.0, 1001.0, 1002.0):
        mending.saw(("something",), ())
        mending.sends(attack)
    for gap in gaps:
        now += gap
        mending.saw((), ("eth1 came back",))
        assert mending.due(now)
        mending.tries()
        mending.sends(now)
        mending.succeeded(mended=True)
    mending.saw(("something",), ())
    assert not mending.due(1003.0), "who changes it is not forgotten for that"


def test_what_cannot_be_fitted_to_the_device_is_tried_three_times_a_minute() -> None:
    mending, tried = Mending(), []
    for now in range(60):
        mending.saw((), ("eth1 came back",))
        if mending.due(now):
            mending.tries()
            mending.sends(now)
            tried.append(now)
    assert tried == [0, 1, 2]


def test_an_apply_ends_the_rest() -> None:
    mending = Mending()
    for now in (1.0, 2.0, 3.0):
        mending.saw(("class video is gone",), ())
        mending.sends(now)
    mending.saw(("class video is gone",), ())
    assert not mending.due(4.0)
    assert "put back 3 times within a minute, now left alone for 600s" in mending.alarm("eth1", 3.0)
    mending.renew(Drift.MEND)
    mending.saw(("class video is gone",), ())
    assert mending.due(5.0)


def seconds(bench: Bench, *steps: Callable[[], Any], settings: Settings | None = None, last: int = 8) -> Watching:
    """Serves for some seconds, and calls a step every eighth second."""
    count = 0

    def at() -> None:
        nonlocal count
        if count % last == 0 and count // last < len(steps):
            steps[count // last]()
        count += 1
        if count == last * len(steps):
            bench.stop()

    watcher = Watching(at)
    bench.serve(watcher, settings)
    return watcher


def alarms(watcher: Watching) -> str:
    return "; ".join(watcher.statuses[0].alarms)


def changed(bench: Bench, **fields: int) -> None:
    bench.kernel.put("eth1", replace(rest_of(bench.kernel.read("eth1")), **fields))


STRUCTURED = Settings(mode=Mode.STRUCTURED)


@pytest.mark.parametrize("fields", [{"ceil": 5_000_000}, {"rate": 2_400_000}, {"prio": 5}])
def test_a_field_is_put_back_with_a_line_in_the_history(bench: Bench, fields: dict[str, int]) -> None:
    """The rate is inside the controller's bounds, and yet nobody but the controller may move it."""
    watcher = seconds(bench, lambda: changed(bench, **fields), settings=STRUCTURED)
    (name,) = fields
    assert f"put back what somebody changed: class rest 5a00:12: {name} is" in " ".join(watcher.said)
    assert watcher.statuses[0].mends == 1
    assert "somebody" not in alarms(watcher)
    cls = rest_of(bench.kernel.read("eth1"))
    assert getattr(cls, name) != fields[name]
    lines = ChangeLog(DeviceState(bench.folder, "eth1").folder).all()
    assert [line.what for line in lines] == ["run", "mend"]
    assert f"{name} is" in lines[1].why


@pytest.mark.parametrize(
    ("key", "option", "mends"),
    [
        ("mend", Drift.REPORT, 0),
        ("report", None, 0),
        ("report", Drift.MEND, 1),
        ("mend", None, 1),
    ],
)
def test_report_only_says_so_and_the_option_overrides_the_key(
    bench: Bench, key: str, option: Drift | None, mends: int
) -> None:
    bench.policy = parse_policy(TEXT.replace("policy: office}", f"policy: office, drift: {key}}}"), source="o.yaml")
    settings = replace(STRUCTURED, drift=option)
    watcher = seconds(bench, lambda: changed(bench, ceil=5_000_000), settings=settings)
    status = watcher.statuses[0]
    assert status.mends == mends
    if mends:
        return
    assert status.drift[0].startswith("class rest 5a00:12: ceil is 5mbit, ours is ")
    assert "an apply puts it back" in alarms(watcher)


def test_a_fourth_time_within_a_minute_is_an_alarm(bench: Bench) -> None:
    attack = lambda: changed(bench, prio=5)  # noqa: E731
    watcher = seconds(bench, *[attack] * 4, settings=STRUCTURED)
    status = watcher.statuses[0]
    assert status.mends == 3
    assert "put back 3 times within a minute" in alarms(watcher)
    assert any(cls.prio == 5 for cls in bench.kernel.read("eth1").classes), "left alone"


@pytest.mark.parametrize("times", [1, 5])
@pytest.mark.parametrize("drift", list(Drift))
def test_a_device_that_comes_back_has_its_tree_again(bench: Bench, drift: Drift, times: int) -> None:
    """However often, and also where changes by others are only told: nobody made this one."""
    facts = bench.kernel.link("eth1")
    before: list[Tree] = []

    def gone() -> None:
        before.append(bench.kernel.read("eth1"))
        bench.kernel.remove_device("eth1")

    def back() -> None:
        assert watcher_alarm(bench)
        bench.kernel.add_device("eth1", replace(facts, index=facts.index + 40 + len(before)))

    settings = replace(STRUCTURED, drift=drift)
    watcher = seconds(bench, *[gone, back] * times, settings=settings)
    assert watcher.statuses[0].mends == times
    assert "fitted to the device: eth1 came back" in " ".join(watcher.said)
    assert "somebody" not in " ".join(watcher.said)
    assert bench.kernel.read("eth1") == before[0]


INSIDE = TEXT.replace("      rest:", "      office: {match: [{src: 10.0.0.0/24}]}\n      rest:")


def test_rules_that_translate_are_followed_as_they_come_and_go(bench: Bench) -> None:
    bench.policy = parse_policy(INSIDE, source="office.yaml")
    found: list[int] = []

    def translating(why: str) -> None:
        found.append(len(bench.kernel.tables("eth1")))
        bench.kernel.change_link("eth1", translates=why)

    def forgotten() -> None:
        found.append(len(bench.kernel.tables("eth1")))
        bench.kernel.forget_table("sla-shaper-eth1")

    steps = (lambda: translating("a rule masquerades"), forgotten, lambda: translating(""), lambda: translating(""))
    watcher = seconds(bench, *steps, settings=STRUCTURED)
    assert found == [0, 1, 1, 0]
    said = " ".join(watcher.said)
    assert "fitted to the device: the translation of eth1 is a rule masquerades, was none" in said
    assert "put back what somebody changed: nftables table inet sla-shaper-eth1 is gone" in said


def test_the_table_of_a_device_that_went_is_there_when_it_comes_back(bench: Bench) -> None:
    bench.policy = parse_policy(INSIDE.replace("policy: office}", "policy: office, nat: yes}"), source="office.yaml")
    before: list[Tree] = []

    def gone() -> None:
        before.append(bench.kernel.read("eth1"))
        bench.kernel.remove_device("eth1")

    seconds(bench, gone, lambda: bench.kernel.add_device("eth1"), settings=STRUCTURED)
    assert before[0].tables
    assert bench.kernel.read("eth1") == before[0]


def watcher_alarm(bench: Bench) -> bool:
    return any("eth1" in alarm for status in bench.service.statuses() for alarm in status.alarms)


def test_status_without_a_run_names_the_policy_s_fields_only(bench: Bench) -> None:
    seconds(bench, lambda: None, settings=STRUCTURED)
    state = DeviceState(bench.folder, "eth1")
    held = bench.kernel.read("eth1")
    moved = with_grants(held, {rest_of(held).handle: Granted(2_400_000, 20_000_000, 150_000)})
    bench.kernel.put("eth1", rest_of(moved))
    status = look(bench.kernel, state, now=0.0)
    assert status.drift == ()
    (alarm,) = status.alarms
    assert "eth1 holds no static allocation: class rest 5a00:12: rate is 2.4mbit, ours is " in alarm
    assert "`shaper rollback --static` puts it back" in alarm
    changed(bench, prio=5)
    assert look(bench.kernel, state, now=0.0).drift == ("class rest 5a00:12: prio is 5, ours is 2",)


@pytest.mark.parametrize("on_flap", ["keep", "reapply"])
@pytest.mark.parametrize("how", ["down and up", "another device"])
def test_after_a_flap_the_rates_that_were_found_stay_or_the_policy_s_own_come_back(
    tmp_path: Path, on_flap: str, how: str
) -> None:
    bench = Bench(tmp_path)
    text = TEXT.replace("policy: office}", f"policy: office, on-flap: {on_flap}}}")
    bench.policy = parse_policy(text, source="office.yaml")
    found: dict[str, Tree] = {}

    def moved() -> None:
        run = next(iter(bench.service._fleet))
        allocation = run.loop.controlling.allocation
        lower = {**allocation, "rest": replace(allocation["rest"], rate=8_000_000)}
        found["static"] = bench.kernel.read("eth1")
        run._holding.send(run._holding.program.with_allocation(lower))
        found["moved"] = bench.kernel.read("eth1")
        assert found["moved"] != found["static"]

    def down() -> None:
        if how == "down and up":
            bench.kernel.set_link("eth1", up=False)
        else:
            facts.append(bench.kernel.link("eth1"))
            bench.kernel.remove_device("eth1")

    def up() -> None:
        if how == "down and up":
            bench.kernel.set_link("eth1", up=True)
        else:
            bench.kernel.add_device("eth1", facts[0])

    def after() -> None:
        found["after"] = bench.kernel.read("eth1")

    facts: list[LinkFacts] = []
    settings = Settings(mode=Mode.CONTROLLED, dry_run=True)  # what the controller would do does not blur what is kept
    watcher = seconds(bench, moved, down, up, after, settings=settings)
    assert found["after"] == found["moved" if on_flap == "keep" else "static"]
    assert watcher.statuses[0].mends == (on_flap == "reapply" or how == "another device")
    flapped = "the link of eth1 went down and up" if how == "down and up" else "fitted to the device: eth1 came back"
    assert (flapped in " ".join(watcher.said)) == bool(watcher.statuses[0].mends)
