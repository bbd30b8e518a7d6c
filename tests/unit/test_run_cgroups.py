"""A cgroup that a policy asks for and that is not there: refused before anything is sent, with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from shaper.compile.groups import groups_asked
from shaper.errors import Exit, UnavailableError
from shaper.kernel.cgroups import present
from shaper.kernel.fake import FakeKernel
from shaper.kernel.protocol import StepError
from shaper.plan import diff
from shaper.policy import parse_policy
from shaper.run import apply
from shaper.run.state import DeviceState
from shaper.tree import tree

POLICY = """\
version: 1
interfaces:
  wan: {device: eth1, bandwidth: {egress: 20mbit}, policy: office}
policies:
  office:
    classes:
      backup: {match: [{dscp: le}, {cgroup: /backup}]}
      both: {match: [{any: [{cgroup: /b}, {cgroup: /backup}]}]}
      rest: {default: true}
"""
POLICY_OF = parse_policy(POLICY, source="office.yaml")


def prepared(kernel: FakeKernel, folder: Path) -> apply.Prepared:
    return apply.prepare(kernel, DeviceState(folder, "eth1"), POLICY_OF, POLICY_OF.interfaces[0])


def test_it_is_refused_at_its_line_and_nothing_is_sent(tmp_path: Path) -> None:
    kernel = FakeKernel("eth1")
    kernel.without_cgroups("/backup")
    with pytest.raises(UnavailableError, match=r"there is no cgroup /backup$") as caught:
        prepared(kernel, tmp_path)
    assert caught.value.exit is Exit.UNAVAILABLE
    assert caught.value.where is not None and (caught.value.where.line, caught.value.where.column) == (7, 36)
    assert caught.value.hint.endswith("mkdir -p /sys/fs/cgroup/backup")
    kernel.without_cgroups("/backup", "/b")
    with pytest.raises(UnavailableError, match=r"there is no cgroup /b, /backup$"):
        prepared(kernel, tmp_path)
    assert not kernel.sent


def test_when_it_is_there_it_is_planned_and_one_that_goes_meanwhile_is_taken_back(tmp_path: Path) -> None:
    kernel = FakeKernel("eth1")
    one = prepared(kernel, tmp_path)
    kernel.without_cgroups("/b")
    with pytest.raises(StepError, match="there is no cgroup /b"):
        apply.apply(kernel, DeviceState(tmp_path, "eth1"), one)
    assert kernel.read("eth1") == tree("eth1", ())
    kernel.without_cgroups()
    apply.apply(kernel, DeviceState(tmp_path, "eth1"), prepared(kernel, tmp_path))
    assert not diff(kernel.read("eth1"), one.target, bounds={}).steps


def test_where_each_is_asked_for_first() -> None:
    asked = groups_asked(POLICY_OF.interfaces[0].rules())
    assert {path: where and where.line for path, where in asked.items()} == {"/backup": 7, "/b": 8}


def test_of_this_machines_groups_only_those_that_are_there() -> None:
    assert present(["/surely-not-there"]) == frozenset()
