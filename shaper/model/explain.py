"""Why a packet belongs to its class: the rule that takes it, what of it held, and the later rules that would have."""

from __future__ import annotations

from typing import NamedTuple

from shaper.model.match import Packet, Rule, Rules, classify


class Explanation(NamedTuple):
    """`rule` is None where no rule takes the packet, so that the default class does.

    `later` are the rules after it that hold too, the first of each match of the policy.
    """

    packet: Packet
    path: str
    rule: Rule | None
    later: tuple[Rule, ...] = ()


def explain(rules: Rules, packet: Packet) -> Explanation:
    """The path is the one of `classify`."""
    held = list(rules.holding(packet))
    path = classify(rules, packet)
    others: dict[tuple[str, int], Rule] = {}
    for rule in held[1:]:
        if rule.all_of[-1] is not held[0].all_of[-1]:
            others.setdefault((rule.path, id(rule.all_of[-1])), rule)
    return Explanation(packet, path, held[0] if held else None, tuple(others.values()))
