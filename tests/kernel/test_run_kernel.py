"""SIGKILL at every step of an apply on a real kernel: before or after, never between."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from shaper.kernel.fake import Killed
from shaper.kernel.protocol import Kernel
from shaper.model.policy import Direction
from shaper.plan.steps import Step
from shaper.policy import parse_policy
from shaper.run import apply
from shaper.run.state import DeviceState
from shaper.tree import tree

pytestmark = pytest.mark.kernel

TEXT = """\
version: 1
interfaces:
  wan: {{device: {device}, bandwidth: {{egress: 20mbit}}, policy: office}}
policies:
  office:
    classes:
      voice: {{tier: special, guarantee: {voice}, limit: 2mbit, match: [{{dscp: ef}}], sla: {{delay-p99: 20ms}}}}
      rest: {{guarantee: 12mbit, adapt: {{min: 2mbit}}, default: true}}
"""


class DyingKernel:
    """The real kernel behind a program that dies before one of its steps."""

    def __init__(self, kernel: Kernel, at: int) -> None:
        self._kernel = kernel
        self._at = at

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kernel, name)

    def send(self, device: str, steps: Sequence[Step]) -> None:
        for step in steps:
            self._at -= 1
            if self._at < 0:
                raise Killed
            self._kernel.send(device, [step])

    def read(self, device: str, *, fed_by: str = "") -> Any:
        if self._at < 0:
            raise Killed
        return self._kernel.read(device, fed_by=fed_by)


def _apply(kernel: Any, state: DeviceState, text: str) -> int:
    policy = parse_policy(text, source="p.yaml")
    (interface,) = (one for one in policy.interfaces if one.direction is state.direction)
    change = apply.prepare(kernel, state, policy, interface)
    apply.apply(kernel, state, change)
    return len(change.plan.steps)


@pytest.mark.parametrize("over", [False, True], ids=["fresh", "over another policy"])
def test_killed_at_every_step_it_is_taken_back(netns: Any, tmp_path: Path, over: bool) -> None:
    device = netns.link_pair().a
    kernel = netns.kernel()
    old = TEXT.format(device=device, voice="1mbit")
    new = TEXT.format(device=device, voice="1500kbit").replace("rest:", "video: {match: [{dscp: af41}]}\n      rest:")
    state = DeviceState(tmp_path, device)
    if over:
        _apply(kernel, state, old)
    before = kernel.read(device)
    policy = parse_policy(new, source="p.yaml")
    count = len(apply.prepare(kernel, state, policy, policy.interfaces[0]).plan.steps)
    assert count >= 3
    for at in range(count):
        with pytest.raises(Killed):
            _apply(DyingKernel(kernel, at), state, new)
        assert state.pending() is not None
        apply.recover(kernel, state)
        assert kernel.read(device) == before, f"killed before step {at}"
    assert _apply(kernel, state, new) == count
    apply.clear(kernel, state)
    assert kernel.read(device) == tree(device, ())


@pytest.mark.parametrize("direction", Direction)
def test_killed_at_every_step_beside_the_other_direction(netns: Any, tmp_path: Path, direction: Direction) -> None:
    """The hook that both use stays under the other, and what comes in goes on coming in."""
    pair = netns.link_pair()
    kernel = netns.kernel()
    text = TEXT.format(device=pair.a, voice="1mbit").replace("20mbit", "20mbit, ingress: 30mbit")
    state = DeviceState(tmp_path, pair.a, direction)
    other = state.other()
    _apply(kernel, other, text)
    beside, before = apply.read(kernel, other), apply.read(kernel, state)
    ping = f"ping -c 1 -W 2 {pair.b_v4}"
    netns.run(ping)
    policy = parse_policy(text, source="p.yaml")
    (interface,) = (one for one in policy.interfaces if one.direction is direction)
    count = len(apply.prepare(kernel, state, policy, interface).plan.steps)
    for at in range(count):
        with pytest.raises(Killed):
            _apply(DyingKernel(kernel, at), state, text)
        netns.run(ping)
        apply.recover(kernel, state)
        assert apply.read(kernel, state) == before, f"killed before step {at}"
        assert apply.read(kernel, other) == beside
    assert _apply(kernel, state, text) == count
    after = apply.read(kernel, state)
    for at in range(len(apply.plan_clear(kernel, state).steps)):
        with pytest.raises(Killed):
            apply.clear(DyingKernel(kernel, at), state)
        netns.run(ping)
        apply.recover(kernel, state)
        assert apply.read(kernel, state) == after, f"killed before step {at} of the clearing"
    for one in (state, other):
        apply.clear(kernel, one)
    assert kernel.read(pair.a) == tree(pair.a, ())
    assert "sh" not in netns.run("ip -br link").replace("shaper", "")
