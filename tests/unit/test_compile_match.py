"""The whole match language: what the kernel's program answers is what the reference answers, field by field."""

from __future__ import annotations

from random import Random
from typing import Any

import frame_samples
import policy_samples
from bpf_machine import Skb, check, run
from frame_samples import Frame
from hypothesis import given
from hypothesis import strategies as st

from shaper.compile.classifier import classifier
from shaper.errors import PolicyError, UnavailableError
from shaper.model.match import Rules, classify
from shaper.policy import parse_policy

randoms = st.integers(0, 2**32).map(Random)


def skb_of(frame: Frame, *, network: int | None = None) -> Skb:
    """As the kernel holds it; the network header is behind the tags, or behind the first where nobody looked."""
    kind = int.from_bytes(frame.data[12:14], "big")
    start = 14 + 4 * frame.tags if network is None else network
    return Skb(frame.data, start, kind, mark=frame.mark, tag=frame.beside)


def accepted(written: dict[str, Any], **more: str) -> Rules:
    """The rules of a policy, without the matches at which it has problems."""
    while True:
        try:
            policy = parse_policy(policy_samples.text_of(written, **more), source="random.yaml")
        except PolicyError as error:
            assert [policy_samples.without(written, problem.path) for problem in error.problems()].count(True)
            written = policy_samples.swept(written)
        else:
            return policy.interfaces[0].rules()


@given(randoms)
def test_the_program_classifies_as_the_reference(random: Random) -> None:
    frames = [frame_samples.frame(random) for _ in range(20)]
    rules = accepted(policy_samples.classes(random, [frame.packet for frame in frames]))
    classids = {path: number for number, path in enumerate({rule.path for rule in rules.ordered} | {"rest"}, 1)}
    try:
        program = classifier(rules, classids)
    except UnavailableError as error:
        assert "words" in error.message
        return
    check(program)
    for frame in frames:
        expected = classids[classify(rules, frame.packet)]
        assert run(program, skb_of(frame)) == expected, (rules, frame)
        assert run(program, skb_of(frame, network=14)) == expected or not frame.tags


@given(randoms)
def test_each_field_alone_tells_packets_apart(random: Random) -> None:
    frames = [frame_samples.frame(random) for _ in range(20)]
    field = random.choice(policy_samples.FIELDS)
    written = policy_samples.classes(random, [frame.packet for frame in frames], fields=[field])
    rules = accepted(written)
    classids = {path: number for number, path in enumerate({rule.path for rule in rules.ordered} | {"rest"}, 1)}
    program = classifier(rules, classids)
    for frame in frames:
        assert run(program, skb_of(frame)) == classids[classify(rules, frame.packet)], (rules, frame)
