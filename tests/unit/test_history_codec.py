"""Model values to JSON and back: everything that is a field survives, and nothing else is let in."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_samples import DECISION, HELD, OBSERVATION, READ_ONCE, RUNNING

from shaper.history.codec import decode, encode
from shaper.history.links import LinkPremise, packed, unpacked
from shaper.model.decision import Decision, Shortfall
from shaper.model.observation import CaptureHealth, DelayView, Observation
from shaper.model.status import InterfaceStatus

_NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@cache
def every_field(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a type with every field drawn, those with a default too: a field the codec forgets is found."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is float:
        return _NUMBERS
    if kind is int:
        return st.integers(0, 2**63)
    if origin in (types.UnionType, typing.Union):
        return st.one_of(*(every_field(each) for each in arguments))
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(every_field(arguments[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*(every_field(each) for each in arguments))
    if origin is not None and issubclass(origin, Mapping):
        return st.dictionaries(every_field(arguments[0]), every_field(arguments[1]), max_size=2)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return st.builds(kind, **{field.name: every_field(hints[field.name]) for field in dataclasses.fields(kind)})
    return st.from_type(kind)


def through_text(kind: type[Any], value: object) -> Any:
    return decode(kind, json.loads(json.dumps(encode(value), allow_nan=False)))


@pytest.mark.parametrize("kind", [Observation, Decision, InterfaceStatus, LinkPremise], ids=lambda kind: kind.__name__)
def test_every_value_comes_back_as_it_was(kind: type[Any]) -> None:
    @given(every_field(kind))
    def holds(value: Any) -> None:
        assert through_text(kind, value) == value

    holds()


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Observation, OBSERVATION),
        (Decision, DECISION),
        (InterfaceStatus, RUNNING),
        (InterfaceStatus, HELD),
        (InterfaceStatus, READ_ONCE),
    ],
)
def test_the_samples_come_back(kind: type[Any], value: object) -> None:
    assert through_text(kind, value) == value


def test_infinity_is_null_and_comes_back() -> None:
    view = DelayView(1, 5.0, {0.99: math.inf}, {}, math.inf)
    assert encode(view)["quantiles_s"] == {"0.99": None}
    assert through_text(DelayView, view) == view


def test_what_is_missing_gets_its_default_and_what_is_unknown_is_passed_over() -> None:
    assert decode(CaptureHealth, {"running": True, "from_the_future": 1}) == CaptureHealth(True)


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        "text",
        {"path": "a", "need_bit_s": 1.5, "granted_bit_s": 1, "capacity_bit_s": 1},
        {"path": 1, "need_bit_s": 1, "granted_bit_s": 1, "capacity_bit_s": 1},
        {"path": "a", "need_bit_s": True, "granted_bit_s": 1, "capacity_bit_s": 1},
    ],
)
def test_what_is_none_is_refused(data: object) -> None:
    with pytest.raises(ValueError, match="this is no Shortfall"):
        decode(Shortfall, data)


@given(every_field(LinkPremise))
def test_a_premise_of_a_link_is_unpacked_as_it_was_packed(premise: LinkPremise) -> None:
    assert unpacked(packed(premise)) == premise


@pytest.mark.parametrize("text", ["", "not packed", "packed", "é"])
def test_what_is_no_packed_premise_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        unpacked(text)


def test_what_the_model_does_not_hold_is_refused() -> None:
    with pytest.raises(TypeError, match="set has no form in JSON"):
        encode({1, 2})
