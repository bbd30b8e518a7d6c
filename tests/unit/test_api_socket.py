"""The socket: an answer for a question, a refusal with its reason and exit code, and nothing for nobody."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shaper.api.client import ask
from shaper.api.server import listening
from shaper.api.wire import RemoteError
from shaper.errors import Exit, ShaperError, TryAgainError
from shaper.run.inbox import Inbox, Request
from shaper.run.state import DeviceState


@pytest.fixture
def state(tmp_path: Path) -> DeviceState:
    # deeper than the 107 bytes that a socket's address can hold
    deep = DeviceState(tmp_path / ("d" * 60) / ("e" * 60), "eth9", namespace="test")
    deep.folder.mkdir(parents=True)
    return deep


@pytest.fixture
def inbox(state: DeviceState) -> Iterator[Inbox]:
    """A loop that echoes what it is asked, and refuses `fail`."""
    box = Inbox()

    def loop() -> None:
        while (request := box.get(10.0)) is not None and request.command != "end":
            if request.command == "fail":
                request.refuse(TryAgainError("not now", hint="later"))
            else:
                request.answer({"command": request.command, **request.arguments})

    thread = threading.Thread(target=loop)
    thread.start()
    with listening([state], box):
        yield box
    box.put(Request("end"))
    thread.join()


def test_a_question_is_answered_with_the_device_it_is_about(state: DeviceState, inbox: Inbox) -> None:
    assert ask(state, "status", more=1) == {"command": "status", "more": 1, "device": "eth9", "uid": os.getuid()}


def test_a_refusal_carries_its_reason_its_hint_and_its_exit_code(state: DeviceState, inbox: Inbox) -> None:
    with pytest.raises(RemoteError) as caught:
        ask(state, "fail")
    assert (caught.value.exit, caught.value.message, caught.value.hint) == (Exit.TRY_AGAIN, "not now", "later")


def test_garbage_and_other_versions_are_refused(
    state: DeviceState, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(state.folder)
    for line in (b"{", b"[1]", b'{"schema": 99, "command": "status"}', b'{"schema": 1}', b"\xff", b"[" * 100_000):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(state.socket.name)
            connection.sendall(line + b"\n")
            answer = json.loads(connection.makefile("rb").readline())
        assert answer["exit"] == Exit.FAILED
        assert answer["problems"]


def test_nobody_there_is_no_answer(state: DeviceState, tmp_path: Path) -> None:
    assert ask(state, "status") is None
    assert ask(DeviceState(tmp_path, "other", namespace="test"), "status") is None


def test_the_socket_is_gone_afterwards(state: DeviceState) -> None:
    with listening([state], Inbox()):
        assert state.socket.exists()
        assert state.socket.stat().st_mode & 0o077 == 0
    assert not state.socket.exists()


def test_who_comes_when_all_places_are_taken_is_turned_away(
    state: DeviceState, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(state.folder)
    threads = threading.active_count()
    with contextlib.ExitStack() as held:
        for _ in range(60):
            connection = held.enter_context(socket.socket(socket.AF_UNIX))
            connection.settimeout(5)
            connection.connect(state.socket.name)
        last = connection.recv(1)
        assert last == b""
        assert threading.active_count() - threads <= 2 * 16
    ended = time.monotonic() + 10
    while time.monotonic() < ended:
        with contextlib.suppress(ShaperError, OSError):
            assert ask(state, "status") is not None
            return
    pytest.fail("nobody is served any more")
