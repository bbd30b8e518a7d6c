"""The same steps against the fake and against a full kernel, for what filters do to packets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from test_kernel_contract import BASE, DEVICE, TOP, add, answer, change, classifier, compare, delete, fake, flower, real

from shaper.kernel.fake import FULL, FakeKernel
from shaper.kernel.netlink import NetlinkKernel
from shaper.plan.steps import Step
from shaper.tree import DROP, OK, PIPE, Action, Checksum, Finish, Police, SetDscp, SetMeta, jump, ticks

__all__ = ["real"]

RATE = 8_000_000
POLICE = Police(0x5A123456, RATE, ticks(20_000, RATE), OK, DROP)
PEAK = Police(0x5A123457, 2 * RATE, ticks(20_000, 2 * RATE), PIPE, jump(2))
SLOWER = replace(POLICE, rate=RATE // 2)
COLOURED: tuple[Action, ...] = (PEAK, POLICE, SetDscp(4, 14), Checksum(), Finish())
LARGER = replace(POLICE, index=0x5A123458, overhead=18, mpu=64)
CELLS = replace(POLICE, index=0x5A123459, overhead=10, atm=True)
COUNTED: tuple[Action, ...] = (Finish(jump(2)), Finish(OK, 0x5A123456), LARGER, CELLS)
TURNED: tuple[Action, ...] = (Finish(jump(2)), Finish(DROP, 0x5A123456), LARGER, CELLS)
MARKED: tuple[Action, ...] = (SetDscp(6, 46), SetMeta(0x10, 0xFF, 6))

SCENARIOS: dict[str, list[Step]] = {
    "every action, up and down": [
        *BASE,
        add(classifier(actions=COLOURED)),
        add(classifier(handle=2, actions=MARKED)),
        add(replace(flower(dport=80), actions=COLOURED)),
        delete(replace(flower(dport=80), actions=COLOURED)),
        delete(classifier(handle=2)),
        delete(classifier()),
    ],
    "actions come, change and go": [
        *BASE,
        add(classifier()),
        change(classifier(actions=MARKED), before=classifier()),
        change(classifier(actions=COLOURED), before=classifier(actions=MARKED)),
        change(classifier(), before=classifier(actions=COLOURED)),
        add(flower(dport=80)),
        change(replace(flower(dport=80), actions=MARKED), before=flower(dport=80)),
        change(flower(dport=80), before=replace(flower(dport=80), actions=MARKED)),
    ],
    "what asks for a policer that is there gets it as it is": [
        *BASE,
        add(classifier(actions=(POLICE,))),
        add(classifier(handle=2, actions=(SLOWER,))),
        add(replace(flower(dport=80), actions=(SLOWER,))),
    ],
    "a policer becomes another in all its filters": [
        *BASE,
        add(classifier(actions=(POLICE,))),
        add(classifier(handle=2, actions=(Finish(PIPE), POLICE))),
        change(classifier(actions=(SLOWER,)), before=classifier(actions=(POLICE,))),
        change(classifier(handle=2, actions=(SLOWER,)), before=classifier(handle=2, actions=(SLOWER,))),
    ],
    "verdicts that are counted, and packets that count for more": [
        *BASE,
        add(classifier(actions=COUNTED)),
        add(classifier(handle=2, actions=COUNTED)),
        change(classifier(handle=2, actions=TURNED), before=classifier(handle=2, actions=COUNTED)),
        delete(classifier()),
        delete(classifier(handle=2)),
    ],
    "what is none": [
        *BASE,
        add(classifier(actions=(Finish(),) * 33)),
        add(classifier(actions=(Finish(),) * 32)),
        change(classifier(actions=(SetMeta(7),), mirror="peer0")),
    ],
}


@pytest.mark.full
@pytest.mark.parametrize("name", SCENARIOS)
def test_the_fake_answers_as_the_kernel_does(name: str, real: Callable[[], NetlinkKernel]) -> None:
    compare(SCENARIOS[name], fake(), real())


@pytest.mark.parametrize("name", SCENARIOS)
def test_on_the_fake_alone_a_refused_step_changes_nothing(name: str) -> None:
    model = fake()
    for step in SCENARIOS[name]:
        before = model.read(DEVICE)
        if answer(model, step) != (0, 0):
            assert model.read(DEVICE) == before, step


def test_an_action_that_the_kernel_lacks_is_refused() -> None:
    model = FakeKernel(DEVICE, capabilities=replace(FULL, actions=frozenset({"mirred"})))
    model.send(DEVICE, BASE)
    assert answer(model, add(classifier(actions=(POLICE,))))[0] == 2
    root = model.read(DEVICE).root()
    assert root is not None and root.handle == TOP and not model.read(DEVICE).filters
