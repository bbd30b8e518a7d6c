"""Rates of a policy on an interface: percentages, defaults, network control, and the scaled figures of a mend."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shaper.errors import PolicyError, Where
from shaper.model.policy import Classifier, Direction, Tier, TrafficClass
from shaper.policy import parse_policy
from shaper.policy.kinds import Kind
from shaper.policy.resolve import network_control

BRANCH_OFFICE = (Path(__file__).parents[2] / "policies/branch-office.yaml").read_text()


def text_of(classes: str, bandwidth: str = "20mbit") -> str:
    head = f"version: 1\ninterfaces: {{wan: {{device: eth1, bandwidth: {{egress: {bandwidth}}}, policy: p}}}}\n"
    return f"{head}policies:\n  p:\n    classes:\n{classes}"


def classes_of(classes: str) -> dict[str, TrafficClass]:
    (interface,) = parse_policy(text_of(classes), source="policy.yaml").interfaces
    return {cls.path: cls for cls in interface.walk()}


def test_the_branch_office() -> None:
    policy = parse_policy(BRANCH_OFFICE, source="branch.yaml")
    assert policy.sha256 == hashlib.sha256(BRANCH_OFFICE.encode()).hexdigest()
    interface, incoming = policy.interfaces
    assert (incoming.direction, incoming.bandwidth) == (Direction.INGRESS, 95_000_000)
    assert interface.device_where == Where("branch.yaml", 8, 13)
    voice = interface.classes[1]
    assert (voice.tier, voice.guarantee, voice.limit) == (Tier.SPECIAL, 2_000_000, 5_000_000)
    assert voice.where == Where("branch.yaml", 21, 7)
    assert voice.matches[1].where == Where("branch.yaml", 27, 13)
    assert [leaf.path for leaf in interface.leaves()] == [
        "network-control", "voice", "video", "office/web", "office/rest", "backup",
    ]  # fmt: skip
    assert interface.default().path == "office/rest"


def test_the_classifier_is_auto_unless_it_is_said_and_its_place_is_known() -> None:
    text = text_of("      a: {default: true}\n")
    (interface,) = parse_policy(text, source="p.yaml").interfaces
    assert interface.classifier is Classifier.AUTO
    asked = text.replace("policy: p}}", "policy: p, classifier: flower}}")
    (interface,) = parse_policy(asked, source="p.yaml").interfaces
    assert interface.classifier is Classifier.FLOWER
    assert interface.classifier_where == Where("p.yaml", 2, asked.splitlines()[1].index("flower") + 1)


def test_what_remains_is_what_the_classes_beside_leave() -> None:
    found = classes_of("""
      voice: {guarantee: 10%, limit: remaining, match: [{dscp: 1}]}
      office:
        guarantee: remaining
        classes:
          web: {guarantee: remaining, share: 75%, match: [{dscp: 2}]}
          mail: {guarantee: remaining, share: remaining, match: [{dscp: 3}]}
          rest: {guarantee: 1800kbit, share: 10%, default: true}
      backup: {guarantee: 6mbit, limit: 50%, match: [{dscp: 4}]}
""")
    control = found["network-control"].guarantee
    assert control == 200_000
    assert found["office"].guarantee == 20_000_000 - control - 2_000_000 - 6_000_000
    assert found["voice"].limit == 20_000_000 - control - 11_800_000 - 6_000_000
    assert (found["office/web"].guarantee, found["office/mail"].guarantee) == (8_333_333, 1_666_666)


@given(st.lists(st.integers(8, 5_000_000), max_size=5), st.integers(1, 4))
def test_what_remains_is_never_more_than_there_is(rates: list[int], sharers: int) -> None:
    written = [f"      w{n}: {{guarantee: {rate}bit, match: [{{dscp: {n}}}]}}\n" for n, rate in enumerate(rates)]
    written += [f"      r{n}: {{guarantee: remaining, match: [{{dscp: {n + 20}}}]}}\n" for n in range(sharers)]
    text = text_of("".join([*written, "      rest: {default: true}\n"]))
    try:
        (interface,) = parse_policy(text, source="policy.yaml").interfaces
    except PolicyError as error:
        assert sum(rates) + 200_000 > 20_000_000 - sharers
        assert {problem.kind for problem in error.problems()} <= {
            Kind.GUARANTEES_EXCEED_BANDWIDTH,
            Kind.NOTHING_REMAINS,
        }
        return
    total = sum(cls.guarantee for cls in interface.classes)
    assert 20_000_000 - sharers <= total <= 20_000_000


def test_percentages_are_of_the_parent() -> None:
    found = classes_of("""
      a:
        guarantee: 50%
        limit: 80%
        classes:
          b: {guarantee: 40%, limit: 25%, adapt: {min: 10%}, match: [{dscp: ef}], sla: {throughput: 20%}}
          c: {default: true}
""")
    assert (found["a"].guarantee, found["a"].limit, found["a"].floor) == (10_000_000, 16_000_000, 10_000_000)
    b = found["a/b"]
    assert (b.guarantee, b.limit, b.floor, b.sla.throughput) == (4_000_000, 4_000_000, 1_000_000, 2_000_000)
    assert (found["a/c"].guarantee, found["a/c"].limit) == (0, 16_000_000)


def test_an_inner_class_without_a_guarantee_has_its_childrens_and_their_floors() -> None:
    found = classes_of("""
      a:
        classes:
          b: {guarantee: 4mbit, adapt: {min: 25%}, match: [{dscp: ef}]}
          c: {guarantee: 1mbit, default: true}
