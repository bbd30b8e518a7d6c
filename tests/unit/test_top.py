"""The live view: keys and statuses in, a screen out; and a real terminal around it."""

from __future__ import annotations

import fcntl
import io
import itertools
import os
import pty
import struct
import termios
import threading
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_samples import DECISION, HELD, READ_ONCE, RUNNING
from rich.console import Console

from shaper.cli.top import print_once, watch
from shaper.errors import ShaperError
from shaper.model.change import Who
from shaper.model.freeze import Freeze
from shaper.model.policy import Direction
from shaper.model.status import InterfaceStatus, Moved
from shaper.report.glyphs import ASCII, BLOCKS
from shaper.report.screen import screen
from shaper.report.top import Top

WIDE = 120
LAN = replace(RUNNING, direction=Direction.INGRESS)


def shown(top: Top, *, width: int = WIDE, height: int = 30) -> list[str]:
    return screen(top, width=width, height=height, glyphs=BLOCKS).plain.split("\n")


def seen(*statuses: InterfaceStatus, times: int = 1) -> Top:
    top = Top()
    for second in range(times):
        top.update(statuses or (RUNNING,), now=float(second))
    return top


def order(top: Top) -> list[str]:
    return [one.path for one in top.classes()]


def press(top: Top, keys: str) -> Top:
    for key in keys.split():
        top.press({"space": " "}.get(key, key))
    return top


@given(ratio=st.floats(0, 2), width=st.integers(1, 40), glyphs=st.sampled_from((BLOCKS, ASCII)))
def test_a_bar_has_its_width_and_grows_with_the_ratio(ratio: float, width: int, glyphs) -> None:  # type: ignore[no-untyped-def]
    bar, more = glyphs.bar(ratio, width), glyphs.bar(min(2, ratio * 1.5), width)
    assert len(bar) == len(more) == width
    assert bar.count(glyphs.empty) >= more.count(glyphs.empty)
    assert (bar == glyphs.empty * width) == (ratio == 0)
    assert ratio < 1 or bar == glyphs.eighths[-1] * width


def test_sparks_are_scaled_and_gaps_are_gaps() -> None:
    assert BLOCKS.spark([0, 1, None, 2], 4) == "▁▅ █"
    assert BLOCKS.spark([0, 1, None, 2], 6) == "  ▁▅ █"
    assert BLOCKS.spark([1, 2, 3, 4], 2) == "▆█"
    assert BLOCKS.spark([1, 2], 2, top=4) == "▃▅"
    assert BLOCKS.spark([0, 0], 2) == "▁▁"
    assert BLOCKS.bar(None, 3) == "···"


@pytest.mark.parametrize(
    ("keys", "first"),
    [
        ("", ["voice", "video"]),
        ("n", ["bulk", "office/business"]),
        ("n n", ["voice", "video"]),
        ("r", ["bulk", "video"]),
        ("d", ["video", "bulk"]),
        ("l", ["bulk", "video"]),
        ("b", ["bulk", "video"]),
        ("s", ["video", "office/business"]),
        ("s p", ["voice", "video"]),
    ],
)
def test_keys_sort(keys: str, first: list[str]) -> None:
    assert order(press(seen(), keys))[:2] == first


def test_keys_mark_drill_and_go_back() -> None:
    top = press(seen(), "down down up")
    assert top.marked == "video"
    assert any(line.startswith("> video") for line in shown(top))
    inside = "\n".join(shown(press(top, "enter"), height=40))
    assert "video  priority  MISSED" in inside
    assert "delay-p95" in inside
    assert "71.2ms, at most 50ms (2700 samples) MISSED" in inside
    assert "6.48mbit, at least 2mbit" in inside
    assert "delays since the start, 7500 packets" in inside
    press(top, "escape n")
    assert not top.inside
    assert top.marked == "video", "the mark stays with its class when the order changes"
    assert "only that class" in "\n".join(shown(press(top, "?")))
    assert "only that class" not in "\n".join(shown(press(top, "x")))


def test_tab_goes_round_the_interfaces_and_space_stands_still() -> None:
    top = seen(RUNNING, LAN)
    assert "1 of 2" in shown(top)[0]
    assert "ingress" in shown(press(top, "tab"))[0]
    assert "ingress" not in shown(press(top, "tab"))[0]
    press(top, "space")
    top.update((replace(RUNNING, bandwidth=1_000_000),), now=9.0)
    assert top.statuses == (RUNNING, LAN)
    assert "paused" in shown(top)[-1]
    press(top, "space tab")
    top.update((RUNNING,), now=10.0)
    assert top.place == 0, "the other one is gone"
    assert press(top, "q").over


def test_rates_without_a_running_shaper_are_of_two_readings() -> None:
    top = seen(READ_ONCE)
    path = READ_ONCE.classes[1].path
    assert list(top.trace(path).rates) == [None]
    later = [
        replace(one, sent_bytes=one.sent_bytes + 250_000, sent_packets=one.sent_packets + 90)
        for one in READ_ONCE.classes
    ]
    later[1] = replace(later[1], dropped_packets=later[1].dropped_packets + 10)
    top.update((replace(READ_ONCE, classes=tuple(later)),), now=2.0)
    assert top.trace(path).rates[-1] == 1_000_000
    assert top.trace(path).losses[-1] == 0.1
    top.update((READ_ONCE,), now=3.0)
    assert top.trace(path).rates[-1] is None, "it was counted anew"
    top.update((replace(READ_ONCE, classes=()),), now=4.0)
    assert top.traces == {}


