"""Classic BPF as extended BPF: the same answer for every packet, and nothing that the kernel's checker refuses."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
import wide_machine
from bpf_machine import Skb, run
from hypothesis import given
from hypothesis import strategies as st
from packet_samples import LEAVES, rules, sample

from collectors.bpf.translate import Wide, hand_over
from collectors.ring import Instruction
from shaper.compile.classifier import classifier
from shaper.compile.parse import ETHERNET_HEADER

RETURN = 0x06


def translated(program: list[Instruction]) -> list[Wide]:
    return hand_over(program, programs=3, hardware_type=1)


def framed(skb: Skb) -> Skb:
    """With the ethertype in its frame, where it has one."""
    if skb.network != ETHERNET_HEADER:
        return skb
    return replace(skb, data=skb.data[:12] + skb.protocol.to_bytes(2, "big") + skb.data[14:])


@given(st.randoms(use_true_random=False))
def test_every_packet_gets_the_same_answer(random: Random) -> None:
    asked, classids = rules(random), {path: 0x5A000010 + number for number, path in enumerate(LEAVES)}
    program = classifier(asked, classids)
    wides = [translated([tuple(insn) for insn in one]) for one in (program, classifier(asked, classids, quick=True))]
    for _ in range(20):
        skb = framed(sample(random).skb)
        for wide in wides:
            for head in (None, random.randrange(64)):  # of packets in more pieces than one, too
                answer = wide_machine.run(wide, skb, head=head)
                assert run(program, skb) == (answer or 0)


def test_what_cannot_be_reached_is_left_out() -> None:
    """The kernel suffers it in a classic program only."""
    wide = translated([(0x05, 0, 0, 1), (RETURN, 0, 0, 7), (RETURN, 0, 0, 8)])
    assert 7 not in [one.constant for one in wide]
    assert 8 in [one.constant for one in wide]


@pytest.mark.parametrize(
    "program",
    [
        [(0x34, 0, 0, 3), (RETURN, 0, 0, 0)],  # a division
        [(0x20, 0, 0, 0xFFFFF000 + 52), (RETURN, 0, 0, 0)],  # SKF_AD_PAY_OFFSET
    ],
)
def test_what_has_no_translation_is_refused(program: list[Instruction]) -> None:
    with pytest.raises(ValueError, match="no"):
        translated(program)


def test_a_jump_beyond_16_bits_is_a_long_one() -> None:
    far = [(0x05, 0, 0, 1 << 15), *[(0x15, 0, 1, 1)] * (1 << 15), (RETURN, 0, 0, 0), (RETURN, 0, 0, 0)]
    wide = translated([(0x15, 0, 1, 0), *far])
    long = [place for place, one in enumerate(wide) if one.code == 0x06]
    assert [wide[place].offset for place in long] == [0] * len(long)
    assert wide[long[0] + 1 + wide[long[0]].constant].code == 0xB4  # the return
