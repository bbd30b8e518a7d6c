"""A link that moves, followed by a run on the verified fake: what it sends, keeps, takes back and says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from compile_samples import ETHERNET, FULL_KERNEL
from test_run_service import Bench, Watching

from collectors.probe.log import Outcome
from shaper.cli.entry import cli
from shaper.compile import compile_interface
from shaper.compile.program import Program
from shaper.history.store import History
from shaper.kernel.protocol import ClassCounters
from shaper.model.link_rate import LinkSample
from shaper.model.observation import CaptureHealth, Observation
from shaper.model.policy import Interface
from shaper.model.status import InterfaceStatus
from shaper.plan import adopt_live, diff
from shaper.plan.fingerprint import fingerprint
from shaper.policy import parse_policy
from shaper.report.link_rate import link_words
from shaper.report.metrics import families
from shaper.run.following import Following
from shaper.run.probing import Worker
from shaper.run.settings import Settings
from shaper.run.state import DeviceState
from shaper.tree import link_of

M = 10**6
TEXT = """\
version: 1
interfaces:
  wan:
    device: eth1
    bandwidth: {egress: {min: 5mbit, base: 20mbit, max: 25mbit}}
    reflectors: {to: [192.0.2.1]}
    policy: office
policies:
  office:
    classes:
      voice: {tier: special, guarantee: 1mbit, limit: 2mbit, match: [{dscp: ef}], sla: {delay-p99: 20ms}}
      rest: {guarantee: 12mbit, adapt: {min: 2mbit}, default: true}
"""
CAKE = f"""{TEXT[: TEXT.index("    policy")]}\
    backend: cake
    policy: office
policies:
  office:
    classes:
      rest: {{default: true}}
