"""Whatever the text: a policy that is accepted and a report, or one clear failure; never a traceback."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from import_samples import CASES, inputs, run

from shaper.policy import parse_policy
from shaper.policy.importers.draft import ImportFailedError

pytestmark = pytest.mark.slow

WORDS = [
    "interface", "class", "group", "end", "match", "server", "client", "default", "rate", "commit", "ceil", "prio",
    "keep", "input", "output", "bidirectional", "adsl", "udp", "port", "sport", "tos", "mark", "syn", "ack", "src",
    "net", "all", "set", "qos", "policy", "shaper", "bandwidth", "ceiling", "priority", "ip", "ipv6", "dscp",
    "outgoing", "incoming", "children", "Circuit ID", "null", "[]", "{}", "{", "}", '"', "'", "\\\n", "$X", "X=$X$X",
    "%", "100%", "-1", "0", "9" * 40, "1e999", "NaN", "kbit", "10mbit", "10.0.0.0/8", "::1", "a" * 90, "/", ",", ":",
    "\n", "\t", "\x00", "\r", "é", "\u2028", "\ufeff", "\U0001f600", "#", "0x", "0x10/0xff", "network-control",
]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, list[tuple[str, str]]]:
    """An example with words put in, taken out, swapped or cut off."""
    case = draw(st.sampled_from(CASES))
    texts = []
    for original, name in inputs(case):
        text = original
        for _ in range(draw(st.integers(0, 6))):
            start = draw(st.integers(0, len(text)))
            end = draw(st.one_of(st.just(start), st.integers(start, min(len(text), start + 40))))
            word = draw(st.one_of(st.just(""), st.sampled_from(WORDS), st.text(max_size=8)))
            text = text[:start] + word + text[end:]
        texts.append((text, name))
    return case.parent.name, texts


@settings(max_examples=400, deadline=None)
@given(mutated())
def test_a_mutated_example_gives_an_accepted_policy_or_one_failure(sample: tuple[str, list[tuple[str, str]]]) -> None:
    tool, texts = sample
    try:
        result = run(tool, texts)
    except ImportFailedError as error:
        assert error.message
        assert error.hint
    else:
        assert parse_policy(result.text, source="import", files={}).interfaces


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["fireqos", "vyos", "tcconfig"]), st.text(max_size=200))
def test_any_text(tool: str, text: str) -> None:
    try:
        run(tool, [(text, "any")])
    except ImportFailedError as error:
        assert error.hint