@given(
    keys=st.lists(st.sampled_from(["up", "down", "enter", "escape", "tab", " ", "?", *"pnrdlbsxh"]), max_size=12),
    width=st.integers(20, 200),
    height=st.integers(6, 60),
    statuses=st.lists(st.sampled_from((RUNNING, LAN, READ_ONCE)), max_size=3),
)
def test_whatever_is_pressed_the_screen_fits(
    keys: list[str], width: int, height: int, statuses: list[InterfaceStatus]
) -> None:
    top = Top()
    for second, key in enumerate(keys):
        top.update(statuses, now=float(second))
        top.press(key)
        lines = shown(top, width=width, height=height)
        assert len(lines) == height
        assert max(map(len, lines)) <= width


def test_the_last_move_is_shown_with_its_reason_and_that_of_a_class_inside_it() -> None:
    (video,) = DECISION.changes
    bulk = replace(video, path="bulk", reason="yields to video")
    moved = replace(RUNNING, controller=replace(RUNNING.controller, moved=(Moved(3.2, bulk), Moved(61.0, video))))
    lines = shown(seen(moved))
    assert lines[3] == "3s ago bulk: rate 3mbit -> 6.5mbit, queue 40kb -> 60kb: yields to video"
    assert not any(line.startswith("61s ago") for line in lines)
    assert any(line.startswith("61s ago video: rate 3mbit") for line in shown(press(seen(moved), "down enter")))
    out = io.StringIO()
    print_once(lambda: [moved], out=Console(file=out, width=100), every=1.0, sleep=lambda _: None, now=lambda: 1.0)
    assert out.getvalue().splitlines()[-1].split()[0] == RUNNING.classes[-1].path, "no class is cut off"


def test_inside_a_class_it_is_said_how_its_packets_come_and_get_through() -> None:
    text = "\n".join(shown(press(seen(), "down enter"), height=40))
    assert "66.7% by borrowed rates" in text
    assert "bursts 1.89 x the mean in 2ms and 1.06 x the mean in 1s; available 69.23% of 39s" in text


def test_who_froze_it_is_the_first_news() -> None:
    frozen = Freeze(Who(0, "root", "eve"), 1.7e9, "ticket 4711", until=1.7e9 + 600)
    (line,) = [line for line in shown(seen(replace(HELD, frozen=frozen))) if "frozen" in line]
    assert line.startswith("frozen by root (sudo by eve): ticket 4711 (since 2023-11-")
    assert "until 2023-11-" in line


def test_once_prints_every_interface_and_looks_twice_at_counters() -> None:
    out, slept, looks = io.StringIO(), list[float](), [READ_ONCE, READ_ONCE]

    def read() -> list[InterfaceStatus]:
        return [RUNNING, looks.pop()]

    times = iter((1.0, 3.0))
    print_once(read, out=Console(file=out, width=100), every=2.0, sleep=slept.append, now=lambda: next(times))
    assert (slept, looks) == ([2.0], [])
    text = out.getvalue()
    assert text.count("wan (eth1)") == 2
    assert "not run" in text
    assert text.count("office/business") == 2
    assert "q quit" not in text


class Terminal:
    """A pseudo terminal of 100 columns and 30 lines, read all the time; `keys` are pressed once `after` is shown."""

    def __init__(self, *, after: bytes, keys: bytes) -> None:
        self._after, self._keys = after, keys
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self.out = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self.master, 65536)
            except OSError:  # nobody holds the other end any more
                return
            if not data:
                return
            self.out += data
            if self._keys and self._after in self.out:
                os.write(self.master, self._keys)
                self._keys = b""

    def close(self) -> str:
        os.close(self.slave)
        self._reader.join()
        os.close(self.master)
        return self.out.decode()


def test_a_terminal_shows_it_and_is_as_before_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    terminal = Terminal(after=b"q quit", keys=b"\x1b[B\rq")
    before = termios.tcgetattr(terminal.slave)
    top, looks, looked = Top(), iter([(RUNNING,), None]), itertools.count()

    def read() -> tuple[InterfaceStatus, ...]:
        found = next(looks, None)
        top.over = next(looked) > 20  # whatever comes, it ends
        if found is None:
            raise ShaperError("the shaper hung up")
        return found

    clock = itertools.count()
    with os.fdopen(os.dup(terminal.slave), "w", encoding="utf-8") as stream:
        out = Console(file=stream, force_terminal=True, width=100, height=30)
        watch(top, read, out=out, keys=terminal.slave, every=5.0, now=lambda: float(next(clock)))
    assert termios.tcgetattr(terminal.slave) == before
    text = terminal.close()
    assert top.over
    assert top.inside
    assert top.marked == "video"
    assert "\x1b[?1049h" in text, "a screen of its own"
    assert text.index("\x1b[?1049h") < text.index("office/business") < text.rindex("\x1b[?1049l")


def test_a_shaper_that_hangs_up_is_said_and_does_not_end_it() -> None:
    top = seen()
    top.trouble = "the shaper hung up"
    assert "the shaper hung up" in "\n".join(shown(top))
    assert "nothing of the shaper's" in shown(Top())[0]