"""


def interface_of(text: str) -> Interface:
    (found,) = parse_policy(text, source="office.yaml").interfaces
    return found


KERNEL = replace(FULL_KERNEL, qdiscs=FULL_KERNEL.qdiscs | {"cake"})


def compiled(text: str = TEXT) -> Program:
    return compile_interface(interface_of(text), KERNEL, ETHERNET)


# --- the tree


@pytest.mark.parametrize("text", [TEXT, CAKE])
def test_the_rate_of_the_link_is_the_controllers_own_inside_its_bounds(text: str) -> None:
    program = compiled(text)
    moved = program.with_allocation(program.static, link=8 * M)
    assert program.link_in(moved) == 8 * M
    bounds = program.field_bounds()
    assert adopt_live(moved, program.tree, bounds=bounds) == moved
    assert not diff(moved, program.tree, bounds=bounds).steps
    assert fingerprint(moved, bounds) == fingerprint(program.tree, bounds)
    outside = program.with_allocation(program.static, link=40 * M)
    assert adopt_live(outside, program.tree, bounds=bounds) == program.tree
    assert fingerprint(outside, bounds) != fingerprint(program.tree, bounds)


def test_leaves_fall_before_the_link_does_and_rise_after_it() -> None:
    program = compiled()
    link = link_of(program.tree)
    assert link is not None
    rest = replace(program.static["rest"], rate=12 * M)
    high = program.with_allocation({**program.static, "rest": rest}, link=20 * M)
    low = program.with_allocation({**program.static, "rest": replace(rest, rate=3 * M)}, link=8 * M)
    falls = [step.node.handle for step in diff(high, low, bounds={}).steps]
    assert falls == [program.handles["rest"], link[0]]
    assert [step.node.handle for step in diff(low, high, bounds={}).steps] == falls[::-1]


def test_what_a_class_may_have_is_of_the_most_and_percentages_are_of_the_base() -> None:
    program = compiled()
    assert program.bounds["rest"].ceil[1] == 25 * M
    assert program.link_in(program.tree) == 20 * M


# --- probes to samples


class Scripted(Worker):
    """Sends nothing; outcomes are put in."""

    def start(self) -> None:
        self.target = 0


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shaper.run.following.Worker", Scripted)


@pytest.fixture
def bench(tmp_path: Path, scripted: None) -> Iterator[Bench]:
    made = Bench(tmp_path)
    made.policy = parse_policy(TEXT, source=str(tmp_path / "office.yaml"))
    yield made


def test_the_wait_in_the_own_queue_is_not_the_links(scripted: None) -> None:
    following = Following(None, _Alarms())  # type: ignore[arg-type]
    following.open(compiled(), rate=20 * M)
    samples = [
        following._sample("a", Outcome(1, 10.0, round_trip=0.14, there=5.12, back=-4.98, waited=0.1, copies=1)),
        following._sample("a", Outcome(2, 11.0)),
    ]
    assert samples[0] == LinkSample("a", 10.0, pytest.approx(0.04), pytest.approx(5.02))
    assert samples[1] == LinkSample("a", 11.0, None)


class _Alarms:
    """Keeps what sounds."""

    def __init__(self) -> None:
        self.said: dict[str, str] = {}

    def sound(self, name: str, words: str) -> None:
        self.said[name] = words

    def end(self, name: str) -> None:
        self.said.pop(name, None)


def test_without_counters_the_rate_is_held_and_then_the_base(scripted: None) -> None:
    following = Following(None, _Alarms())  # type: ignore[arg-type]
    following.open(compiled(), rate=8 * M)
    blind = Observation(0.25, {}, CaptureHealth(running=False), fresh=False)
    rates = []
    for number in range(50):
        decision = following.tick(blind, now=100 + number * 0.25, beside=None)
        assert decision is not None
        rates.append(decision.rate)
    assert set(rates[:39]) == {8 * M}
    assert rates[-1] == 20 * M


def test_a_link_that_stands_is_not_probed(scripted: None) -> None:
    following = Following(None, _Alarms())  # type: ignore[arg-type]
    stands = TEXT.replace("{min: 5mbit, base: 20mbit, max: 25mbit}", "20mbit").replace(
        "    reflectors: {to: [192.0.2.1]}\n", ""
    )
    following.open(compiled(stands), rate=20 * M)
    assert following.tick(Observation(0.25, {}, CaptureHealth(running=False)), now=1.0, beside=None) is None
    assert following.status() is None
    following.open(compiled(), rate=20 * M)
    assert [worker.eager for worker in following._workers.values()] == [True]
    following.open(compiled(stands), rate=20 * M)
    assert not following._workers


# --- a run


class Congested:
    """Sends at 20 Mbit/s into a link whose probes come back ever later."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.seconds = 0
        self.sent = 0
        self.statuses: list[InterfaceStatus] = []
        self.links: list[int] = []
        self.last = bench.clock.now
        self.late = 0.0

    def __call__(self) -> None:
        bench = self.bench
        run = next(iter(bench.service._fleet))
        self.statuses.extend(bench.service.statuses())
        self.links.append(run.loop.controlling.link)
        now, since, self.last = bench.clock.now, self.last, bench.clock.now
        self.sent += int(20 * M * (now - since) / 8)
        handle = run._holding.program.handles["rest"]
        bench.kernel.count("eth1", {handle: ClassCounters(self.sent, self.sent // 1500, 0, 0, 0, 0)})
        (worker,) = run.loop.following._workers.values()
        for number in range(20):
            at = since + (now - since) * number / 20
            self.late = 0.0 if self.seconds < 3 else self.late + 0.02
            worker.settled.append(Outcome(number, at, round_trip=0.04 + self.late, copies=1))
        self.seconds += 1
        if self.seconds == 8:
            bench.stop()


def test_a_run_follows_says_why_and_leaves_the_base(bench: Bench) -> None:
    congested = Congested(bench)
    bench.serve(Watching(congested))
    assert max(congested.links) >= 20 * M
    low = min(congested.links)
    assert 5 * M <= low < 19 * M
    status = congested.statuses[-1]
    assert status.link is not None
    assert status.link.moves > 0
    assert not status.drift, "the rate of the link is the controller's own"
    assert "late" in link_words(status.link)
    rates = {family.name: family.samples[0].value for family in families([status]) if "link" in family.name}
    assert rates["shaper_link_rate_bytes_per_second"] == status.link.rate / 8
    assert rates["shaper_link_moves"] == status.link.moves
    held = bench.kernel.read("eth1")
    link = link_of(held)
    assert link is not None
    assert link[1] == 20 * M, "stop puts the base back"


def test_every_move_of_the_link_is_in_the_journal(bench: Bench) -> None:
    congested = Congested(bench)
    bench.serve(Watching(congested))
    state = DeviceState(bench.folder, "eth1")
    with History(state.history) as store:
        lines = [line.decision.link for line in store.journal(last=100) if line.decision.link is not None]
    assert lines
    for one in lines:
        assert one.reason
        assert one.before != one.after
    assert any("late" in one.reason for one in lines)
    said = [asked(bench.folder, str(number)) for number in range(1, len(lines) + 1)]
    shown = next(text for text in said if "the link: 2" in text and "late" in text)
    assert "mbit ->" in shown


def test_every_move_of_the_link_is_decided_again_when_it_is_replayed(bench: Bench, tmp_path: Path) -> None:
    bench.serve(Watching(Congested(bench)))
    journal = DeviceState(bench.folder, "eth1").history
    with History(journal) as store:
        lines = store.journal(last=100)
    assert [line for line in lines if line.link is not None]
    assert all(line.link is not None for line in lines if line.decision.link is not None)
    command = ["replay", str(journal)]
    done = CliRunner().invoke(cli, command, catch_exceptions=False, standalone_mode=False)
    assert "0 differ" in done.output, done.output
    with History(tmp_path / "history.db") as other:
        for line in lines:
            if line.link is None or line.decision.link is None:
                continue
            calm = replace(line.link, seen=replace(line.link.seen, sent_bytes=0, samples=()))
            other.decide(
                at=line.at,
                device="eth1",
                decision=line.decision,
                applied=True,
                read_back=None,
                inputs=line.inputs,
                link=calm,
            )
    done = CliRunner().invoke(cli, ["replay", str(tmp_path)], catch_exceptions=False, standalone_mode=False)
    assert "link: recorded" in done.output, done.output


def asked(state: Path, number: str) -> str:
    command = ["explain", "decision", number, "--state", str(state)]
    return CliRunner().invoke(cli, command, catch_exceptions=False, standalone_mode=False).output


def test_a_dry_run_decides_and_sends_nothing(bench: Bench) -> None:
    congested = Congested(bench)
    bench.serve(Watching(congested), Settings(dry_run=True))
    assert set(congested.links) == {20 * M}
    assert congested.statuses[-1].link is not None
