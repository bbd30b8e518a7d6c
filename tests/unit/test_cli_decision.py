"""`shaper explain decision`: what was seen, wanted, bound and done, and what came of it, from a journal."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from journal_samples import keep
from report_samples import DECISION, OBSERVATION

from shaper.cli.entry import cli
from shaper.errors import UnavailableError
from shaper.history.records import ObservationRow
from shaper.history.store import History
from shaper.model.sla import DelayTarget, Sla, SlaState
from shaper.report.outcome import Outcome, outcome, outcome_lines
from shaper.run.state import DeviceState, Record

OPEN_LOOP = Path(__file__).resolve().parents[2] / "policies" / "scenarios" / "open-loop.yaml"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a device that ran the open-loop scenario for 9 s; video begins with more than its queue holds."""
    root = tmp_path_factory.mktemp("state")
    side = DeviceState(root, "eth1")
    side.write_record(Record("eth1", "wan", "office.yaml", "aa", "boot", 0x5A000000))
    (side.folder / "changes.log").touch()
    sudden = root / "sudden.yaml"
    sudden.write_text(OPEN_LOOP.read_text().replace("2.5mbit", "7mbit"))
    keep(side.folder, str(sudden), seconds=9)
    return root


def asked(state: Path, *arguments: str) -> tuple[int, str]:
    command = ["explain", "decision", *arguments, "--state", str(state)]
    done = CliRunner().invoke(cli, command, catch_exceptions=False, standalone_mode=False)
    return int(done.return_value), done.output


def asked_json(state: Path, *arguments: str) -> dict[str, Any]:
    code, said = asked(state, *arguments, "--json")
    assert code == 0
    data: dict[str, Any] = json.loads(said)
    return data


def missed(state: Path) -> dict[str, Any]:
    """The first decision that moved video because it missed a target."""
    numbers = range(1, asked_json(state)["number"] + 1)
    found = (asked_json(state, str(number)) for number in numbers)
    return next(one for one in found for part in one["classes"] if part["change"] and part["wanted"]["missed"])


def test_a_step_is_explained_from_what_was_seen_to_what_came_of_it(state: Path) -> None:
    data = missed(state)
    (video,) = [part for part in data["classes"] if part["class"] == "video"]
    assert (data["applied"], data["bandwidth_bit_s"]) == (True, 20_000_000)
    assert video["seen"]["dropped_packets"] > 0
    assert video["wanted"]["missed"].startswith("loss ")
    change = video["change"]
    assert change["before"]["rate_bit_s"] < change["after"]["rate_bit_s"] == video["granted"]["rate_bit_s"]
    assert video["wanted"]["given_bit_s"] > video["wanted"]["need_bit_s"] - 8, "whole bytes a second"
    came = video["came"]
    assert 0 < came["held_after_s"] < 3
    assert all(one["rate_bit_s"] >= change["after"]["rate_bit_s"] for one in came["seconds"][:2])
    assert all(0 < one["after_s"] <= data["looked_ahead_s"] for one in came["seconds"])
    assert data["later"] == sorted(data["later"])
    assert all(number > data["number"] for number in data["later"])

    _, said = asked(state, str(data["number"]))
    text = re.sub(r"\s+", " ", said)
    assert f"decision {data['number']} of eth1" in text
    assert "carried out" in text
    assert re.search(r"video: loss \S+%, at most 0\.5% wanted \(\d+ samples\)", text)
    assert re.search(r"video: \S+mbit .*\(loss \S+% over 0.5%: feed-forward", text)
    assert re.search(r"did .*video: rate \S+ -> \S+mbit", text)
    assert "video: its targets held again within" in text


def test_the_last_and_the_last_of_a_class_are_found(state: Path) -> None:
    last, video = asked_json(state), asked_json(state, "video")
    assert asked_json(state, "last")["number"] == last["number"] >= video["number"]
    later = [asked_json(state, str(number)) for number in range(video["number"] + 1, last["number"] + 1)]
    for data, moved in ((video, True), *((one, False) for one in later)):
        (part,) = [part for part in data["classes"] if part["class"] == "video"]
        assert (part["change"] is not None) is moved
    assert asked_json(state, "-i", "wan")["number"] == asked_json(state, "-d", "eth1")["number"]


def test_every_class_says_what_it_wanted_and_what_bound_it(state: Path) -> None:
    for number in range(1, asked_json(state)["number"] + 1):
        for part in asked_json(state, str(number))["classes"]:
            want, rate = part["wanted"], part["granted"]["rate_bit_s"]
            assert want["bound"] in ("none", "link", "parent", "tier", "peers", "limit", "floor")
            assert (want["kept"] == "") is (rate == want["given_bit_s"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["4711"], r"has no decision 4711; it has 1 to \d+"),
        ([str(2**63)], rf"has no decision {2**63}; it has 1 to \d+"),
        (["nothing"], "no class of it: there are .*voice"),
    ],
)
def test_what_the_journal_lacks_is_named(state: Path, arguments: list[str], said: str) -> None:
    with pytest.raises(UnavailableError, match=said):
        asked(state, *arguments)


