"""A change of both directions, or of several devices, killed anywhere: all of it holds or none, and nothing is left."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from change_samples import Death
from test_run_directions import IN, OUT, TEXT, WIDER

from shaper.cli import apply as applying
from shaper.cli import clear as clearing
from shaper.cli import rollback as going_back
from shaper.errors import TryAgainError
from shaper.history.changes import ChangeLog
from shaper.kernel.fake import FakeKernel, Killed
from shaper.kernel.protocol import StepError
from shaper.model.change import Change, Who, outcomes
from shaper.policy import parse_policy
from shaper.run import changes, confirm
from shaper.run.before import unfinished
from shaper.run.changes import Order
from shaper.run.look import look
from shaper.run.prepare import prepare
from shaper.run.state import DeviceState, both_directions
from shaper.run.together import together
from shaper.run.waiting import read_waiting

TWO = """\
version: 1
interfaces:
  wan: {device: eth1, bandwidth: {egress: 20mbit}, policy: office}
  lan: {device: eth2, bandwidth: {egress: 50mbit}, policy: office}
policies:
  office:
    classes:
      voice: {tier: special, guarantee: 5%, limit: 10%, match: [{dscp: ef}]}
      rest: {guarantee: 60%, default: true}
"""
TWO_WIDER = TWO.replace("limit: 10%", "limit: 15%")
ORDER = Order(Who(0), 1.7e9)


class Site:
    """Two devices and the commands themselves, given a kernel to run or to die on."""

    def __init__(self, folder: Path) -> None:
        self.kernel = FakeKernel("eth1", "eth2")
        self.folder = folder

    def apply(self, text: str, kernel: Any = None, seconds: float = 0.0) -> None:
        policy = parse_policy(text, source="office.yaml")
        wish = applying._Wish("", "a1b2c3" if seconds else "", seconds)
        applying._apply_here(
            kernel or self.kernel,
            policy,
            list(policy.interfaces),
            saved=None,
            wish=wish,
            folder=self.folder,
            as_json=True,
        )

    def rollback(self, kernel: Any = None) -> None:
        going_back._back(kernel or self.kernel, both_directions(self.folder, "eth1"), None, "")

    def clear(self, kernel: Any = None) -> None:
        clearing._clear_here(kernel or self.kernel, both_directions(self.folder, "eth1"), "")

    def sides(self) -> list[DeviceState]:
        return [side for device in ("eth1", "eth2") for side in both_directions(self.folder, device)]

    def held(self) -> tuple[Any, ...]:
        return tuple(self.kernel.read(side.shaped, fed_by=side.fed_by) for side in self.sides())

    def tidy(self) -> None:
        """What the next command does that changes anything on eth1."""
        with self.sides()[0].lock():
            for side in self.sides()[:2]:
                confirm.tidy(self.kernel, side, now=1000.0, order=ORDER)

    def log(self, side: DeviceState) -> tuple[Change, ...]:
        return outcomes(ChangeLog(side.folder).all())

    def assert_settled(self) -> None:
        """What is on disk agrees with the kernel, and nothing is under way."""
        for side in self.sides():
            record = side.record()
            assert not side.pending()
            assert unfinished(side) is None
            assert not [change for change in self.log(side) if change.result == "begun"]
            assert (record is None) == (not self.kernel.read(side.shaped, fed_by=side.fed_by).classes)
            if record is None:
                continue
            policy = parse_policy(record.text, source="office.yaml")
            (interface,) = (one for one in policy.interfaces if one.shaped == side.shaped)
            assert not prepare(self.kernel, side, policy, interface).plan.steps
            if not read_waiting(side):
                assert {change.number: change.result for change in self.log(side)}[record.change] == "done"


def killed_everywhere(
    tmp_path: Path, first: str, act: Callable[[Site, Any], None], ready: Callable[[Site], None] = lambda _: None
) -> Iterator[tuple[Site, Any, Any]]:
    """Each site on which `act` was killed, with what stood before it and what stands after a whole one."""

    def fresh(name: str) -> Site:
        site = Site(tmp_path / name)
        if first:
            site.apply(first)
        ready(site)
        return site

    probe = fresh("probe")
    before, death = probe.held(), Death(probe.kernel)
    with death.watching():
        act(probe, death)
    after = probe.held()
    assert death.count > 10
    for at in range(death.count):
        site = fresh(f"{at}")
        dying = Death(site.kernel, at)
        with dying.watching(), pytest.raises(Killed):
            act(site, dying)
        yield site, before, after


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "then"),
    [("", TEXT), (TEXT, WIDER), (OUT, TEXT), (TEXT, IN), (TWO, TWO_WIDER)],
    ids=["first", "both", "one more", "one less", "two devices"],
)
def test_an_apply(tmp_path: Path, first: str, then: str) -> None:
    ends = set()
    for site, before, after in killed_everywhere(tmp_path, first, lambda site, kernel: site.apply(then, kernel)):
        site.tidy()
        assert site.held() in (before, after)
        site.assert_settled()
        ends.add(site.held() == after)
        site.apply(then)
        assert site.held() == after
        site.assert_settled()
    assert ends == {True, False}


@pytest.mark.slow
def test_a_rollback_and_a_clear(tmp_path: Path) -> None:
    ready = lambda site: site.apply(WIDER)  # noqa: E731
    for what in ("rollback", "clear"):
        act = lambda site, kernel, what=what: getattr(site, what)(kernel)  # noqa: E731
        for site, before, after in killed_everywhere(tmp_path / what, TEXT, act, ready):
            site.tidy()
            assert site.held() in (before, after)
            site.assert_settled()


@pytest.mark.slow
def test_a_rollback_of_what_waits_is_whole_or_still_waits(tmp_path: Path) -> None:
    ready = lambda site: site.apply(WIDER, seconds=3600.0)  # noqa: E731
    for site, before, after in killed_everywhere(tmp_path, TEXT, lambda site, kernel: site.rollback(kernel), ready):
        site.tidy()
        assert site.held() in (before, after)
        assert [read_waiting(side) is not None for side in site.sides()[:2]] == [site.held() == before] * 2
        site.assert_settled()


def test_an_error_in_the_second_direction_takes_back_the_first(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.apply(TEXT)
    before = site.held()
    site.kernel.sent.clear()
    Site(tmp_path / "probe").apply(TEXT)
    probe = Site(tmp_path / "other")
    probe.apply(TEXT)
    probe.kernel.sent.clear()
    probe.apply(WIDER)
    site.kernel.fail_at(len(probe.kernel.sent) - 1, errno.EINVAL)
    with pytest.raises(StepError):
        site.apply(WIDER)
    assert site.held() == before
    site.assert_settled()
    out, back = (site.log(side)[-1] for side in site.sides()[:2])
    assert (out.result, out.reason) == ("taken back", "another interface of the policy failed")
    assert back.result == "failed"


def half_done(tmp_path: Path) -> Site:
    """Killed between the two directions: the first is the new policy's whole, the second the old one's."""
    probe = Site(tmp_path / "probe")
    probe.apply(TEXT)
    death = Death(probe.kernel)
    with death.watching():
        probe.apply(WIDER, death)
    for at in range(death.count):
        site = Site(tmp_path / f"{at}")
        site.apply(TEXT)
        old = site.held()
        dying = Death(site.kernel, at)
        with dying.watching(), pytest.raises(Killed):
            site.apply(WIDER, dying)
        out, back = site.sides()[:2]
        if site.held()[0] != old[0] and site.held()[1] == old[1] and not out.pending() and not back.pending():
            return site
    raise AssertionError("it was never killed between the two")


@pytest.mark.slow
def test_until_then_plan_counts_it_as_taken_back_and_status_says_so(tmp_path: Path) -> None:
    site = half_done(tmp_path)
    out = site.sides()[0]
    policy = parse_policy(TEXT, source="office.yaml")
    before = unfinished(out)
    assert before is not None
    planned = prepare(site.kernel, out, policy, policy.interfaces[0], before=before)
    assert not planned.plan.steps
    assert "killed in the middle" in "".join(planned.program.notes)
    assert any("killed in the middle" in alarm for alarm in look(site.kernel, out, now=1000.0).alarms)
    site.tidy()
    last = site.log(out)[-1]
    assert last.result == "taken back"
    assert last.reason.startswith("its program was killed")


def test_a_device_that_somebody_else_holds_is_put_right_by_them(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.apply(TWO)
    before = site.held()
    one, two = site.sides()[0], site.sides()[2]
    context = together(site.kernel, [one, two], at=1.0, reason="never heard")
    context.__enter__()
    policy = parse_policy(TWO_WIDER, source="office.yaml")
    for side, interface in zip((one, two), policy.interfaces, strict=True):
        changes.make(site.kernel, side, prepare(site.kernel, side, policy, interface), what="apply", order=ORDER)
    with two.lock():
        site.tidy()
        assert site.held()[0] == before[0]
        assert site.held()[2] != before[2]
        with pytest.raises(TryAgainError), two.lock():
            pass
    with two.lock():
        confirm.tidy(site.kernel, two, now=1000.0, order=ORDER)
    assert site.held() == before
    site.assert_settled()
