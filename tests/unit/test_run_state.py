"""The state folder: records that survive, one writer at a time, damage that is named."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from shaper.errors import Exit, TryAgainError
from shaper.plan.steps import Plan, Step, Verb
from shaper.run.state import DeviceState, Pending, Record, StateError, known_devices, namespace_key
from shaper.tree import ROOT, HtbOptions, Qdisc

RECORD = Record("eth9", "wan", "policy.yaml", "aa", "boot", 0x5A000000, {"voice": 0x5A000010}, tap="shp-eth9", text="x")
PLAN = Plan("eth9", (Step(Verb.ADD, None, Qdisc(0x5A000000, ROOT, "htb", HtbOptions(0x10))),))


@pytest.fixture
def state(tmp_path: Path) -> DeviceState:
    return DeviceState(tmp_path, "eth9")


def test_records_and_pending_steps_read_back(state: DeviceState) -> None:
    assert state.record() is None
    assert state.pending() is None
    state.write_record(RECORD)
    state.write_pending(Pending(PLAN, None, RECORD))
    assert state.record() == RECORD
    assert state.pending() == Pending(PLAN, None, RECORD)
    state.write_pending(None)
    state.write_record(None)
    assert state.record() is None
    assert state.pending() is None


def test_devices_are_known_by_namespace(state: DeviceState, tmp_path: Path) -> None:
    state.write_record(RECORD)
    DeviceState(tmp_path, "eth8", namespace="elsewhere").write_record(RECORD)
    assert known_devices(tmp_path) == ("eth9",)
    assert namespace_key() in state.folder.parts


def test_a_folder_that_cannot_be_looked_at_is_no_empty_one(tmp_path: Path) -> None:
    """A chain of links that never ends is what root cannot read either."""
    (tmp_path / namespace_key()).symlink_to(namespace_key())
    with pytest.raises(StateError) as caught:
        known_devices(tmp_path)
    assert "--state" in caught.value.hint
    assert known_devices(tmp_path / "not-there") == ()


@pytest.mark.parametrize("name", ["record.json", ".record.json.draft", "record.draft"])
def test_a_link_in_a_files_place_is_not_written_through(state: DeviceState, tmp_path: Path, name: str) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    state.folder.mkdir(parents=True)
    (state.folder / name).symlink_to(precious)
    state.write_record(RECORD)
    assert precious.read_text() == "mine"
    assert state.record() == RECORD


def test_there_is_one_writer(state: DeviceState, tmp_path: Path) -> None:
    with state.lock(), pytest.raises(TryAgainError) as caught, DeviceState(tmp_path, "eth9").lock():
        pass
    assert caught.value.exit is Exit.TRY_AGAIN
    with state.lock():
        pass


@pytest.mark.parametrize("text", ["{", "[]", '{"device": "eth9"}', '{"device": "eth9", "more": 1}', "[" * 100_000, ""])
def test_damage_is_named(state: DeviceState, text: str) -> None:
    state.folder.mkdir(parents=True)
    (state.folder / "record.json").write_text(text)
    with pytest.raises(StateError):
        state.record()


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"plan": 1, "before": null, "after": null}'])
def test_damaged_pending_steps_are_named(state: DeviceState, text: str) -> None:
    state.folder.mkdir(parents=True)
    (state.folder / "pending.json").write_text(text)
    with pytest.raises(StateError):
        state.pending()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError) as caught:
        DeviceState(tmp_path / "file", "eth9").write_record(RECORD)
    assert "--state" in caught.value.hint


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("root", "5a00:"),
        ("handles", {"voice": "x"}),
        ("handles", []),
        ("static", {"voice": [1, 2]}),
        ("text", None),
        ("structure", 1),
        ("schema", 2),
    ],
)
def test_a_field_of_another_type_is_damage(state: DeviceState, field: str, value: object) -> None:
    state.write_record(RECORD)
    path = state.folder / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(StateError):
        state.record()


@pytest.mark.parametrize("name", ["lock", "record.json", "pending.json"])
@pytest.mark.parametrize(
    "make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to(path)], ids=["dir", "pipe", "loop"]
)
def test_anything_may_stand_in_a_files_place(state: DeviceState, name: str, make: Callable[[Path], None]) -> None:
    state.folder.mkdir(parents=True)
    make(state.folder / name)
    if name == "lock":
        with contextlib.suppress(StateError), state.lock():
            pass  # a pipe can be locked as well as a file
    else:
        assert known_devices(state.folder.parents[1]) == ("eth9",)
        with pytest.raises(StateError):
            state.record() if name == "record.json" else state.pending()