def test_a_class_that_never_moved_is_no_stranger(tmp_path: Path) -> None:
    journal(tmp_path)
    with pytest.raises(UnavailableError, match="voice of eth1 was never moved"):
        asked(tmp_path, "voice")


def journal(root: Path, **decided: Any) -> None:
    """A device with one line as an older shaper wrote it: without what it stood on."""
    side = DeviceState(root, "eth1")
    side.folder.mkdir(parents=True)
    (side.folder / "changes.log").touch()
    with History(side.history) as history:
        if decided:
            decision = replace(DECISION, **decided)
            history.decide(at=5, device="eth1", decision=decision, applied=False, read_back=None, inputs=OBSERVATION)
        else:
            history.decide(
                at=5, device="eth1", decision=DECISION, applied=True, read_back=DECISION.allocation, inputs=OBSERVATION
            )


def test_a_line_of_an_older_shaper_says_what_it_has(tmp_path: Path) -> None:
    journal(tmp_path)
    _, said = asked(tmp_path)
    assert "video: rate 3mbit -> 6.5mbit, queue 40kb -> 60kb: delay-p95 is 71 ms, wanted 50 ms" in said
    assert "video cannot hold: it needs 7.8mbit and there is 6.5mbit for it, 1.3mbit short; a link of" in said
    assert "video: nothing was recorded in the 10s after" in said
    assert asked_json(tmp_path)["bandwidth_bit_s"] is None


def test_what_was_not_carried_out_says_so(tmp_path: Path) -> None:
    journal(tmp_path, held="capture not trusted")
    _, said = asked(tmp_path)
    assert "not carried out" in said
    assert "held back: capture not trusted" in said


def test_without_a_decision_there_is_no_data(tmp_path: Path) -> None:
    side = DeviceState(tmp_path, "eth1")
    side.folder.mkdir(parents=True)
    (side.folder / "changes.log").touch()
    assert asked(tmp_path) == (4, "nothing was decided yet: decisions are made while `shaper run` is up\n")
    assert json.loads(asked(tmp_path, "--json")[1]) == {"schema": 1, "exit": 4, "number": None}


SLA = Sla((DelayTarget(0.99, 0.01),), loss=0.01)


def row(at: float, sla: SlaState, *, p99: float | None, sent: int, dropped: int) -> ObservationRow:
    return ObservationRow(
        "eth1", int(at), "video", at, sent * 1000, sent, dropped, 0, 1e6, 1e6, p99, p99, p99, 50, sla, 8, 8, 8
    )  # fmt: skip


def came(*rows: ObservationRow, missed: bool = True, sla: Sla = SLA) -> Outcome:
    return outcome("video", sla, rows, at=10.0, missed=missed)


def test_a_second_that_keeps_the_targets_counts_though_the_window_still_misses() -> None:
    rows = (
        row(9.5, SlaState.MISSED, p99=0.02, sent=100, dropped=0),
        row(10.5, SlaState.MISSED, p99=0.02, sent=180, dropped=20),
        row(11.5, SlaState.MISSED, p99=0.005, sent=280, dropped=20),
        row(12.5, SlaState.MET, p99=0.005, sent=380, dropped=20),
    )
    found = came(*rows)
    assert [(one.after, one.loss, one.held) for one in found.seconds] == [
        (0.5, 0.2, False),
        (1.5, 0.0, True),
        (2.5, 0.0, True),
    ]
    assert [one.sends for one in found.seconds] == [640_000, 800_000, 800_000]
    assert (found.held_after, found.missed_after) == (1.5, 0.5)
    assert next(outcome_lines(found, seconds=10)) == "video: its targets held again within 1.5s"
    jittery = replace(SLA, throughput=1)
    assert came(*rows, sla=jittery).held_after == 2.5, "a target that one second cannot judge waits for the verdict"


@pytest.mark.parametrize(
    ("missed", "states", "said"),
    [
        (True, [SlaState.MISSED] * 2, "its targets did not hold in 1.5s"),
        (False, [SlaState.MET, SlaState.MISSED], "missed a target after 1.5s"),
        (False, [SlaState.MET] * 2, "its targets held for the 1.5s that were recorded"),
        (False, [SlaState.NO_DATA] * 2, "no data in 1.5s"),
        (True, [SlaState.NONE] * 2, "no targets"),
    ],
)
def test_what_came_of_it_is_one_of_five(missed: bool, states: list[SlaState], said: str) -> None:
    rows = [
        row(10.5 + number, state, p99=0.02, sent=100 * number, dropped=50 * number)
        for number, state in enumerate(states)
    ]
    assert next(outcome_lines(came(*rows, missed=missed), seconds=10)) == f"video: {said}"


def test_counters_that_begin_again_tell_no_loss() -> None:
    again = came(
        row(10.5, SlaState.MET, p99=0.001, sent=900, dropped=9), row(11.5, SlaState.MET, p99=0.001, sent=10, dropped=0)
    )
    assert [one.loss for one in again.seconds] == [None, None]
