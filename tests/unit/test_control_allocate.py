"""Who gets how much: floors, tiers, weighted max-min, parents; and the dead bands of the rails."""

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shaper.control import ClassSetup, LinkSetup, ParentSetup, Setup, Tuning
from shaper.control.allocate import Claim, allocate
from shaper.control.rails import fits, recent, settle
from shaper.model.decision import Bounds, Grant
from shaper.model.policy import Tier
from shaper.model.sla import Sla

M = 10**6


def setup(bandwidth, claims, parents=()):
    classes = tuple(
        ClassSetup(
            claim.path,
            claim.tier,
            claim.weight,
            claim.lowest,
            claim.lowest,
            claim.highest,
            Sla(),
            Bounds((claim.lowest, claim.highest), (claim.lowest, claim.highest), (0, M)),
            Grant(claim.lowest, claim.highest, M),
        )
        for claim in claims
    )
    return Setup(LinkSetup(bandwidth), classes, tuple(parents))


def claim(path, tier, lowest, needed, *, weight=1.0, entitled=0.0, held=0.0, highest=20.0):
    return Claim(path, tier, weight, int(lowest * M), entitled * M, needed * M, held * M, int(highest * M))


def shares(bandwidth, *claims, parents=()):
    given_out = allocate(setup(bandwidth * M, claims, parents), claims)
    return {path: (share.rate / M, share.bound) for path, share in given_out.items()}


S, P, B = Tier.SPECIAL, Tier.PRIORITY, Tier.STANDARD

ROWS = [
    (
        "needs are met, what nobody claims is left to borrow",
        20,
        [claim("voice", S, 1, 0.5), claim("video", P, 3, 11), claim("bulk", B, 2, 0)],
        {"voice": (1.0, "floor"), "video": (11.0, "none"), "bulk": (2.0, "floor")},
    ),
    (
        "a higher tier takes what is above the lower one's floor",
        20,
        [claim("video", P, 3, 19), claim("bulk", B, 2, 0, entitled=12)],
        {"video": (18.0, "link"), "bulk": (2.0, "tier")},
    ),
    (
        "where no need fits whole they are shared by weight, and those below keep floors",
        20,
        [
            claim("voice", S, 1, 4),
            claim("a", P, 1, 20, weight=2),
            claim("b", P, 1, 20),
            claim("bulk", B, 1, 5),
        ],
        {"voice": (4.0, "none"), "a": (10.0, "tier"), "b": (5.0, "tier"), "bulk": (1.0, "tier")},
    ),
    (
        "whole needs first, the smallest before",
        20,
        [claim("a", P, 1, 3), claim("b", P, 1, 20), claim("c", P, 1, 15)],
        {"a": (3.0, "none"), "b": (2.0, "peers"), "c": (15.0, "none")},
    ),
    (
        "who has twice the weight may cost twice as much",
        20,
        [claim("a", P, 1, 15, weight=2), claim("b", P, 1, 9)],
        {"a": (15.0, "none"), "b": (5.0, "peers")},
    ),
    (
        "max-min: who can't be met shares what is left by weight",
        20,
        [claim("a", P, 1, 3), claim("b", P, 1, 18), claim("c", P, 1, 19)],
        {"a": (3.0, "none"), "b": (8.5, "peers"), "c": (8.5, "peers")},
    ),
    (
        "what is entitled comes before a neighbour's need beyond its guarantee",
        20,
        [claim("a", P, 2, 20), claim("b", P, 2, 0, entitled=8)],
        {"a": (12.0, "link"), "b": (8.0, "none")},
    ),
    (
        "a floor above the fair share stays",
        12,
        [claim("a", P, 8, 10), claim("b", P, 1, 10)],
        {"a": (10.0, "none"), "b": (2.0, "peers")},
    ),
    (
        "a limit binds its own class only",
        20,
        [claim("voice", S, 1, 15, highest=5), claim("video", P, 3, 11)],
        {"voice": (5.0, "limit"), "video": (11.0, "none")},
    ),
    (
        "what was held comes last, from what is left",
        20,
        [claim("video", P, 3, 3, held=15), claim("bulk", B, 2, 0, entitled=10)],
        {"video": (10.0, "none"), "bulk": (10.0, "none")},
    ),
]


@pytest.mark.parametrize(("what", "bandwidth", "claims", "expected"), ROWS, ids=[row[0] for row in ROWS])
def test_allocation(what, bandwidth, claims, expected):
    assert shares(bandwidth, *claims) == expected


def test_a_parent_s_limit_holds_its_leaves_together():
    found = shares(
        20,
        claim("office/web", P, 1, 8),
        claim("office/rest", P, 1, 8),
        claim("video", P, 1, 8),
        parents=[ParentSetup("office", 6 * M, ("office/web", "office/rest"))],
    )
    assert found == {"office/web": (3.0, "parent"), "office/rest": (3.0, "parent"), "video": (8.0, "none")}


rates = st.integers(0, 2_500).map(lambda units: units * 8000)


