"""When the program that measures may write the class on the packet: where it changes nothing but the time it takes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from compile_samples import ETHERNET

from shaper.compile import compile_interface
from shaper.compile.program import Program
from shaper.kernel.fake import FULL
from shaper.model.policy import Direction
from shaper.policy import parse_policy
from shaper.tree import Capabilities, LinkFacts

CABLE = replace(ETHERNET, heeds=False)
ABLE = replace(FULL, features=FULL.features | {"ebpf", "lookup"})
POLICY = """\
version: 1
interfaces:
  wan: {{device: eth1, bandwidth: {{egress: 20mbit, ingress: 50mbit}}, policy: office{interface}}}
policies:
  office:
    classes:
      voice: {{guarantee: 5%, limit: 10%, match: [{{{match}}}]{voice}}}
      rest: {{guarantee: 50%, default: true{rest}}}
"""


def compiled(
    *,
    interface: str = "",
    match: str = "dscp: ef",
    voice: str = "",
    rest: str = "",
    link: LinkFacts = CABLE,
    able: Capabilities = ABLE,
    direction: Direction = Direction.EGRESS,
) -> Program:
    text = POLICY.format(interface=interface, match=match, voice=voice, rest=rest)
    wanted = (one for one in parse_policy(text, source="p.yaml").interfaces if one.direction is direction)
    program = compile_interface(next(wanted), able, link, stamp="test")
    assert program.stamp, program.unstamped
    return program


@pytest.mark.parametrize("match", ["dscp: ef", "iif: eth1"])
def test_by_one_filter_of_bpf_on_htb(match: str) -> None:
    assert compiled(match=match).sorting


@pytest.mark.parametrize(
    "written",
    [
        {"voice": ", set: {mark: 7}"},
        {"rest": ", set: {dscp: af11}"},
        {"voice": ", police: {cir: 8mbit, cbs: 10kb}"},
        {"interface": ", classifier: flower"},
        {"interface": ", classifier: u32"},
        {"interface": ", backend: hfsc"},
    ],
)
def test_not_where_the_filter_does_more_or_means_less(written: dict[str, str]) -> None:
    assert not compiled(**written).sorting  # type: ignore[arg-type]


def test_not_where_somebody_behind_the_queue_may_go_by_it() -> None:
    assert not compiled(link=ETHERNET).sorting
    assert not compiled(direction=Direction.INGRESS).sorting


def test_a_program_that_sorts_has_another_name() -> None:
    assert compiled().stamp != compiled(link=ETHERNET).stamp
