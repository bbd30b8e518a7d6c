"""One run holds both directions of a device: a reload may add one or take one out, all or none."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_run_directions import IN, OUT, TEXT
from test_run_service import Bench, Watching

from shaper.api.wire import answer_json
from shaper.errors import ShaperError
from shaper.model.policy import Direction
from shaper.policy import read_policy
from shaper.run.inbox import Request
from shaper.run.state import both_directions
from shaper.tree import CLSACT, tree

LOOSER = TEXT.replace("limit: 10%", "limit: 15%")


class Both(Bench):
    """The bench with a policy of both directions, or another."""

    def __init__(self, folder: Path, text: str = TEXT) -> None:
        super().__init__(folder)
        self.path = folder / "office.yaml"
        self.path.write_text(text)
        self.policy = read_policy(self.path)

    def held(self) -> Any:
        return self.kernel.read("eth1"), self.kernel.read("shi-eth1", fed_by="eth1")

    def ask(self, command: str, **arguments: Any) -> Request:
        request = Request(command, {"device": "eth1", **arguments})
        self.inbox.put(request)
        return request

    def run_with(self, act: Callable[[], None]) -> Watching:
        """Does something at the first second, and ends at the third."""
        seconds: list[int] = []

        def at() -> None:
            seconds.append(1)
            if len(seconds) == 1:
                act()
            elif len(seconds) == 3:
                self.stop()

        watcher = Watching(at)
        self.serve(watcher)
        return watcher


@pytest.fixture
def straight(tmp_path: Path) -> Callable[[str], Any]:
    """What the kernel holds after a run of a policy from the start."""

    def held(text: str) -> Any:
        folder = tmp_path / f"straight-{abs(hash(text))}"
        folder.mkdir()
        bench = Both(folder, text)
        bench.stop()
        bench.serve(Watching())
        return bench.held()

    return held


def test_both_directions_have_a_status_of_their_own(tmp_path: Path) -> None:
    bench = Both(tmp_path)
    bench.stop()
    watcher = Watching()
    bench.serve(watcher)
    assert [(one.device, one.direction, one.bandwidth) for one in watcher.statuses] == [
        ("eth1", Direction.EGRESS, 20_000_000),
        ("eth1", Direction.INGRESS, 100_000_000),
    ]
    assert [one.place for one in watcher.statuses] == ["eth1", "eth1 (ingress)"]
    histories = [state.history for state in bench.service.states]
    assert histories == [bench.service.states[0].history], "one lock and one socket for a device"
    for folder in ("eth1", "eth1/ingress"):
        assert list(bench.folder.glob(f"*/{folder}/history.db"))


@pytest.mark.parametrize("first", [TEXT, OUT, IN], ids=["both", "egress", "ingress"])
@pytest.mark.parametrize("then", [LOOSER, OUT, IN], ids=["both", "egress", "ingress"])
@pytest.mark.parametrize("by", ["apply", "reload"])
def test_a_run_goes_over_to_the_directions_of_another_policy(
    tmp_path: Path, straight: Callable[[str], Any], first: str, then: str, by: str
) -> None:
    bench = Both(tmp_path, first)
    requests: list[Request] = []

    def change() -> None:
        bench.path.write_text(then)
        more = {"text": then, "source": "x"} if by == "apply" else {}
        requests.append(bench.ask(by, **more))

    bench.run_with(change)
    applied = answer_json(requests[0].wait(0))["result"]
    assert {one["direction"] for one in applied} == shaped_by(first) | shaped_by(then)
    assert all(one["device"] == "eth1" for one in applied)
    assert bench.held() == straight(then)


def test_a_reload_that_fails_in_one_direction_leaves_both_as_they_were(tmp_path: Path) -> None:
    bench = Both(tmp_path, OUT)
    before: list[Any] = []
    requests: list[Request] = []

    def change() -> None:
        before.append(bench.held())
        bench.kernel.fail_at(10, errno.ENOMEM)
        requests.append(bench.ask("apply", text=LOOSER, source="x"))

    watcher = bench.run_with(change)
    with pytest.raises(ShaperError):
        requests[0].wait(0)
    assert bench.held() == before[0]
    assert [one.direction for one in watcher.statuses] == [Direction.EGRESS]


def test_a_direction_that_the_policy_lost_while_nobody_ran_is_let_go_of(tmp_path: Path) -> None:
    bench = Both(tmp_path)
    bench.stop()
    bench.serve(Watching())
    bench.policy = read_policy(_write(bench.path, IN))
    bench.stop()
    bench.serve(Watching())
    out, back = bench.held()
    assert not out.classes
    assert back.classes
    assert [node.kind for node in out.qdiscs if node.parent == CLSACT] == ["clsact"]


def test_a_clear_takes_both(tmp_path: Path) -> None:
    bench = Both(tmp_path)
    request = bench.ask("clear")
    bench.serve(Watching())
    plans = answer_json(request.wait(0))["result"]
    assert [plan["device"] for plan in plans] == ["shi-eth1", "eth1"]
    assert bench.held() == (tree("eth1", ()), tree("shi-eth1", ()))


@pytest.mark.parametrize("command", ["clear", "release"])
def test_what_fails_in_the_second_direction_puts_the_first_back(tmp_path: Path, command: str) -> None:
    """At every step; and the runs go on measuring both."""
    for step in range(40):
        (tmp_path / f"{step}").mkdir()
        bench = Both(tmp_path / f"{step}")
        before: list[Any] = []
        requests: list[Request] = []

        def end(bench: Both = bench, before: list[Any] = before, requests: list[Request] = requests) -> None:
            before.append(bench.held())
            bench.kernel.fail_at(step, errno.ENOMEM)  # noqa: B023
            requests.append(bench.ask(command))

        watcher = bench.run_with(end)
        try:
            requests[0].wait(0)
        except ShaperError:
            pass
        else:
            break
        assert bench.held() == before[0], step
        assert [one.direction for one in watcher.statuses] == [Direction.EGRESS, Direction.INGRESS]
        sides = both_directions(bench.folder, "eth1")
        assert all(side.record() for side in sides)
    assert 1 < step < 39


def test_a_run_that_cannot_begin_takes_back_both(tmp_path: Path) -> None:
    bench = Both(tmp_path)
    bench.kernel.fail_at(18, errno.ENOMEM)
    with pytest.raises(ShaperError):
        bench.serve(Watching())
    assert bench.held() == (tree("eth1", ()), tree("shi-eth1", ()))


def shaped_by(text: str) -> set[str]:
    line = next(line for line in text.splitlines() if "bandwidth" in line)
    return {direction.value for direction in Direction if f"{direction}:" in line}


def _write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path
