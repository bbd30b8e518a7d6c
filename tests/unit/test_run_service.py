"""The loop on the verified fake: hostile requests, faults in a tick, broken outputs; what is left behind is static."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shaper.errors import ShaperError, TryAgainError, UnavailableError
from shaper.history.changes import ChangeLog
from shaper.kernel.fake import FakeKernel
from shaper.model.change import outcomes
from shaper.model.policy import Drift
from shaper.model.status import InterfaceStatus, RunTotals
from shaper.plan.steps import Step, Verb
from shaper.policy import parse_policy, read_policy
from shaper.run.fleet import Fleet
from shaper.run.inbox import Inbox, Request
from shaper.run.interface import InterfaceRun
from shaper.run.service import Service
from shaper.run.settings import Settings
from shaper.run.state import DeviceState

TEXT = """\
version: 1
interfaces:
  wan: {device: eth1, bandwidth: {egress: 20mbit}, policy: office}
policies:
  office:
    classes:
      voice: {tier: special, guarantee: 1mbit, limit: 2mbit, match: [{dscp: ef}], sla: {delay-p99: 20ms}}
      rest: {guarantee: 12mbit, adapt: {min: 2mbit}, default: true}
"""


class Stepped:
    """A clock that goes a tick further at every look at boot time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.ahead = 1.7e9

    def monotonic(self) -> float:
        return self.boot()

    def processor(self) -> float:
        return 0.0

    def boot(self) -> float:
        self.now += 0.3
        return self.now

    def wall(self) -> float:
        return self.now + self.ahead


class Watching:
    """Hears of a run; `at` is called at every second."""

    def __init__(self, at: Callable[[], None] = lambda: None, end: Exception | None = None) -> None:
        self.said: list[str] = []
        self.statuses: Sequence[InterfaceStatus] = ()
        self._at = at
        self._end = end

    def ready(self, statuses: Sequence[InterfaceStatus]) -> None:
        self.statuses = statuses

    def second(self, statuses: Sequence[InterfaceStatus]) -> None:
        self.statuses = statuses
        self._at()

    def told(self, message: str) -> None:
        self.said.append(message)

    def ended(self, totals: Sequence[RunTotals]) -> None:
        if self._end is not None:
            raise self._end


class Bench:
    """A service on the fake, not yet running."""

    def __init__(self, folder: Path) -> None:
        path = folder / "office.yaml"
        path.write_text(TEXT)
        self.kernel = FakeKernel("eth1")
        self.clock = Stepped()
        self.inbox = Inbox()
        self.folder = folder / "state"
        self.policy = read_policy(path)

    def serve(self, watcher: Watching, settings: Settings | None = None) -> Service:
        service = Service(
            self.kernel,
            self.policy,
            self.policy.interfaces,
            folder=self.folder,
            settings=settings or Settings(),
            clock=self.clock,
            inbox=self.inbox,
            watcher=watcher,
        )
        self.service = service
        service.serve(contextlib.nullcontext)
        return service

    def stop(self) -> None:
        self.inbox.put(Request("stop"))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    yield Bench(tmp_path)


def static_tree(bench: Bench) -> Any:
    bench.stop()
    bench.serve(Watching())
    return bench.kernel.read("eth1")


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("apply", {}),
        ("apply", {"text": 5, "source": []}),
        ("apply", {"text": "version: 1", "source": "x"}),
        ("clear", {"device": "nowhere"}),
        ("bogus", {}),
    ],
)
def test_no_request_ends_the_run(bench: Bench, command: str, arguments: dict[str, Any]) -> None:
    bad = Request(command, {"device": "eth1", **arguments})
    bench.inbox.put(bad)
    after = Request("status")
    bench.inbox.put(after)
    bench.stop()
    bench.serve(Watching())
    with pytest.raises(ShaperError):
        bad.wait(0)
    assert after.wait(0)