@st.composite
def cases(draw):
    """A link, leaves in some tiers, a parent over some of them, and claims of any size."""
    bandwidth = draw(st.integers(1, 2_500)) * 8000 + draw(st.integers(0, 7))
    count = draw(st.integers(1, 7))
    floor = bandwidth // count // 8 * 8
    claims = []
    for index in range(count):
        lowest = draw(st.integers(0, floor // 8)) * 8
        highest = max(lowest, draw(rates))
        wants = [draw(st.floats(0, 3e7)) for _ in range(3)]
        weight = draw(st.floats(0.01, 100))
        claims.append(Claim(str(index), draw(st.sampled_from(Tier)), weight, lowest, *wants, highest))
    inside = tuple(item.path for item in claims if draw(st.booleans()))
    least = sum(item.lowest for item in claims if item.path in inside)
    parents = [ParentSetup("p", least + draw(rates), inside)] if inside else []
    return setup(bandwidth, claims, parents), claims


@given(cases())
def test_rates_stay_inside_floor_ceiling_parent_and_link(case):
    where, claims = case
    found = allocate(where, claims)
    assert fits(where, {path: share.rate for path, share in found.items()})
    for item in claims:
        share = found[item.path]
        assert item.lowest <= share.rate <= item.highest
        assert share.rate % 8 == 0
        assert share.rate <= max(item.lowest, item.entitled, item.needed, item.held)
    assert allocate(where, list(claims)) == found


@given(cases())
def test_nobody_below_takes_what_a_tier_still_needs(case):
    where, claims = case
    if where.parents:
        where = Setup(where.link, where.classes)
    found = allocate(where, claims)
    for item in claims:
        short = found[item.path].rate + 8 < min(item.needed, item.highest)
        if short:
            below = [other for other in claims if other.tier > item.tier]
            assert all(found[other.path].rate == other.lowest for other in below)
            # Weighted max-min: a peer that is cut short as well, beyond what is its own, has no higher level.
            for peer in (other for other in claims if other.tier == item.tier):
                own = max(peer.lowest, min(peer.entitled, peer.highest))
                if own < found[peer.path].rate < min(peer.needed, peer.highest) - 8:
                    level = found[item.path].rate / item.weight
                    assert found[peer.path].rate / peer.weight <= level + 16 / min(peer.weight, item.weight)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 30)), min_size=1, max_size=6))
def test_as_many_slas_are_met_as_any_choice_could_meet(items):
    claims = [claim(str(number), P, lowest, lowest + more) for number, (lowest, more) in enumerate(items)]
    room = 24 - sum(lowest for lowest, _ in items)
    if room < 0:
        return
    claims = [replace(each, highest=60 * M) for each in claims]
    found = allocate(setup(24 * M, claims), claims)
    met = sum(found[each.path].rate >= each.needed - 8 for each in claims)
    best = max(
        len(chosen)
        for size in range(len(items) + 1)
        for chosen in combinations(items, size)
        if sum(more for _, more in chosen) <= room
    )
    assert met == best


@given(st.lists(st.integers(4, 12), min_size=2, max_size=5), st.data())
def test_who_is_met_stays_met_while_needs_vary_a_little(needs, data):
    claims = [claim(str(number), P, 1, need) for number, need in enumerate(needs)]
    first = allocate(setup(20 * M, claims), claims)
    met = {each.path for each in claims if first[each.path].rate >= each.needed - 8}
    factors = [data.draw(st.floats(0.9, 1.0)) for _ in needs]
    later = [
        replace(each, needed=each.needed * factor, met=each.path in met)
        for each, factor in zip(claims, factors, strict=True)
    ]
    again = allocate(setup(20 * M, later), later)
    assert all(again[each.path].rate >= each.needed - 8 for each in later if each.path in met)


def two(here, target, **given_also):
    claims = [claim("a", P, 1, 0), claim("b", B, 1, 0)]
    options = {"urgent": set(), "spent": False, "tuning": Tuning(), **given_also}
    return settle(setup(20 * M, claims), here, target, **options)


def test_small_moves_are_not_made():
    here = {"a": 5_000_000, "b": 5_000_000}
    assert two(here, {"a": 5_096_000, "b": 4_600_000}) == here
    assert two(here, {"a": 5_104_000, "b": 4_496_000}) == {"a": 5_104_000, "b": 4_496_000}
    small = {"a": 1_000_000, "b": 1_000_000}
    # 2 % of a small class is less than 0.1 % of the link.
    assert two(small, {"a": 1_020_000, "b": 1_000_000})["a"] == 1_000_000
    assert two(small, {"a": 1_020_008, "b": 1_000_000})["a"] == 1_020_008


def test_a_fall_is_made_after_all_where_a_rise_needs_the_room():
    here = {"a": 5_000_000, "b": 15_000_000}
    assert two(here, {"a": 6_000_000, "b": 14_000_000}) == {"a": 6_000_000, "b": 14_000_000}
    # The lowest tier's suffices: the other keeps its rate.
    claims = [claim("a", P, 1, 0), claim("b", B, 1, 0), claim("c", P, 1, 0)]
    here = {"a": 5_000_000, "b": 10_000_000, "c": 5_000_000}
    target = {"a": 5_500_000, "b": 9_500_000, "c": 4_800_000}
    found = settle(setup(20 * M, claims), here, target, urgent=set(), spent=False, tuning=Tuning())
    assert found == {"a": 5_500_000, "b": 9_500_000, "c": 5_000_000}


def test_a_spent_budget_blocks_all_but_a_class_that_misses_its_sla():
    here, target = {"a": 5_000_000, "b": 15_000_000}, {"a": 8_000_000, "b": 12_000_000}
    assert two(here, target, spent=True) == here
    assert two(here, target, spent=True, urgent={"a"}) == target


def test_the_budget_counts_a_minute():
    tuning = Tuning(changes_per_minute=3)
    assert recent((0.0, 10.0, 50.0, 69.0), 70.0, tuning) == (50.0, 69.0)
    assert recent((61.0, 62.0, 63.0, 64.0), 70.0, tuning) == (62.0, 63.0, 64.0)
