"""The classifier as extended BPF means what it means as classic BPF: it writes the class that the reference names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import policy_samples
import pytest
from agreement import PATHS, Totals, Trial
from side_by_side import hang
from sorting import Sorter

from collectors.bpf.delays import KernelDelays
from shaper.compile.classifier import classifier
from shaper.model.match import Rules
from shaper.plan.steps import Plan

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.kernel

POLICIES, PACKETS = 20, 20


class ByPriority(Sorter):
    """Sorts by what a program in front of the queue writes into the packet; no filter stands at the root."""

    def obey(self, rules: Rules) -> Plan:
        program = classifier(rules, self._classids, devices=self.devices())
        plan = super().obey(rules) if self.read().root() is None else Plan(self.device)
        made = KernelDelays(classifier=program, handles=(), classify=True)
        hang(self._lab, self.device, made.entry)
        made.close()
        return plan


def test_random_packets_go_where_random_policies_say(netns: Lab) -> None:
    totals, trial = Totals(), Trial(netns, ByPriority(netns, PATHS, lambda rules, classids: ()))
    for seed in range(POLICIES):
        trial.run(seed, PACKETS, totals, policy_samples.BY_TABLES)
    print(totals)
    assert totals.fields["iif"] > 5
    assert not totals.differences, "\n".join([str(totals), *totals.differences[:10]])
    assert totals.policies == POLICIES
    assert totals.by_rule > totals.packets / 4