def test_a_fault_in_a_request_is_told_and_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = Watching()
    request = Request("apply", {"device": "eth1", "text": TEXT, "source": "x"})
    monkeypatch.setattr(Fleet, "go_over", lambda *_, **__: 1 // 0)
    bench.inbox.put(request)
    bench.stop()
    bench.serve(watcher)
    with pytest.raises(ShaperError, match=r"a fault in the shaper itself: ZeroDivisionError.*service"):
        request.wait(0)
    assert any("fault" in line for line in watcher.said)


def test_what_was_cleared_is_not_held_any_more(bench: Bench) -> None:
    requests = [Request("clear", {"device": "eth1"}), Request("clear", {"device": "eth1"})]
    for request in requests:
        bench.inbox.put(request)
    bench.stop()
    bench.serve(Watching())
    assert requests[0].wait(0)


@pytest.mark.parametrize("fault", [ZeroDivisionError("in a tick"), BrokenPipeError(32, "gone"), OSError(24, "files")])
def test_a_fault_anywhere_leaves_the_static_allocation_and_the_lock_free(bench: Bench, fault: Exception) -> None:
    static = static_tree(bench)

    def fail() -> None:
        run = next(iter(bench.service._fleet))
        allocation = run.loop.controlling.allocation
        moved = {**allocation, "rest": replace(allocation["rest"], rate=8_000_000)}
        run._holding.send(run._holding.program.with_allocation(moved))
        assert bench.kernel.read("eth1") != static
        raise fault

    with pytest.raises(type(fault)):
        bench.serve(Watching(fail, end=fault))
    assert bench.kernel.read("eth1") == static
    assert static_tree(bench) == static, "the lock is free"


def test_removed_parts_of_the_tree_are_an_alarm_until_they_are_back(bench: Bench) -> None:
    alarms: list[tuple[str, ...]] = []
    watcher = Watching()
    rest: list[Any] = []

    def at() -> None:
        alarms.append(watcher.statuses[0].alarms)
        if len(alarms) == 2:
            device = bench.kernel.read("eth1")
            rest.extend(node for node in device.filters if node.parent >> 16 != 0xFFFF)
            bench.kernel.send("eth1", [Step(Verb.DELETE, rest[0], None)])
        elif len(alarms) == 6:
            bench.kernel.send("eth1", [Step(Verb.ADD, None, rest[0])])
        elif len(alarms) == 10:
            bench.stop()

    watcher._at = at
    bench.serve(watcher, Settings(drift=Drift.REPORT))
    assert not any("somebody changed" in alarm for alarm in alarms[1])
    assert any("somebody changed" in alarm for alarm in alarms[5])
    assert not any("somebody changed" in alarm for alarm in alarms[9])


def test_a_state_folder_that_goes_does_not_end_the_run(bench: Bench) -> None:
    seconds: list[int] = []
    static = static_tree(bench)

    def at() -> None:
        seconds.append(1)
        if len(seconds) == 1:
            shutil.rmtree(bench.folder)
        elif len(seconds) == 4:
            bench.stop()

    bench.serve(Watching(at))
    assert bench.kernel.read("eth1") == static


def test_a_run_that_cannot_begin_takes_back_what_it_applied(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    found = bench.kernel.read("eth1")

    def gone(device: str) -> Any:
        raise UnavailableError(f"there is no device {device}")

    monkeypatch.setattr(bench.kernel, "counters", gone)
    with pytest.raises(UnavailableError):
        bench.serve(Watching())
    assert bench.kernel.read("eth1") == found


def test_a_storm_of_signals_is_one_request() -> None:
    inbox = Inbox()
    for _ in range(1000):
        inbox.signal("reload")
    inbox.signal("stop")
    commands = [request.command for _ in range(3) if (request := inbox.get(0)) is not None]
    assert commands == ["reload", "stop"]
    inbox.signal("reload")
    assert inbox.get(0) is not None


NEW = TEXT.replace("limit: 2mbit", "limit: 3mbit")


class Talk:
    """What a person does to a run, a second after the other; each line is called once."""

    def __init__(self, bench: Bench, *lines: Callable[[], object]) -> None:
        self._bench = bench
        self._lines = list(lines)
        self.watcher = Watching(self._second)
        self.status: list[InterfaceStatus] = []

    def _second(self) -> None:
        self.status.append(self.watcher.statuses[0])
        if self._lines:
            self._lines.pop(0)()
        else:
            self._bench.stop()

    def hold(self) -> Talk:
        self._bench.inbox = Inbox()
        self._bench.serve(self.watcher)
        return self


def say(bench: Bench, command: str, **arguments: Any) -> Request:
    """A request in the inbox; its answer comes before the next second."""
    request = Request(command, {"device": "eth1", "uid": 7, **arguments})
    bench.inbox.put(request)
    return request


def changed(bench: Bench, text: str = NEW, **confirm: Any) -> Request:
    return say(bench, "apply", text=text, source="new.yaml", confirm={"id": "a1", "judge": False, **confirm})


def told(bench: Bench) -> list[tuple[str, str]]:
    state = DeviceState(bench.folder, "eth1")
    return [(change.what, change.result) for change in outcomes(ChangeLog(state.folder).all())]


def ceil(bench: Bench) -> int:
    return next(cls.ceil for cls in bench.kernel.read("eth1").classes if cls.handle == 0x5A000011)


def test_while_a_change_waits_nothing_moves_and_nothing_else_is_taken(bench: Bench) -> None:
    requests: list[Request] = []
    talk = Talk(
        bench,
        lambda: requests.append(changed(bench, seconds=60)),
        lambda: requests.append(say(bench, "apply", text=TEXT, source="x")),
        lambda: requests.append(say(bench, "clear")),
        lambda: requests.append(say(bench, "extend", id="a1", seconds=60)),
        lambda: requests.append(say(bench, "confirm", id="a1")),
        lambda: None,
    ).hold()
    first, *refused, longer, kept = requests
    (applied,) = first.wait(0)  # type: ignore[misc]
    assert (applied.confirmation, applied.change) == ("a1", 2)
    for request in refused:
        with pytest.raises(TryAgainError, match="waits for its confirmation"):
            request.wait(0)
    assert longer.wait(0)["left_s"] > 100  # type: ignore[index]
    assert kept.wait(0) == {}
    assert talk.status[0].confirmation is None
    for status in talk.status[1:5]:
        assert status.confirmation is not None
        assert status.controller.held == "change 2 waits for its confirmation"
    assert talk.status[-1].confirmation is None
    assert "waits" not in talk.status[-1].controller.held
    assert ceil(bench) == 3_000_000
    assert told(bench)[1:] == [("apply", "confirmed by 4"), ("extend", "done"), ("confirm", "done")]


@pytest.mark.parametrize("how", ["rollback", "lapse", "nobody comes", "judged without data"])
def test_what_is_not_confirmed_is_rolled_back_inside_the_run(bench: Bench, how: str) -> None:
    requests: list[Request] = []
    lines: list[Callable[[], object]] = [
        lambda: requests.append(changed(bench, seconds=3.0, judge=how.startswith("judged")))
    ]
    if how == "rollback":
        lines += [lambda: requests.append(say(bench, "rollback", number=None, who={"uid": 0, "user": "x"}, why="no"))]
    lines += [lambda: None] * 4
    if how == "lapse":
        lines += [lambda: requests.append(say(bench, "lapse", id="a1"))]
    lines += [lambda: None] * 8
    talk = Talk(bench, *lines).hold()
    for request in requests:
        assert request.wait(0)
    assert ceil(bench) == 2_000_000
    assert told(bench)[1] == ("apply", "rolled back by 3")
    assert talk.status[-1].confirmation is None
    last = ChangeLog(DeviceState(bench.folder, "eth1").folder).all()[-1]
    reasons = {"rollback": "no", "judged without data": "nothing was measured"}
    assert reasons.get(how, "nobody confirmed it in time") in last.why
    if how == "rollback":
        assert (last.who.uid, last.who.user) == (7, "x"), "the socket vouches for the uid"


def test_a_run_goes_back_in_its_own_history(bench: Bench) -> None:
    requests: list[Request] = []
    Talk(
        bench,
        lambda: requests.append(say(bench, "apply", text=NEW, source="new.yaml")),
        lambda: requests.append(say(bench, "rollback", number=None)),
        lambda: requests.append(say(bench, "rollback", number=2)),
    ).hold()
    assert all(request.wait(0) for request in requests)
    assert ceil(bench) == 3_000_000
    assert told(bench) == [("run", "done"), ("apply", "done"), ("rollback", "done"), ("rollback", "done")]


def test_a_run_begun_meanwhile_takes_over_the_same_policy_and_refuses_another(bench: Bench) -> None:
    Talk(bench, lambda: changed(bench, text=TEXT + "# the same\n", seconds=600)).hold()
    with pytest.raises(TryAgainError):
        bench.serve(Watching())
    bench.policy = parse_policy(TEXT + "# the same\n", source="new.yaml")
    talk = Talk(bench, lambda: say(bench, "confirm", id="a1"), lambda: None).hold()
    assert talk.status[0].confirmation is not None
    assert talk.status[-1].confirmation is None


def test_a_run_does_not_bring_up_what_nobody_confirmed(bench: Bench) -> None:
    Talk(bench, lambda: changed(bench, seconds=600), lambda: say(bench, "rollback")).hold()
    bench.policy = parse_policy(NEW, source="new.yaml")
    talk = Talk(bench).hold()
    assert ceil(bench) == 2_000_000
    assert any("never confirmed" in alarm for alarm in talk.status[0].alarms)


def test_between_ticks_it_tends_what_cannot_wait(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    tended: list[float] = []
    monkeypatch.setattr(InterfaceRun, "wait", 0.0)
    monkeypatch.setattr(InterfaceRun, "tend", lambda run: tended.append(bench.clock.now))
    bench.serve(Watching(bench.stop), Settings(tick=3.0))
    assert len(tended) >= 3
    assert all(later - earlier < 3.0 for earlier, later in itertools.pairwise(tended[:3]))