""")
    assert (found["a"].guarantee, found["a"].floor) == (5_000_000, 2_250_000)
    assert found["a/b"].floor == 1_250_000


def test_tiers_are_inherited_also_special() -> None:
    found = classes_of("""
      a: {tier: special, limit: 1mbit, match: [{proto: gre}], classes: {b: {match: [{dscp: ef}]}}}
      c: {tier: priority, classes: {d: {match: [{dscp: cs1}]}, e: {tier: standard, default: true}}}
""")
    tiers = {path: cls.tier for path, cls in found.items()}
    assert (tiers["a/b"], tiers["a/other"]) == (Tier.SPECIAL, Tier.SPECIAL)
    assert (tiers["c"], tiers["c/d"], tiers["c/e"]) == (Tier.PRIORITY, Tier.PRIORITY, Tier.STANDARD)


@pytest.mark.parametrize(
    ("written", "weights"),
    [(["", "", ""], [100 / 3] * 3), (["60%", "", ""], [60, 20, 20]), (["70%", "30%", ""], [70, 30, 1])],
)
def test_shares(written: list[str], weights: list[float]) -> None:
    shares = [f"share: {share}, " if share else "" for share in written]
    lines = [f"      c{n}: {{{share}match: [{{dscp: {n}}}]}}\n" for n, share in enumerate(shares[:-1])]
    found = classes_of("".join(lines) + f"      c{len(shares) - 1}: {{{shares[-1]}default: true}}\n")
    assert [found[f"c{n}"].share for n in range(len(weights))] == pytest.approx(weights)


@pytest.mark.parametrize(
    ("bandwidth", "guarantee", "limit"),
    [
        (1_000_000_000, 10_000_000, 100_000_000),
        (20_000_000, 200_000, 2_000_000),
        (2_000_000, 64_000, 640_000),
        (500_000, 50_000, 500_000),
    ],
)
def test_network_control(bandwidth: int, guarantee: int, limit: int) -> None:
    control = network_control(bandwidth, Where("p", 1, 1))
    assert (control.guarantee, control.floor, control.limit) == (guarantee, guarantee, limit)
    assert control.implied and control.tier is Tier.SPECIAL


@given(rates=st.lists(st.integers(10, 40_000), min_size=1, max_size=5), bandwidth=st.integers(1000, 40_000))
def test_the_scaled_figures_of_the_mend_fit(rates: list[int], bandwidth: int) -> None:
    def with_rates(texts: list[str]) -> str:
        lines = [f"      c{n}: {{guarantee: {text}, match: [{{dscp: {n}}}]}}\n" for n, text in enumerate(texts)]
        return text_of("".join(lines) + "      rest: {default: true}\n", f"{bandwidth}kbit")

    try:
        parse_policy(with_rates([f"{rate}kbit" for rate in rates]), source="policy.yaml")
    except PolicyError as error:
        (problem,) = error.problems()
        assert problem.kind == Kind.GUARANTEES_EXCEED_BANDWIDTH
        scaled = re.findall(r"c\d+ (\d[\d.]*\w+)", problem.hint)
        assert len(scaled) == len(rates)
        parse_policy(with_rates(scaled), source="policy.yaml")


RATES = st.one_of(
    st.none(), st.integers(1, 3000).map(lambda rate: f"{rate}kbit"), st.integers(0, 30).map(lambda n: f"{n}%")
)


@st.composite
def class_texts(draw: st.DrawFn, dscps: list[int], depth: int) -> str:
    parts = [
        f"{key}: {value}"
        for key in ("guarantee", "share")
        if (value := draw(RATES)) is not None and (key == "guarantee" or (value.endswith("%") and value != "0%"))
    ]
    if draw(st.booleans()):
        parts.append(f"limit: {draw(st.integers(50, 100))}%")
    if draw(st.booleans()):
        parts.append(f"adapt: {{min: {draw(st.integers(0, 10))}%}}")
    if depth and draw(st.booleans()):
        children = [draw(class_texts(dscps, depth - 1)) for _ in range(draw(st.integers(1, 3)))]
        parts.append("classes: {" + ", ".join(f"c{n}: {child}" for n, child in enumerate(children)) + "}")
    else:
        dscps.append(len(dscps))
        parts.append(f"match: [{{dscp: {dscps[-1]}}}]")
    return "{" + ", ".join(parts) + "}"


@given(data=st.data())
def test_what_is_accepted_fits(data: st.DataObject) -> None:
    dscps: list[int] = []
    texts = [data.draw(class_texts(dscps, 2)) for _ in range(data.draw(st.integers(1, 3)))]
    lines = "".join(f"      t{n}: {text}\n" for n, text in enumerate(texts))
    try:
        policy = parse_policy(text_of(lines + "      rest: {default: true}\n"), source="policy.yaml")
    except PolicyError as error:
        rate_kinds = list(Kind)[list(Kind).index(Kind.GUARANTEES_EXCEED_BANDWIDTH) :]
        assert {problem.kind for problem in error.problems()} <= set(rate_kinds)
        return
    (interface,) = policy.interfaces
    assert sum(cls.guarantee for cls in interface.classes) <= interface.bandwidth
    for top in interface.classes:
        assert top.limit <= interface.bandwidth
    for cls in interface.walk():
        assert 0 <= cls.floor <= cls.guarantee <= cls.limit
        assert cls.share > 0
        assert sum(child.guarantee for child in cls.children) <= cls.guarantee
        assert sum(child.floor for child in cls.children) <= cls.floor or not cls.children
        assert all(child.limit <= cls.limit for child in cls.children)
