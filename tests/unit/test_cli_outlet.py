"""Output that nobody reads stops nobody."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import TextIO

import pytest

from shaper.cli.outlet import Outlet

LINE = "x" * 999 + "\n"
MANY = 3000
"""More lines than a pipe and the queue hold."""


@pytest.fixture
def pipe() -> Iterator[tuple[TextIO, TextIO]]:
    reading, writing = (os.fdopen(end, mode) for end, mode in zip(os.pipe(), "rw", strict=True))
    yield reading, writing
    reading.close()
    writing.close()


def test_what_is_said_comes_out_in_its_order_and_to_the_end(pipe: tuple[TextIO, TextIO]) -> None:
    reading, writing = pipe
    with Outlet(writing, "{} lost\n".format) as outlet:
        for number in range(10):
            outlet.write(f"{number}\n")
    writing.close()
    assert reading.read().split() == [str(number) for number in range(10)]


def test_a_reader_that_stalls_stops_nobody_and_hears_how_much_was_left_out(pipe: tuple[TextIO, TextIO]) -> None:
    reading, writing = pipe
    outlet = Outlet(writing, "{} lost\n".format)
    for _ in range(MANY):
        outlet.write(LINE)
    heard: list[str] = []
    there_is_room = threading.Event()

    def read() -> None:
        for line in reading:
            heard.append(line)
            if len(heard) == 100:
                there_is_room.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert there_is_room.wait(10)
    outlet.write("on\n")
    outlet.close()
    writing.close()
    reader.join()
    lost = [int(line.split()[0]) for line in heard if line.endswith(" lost\n")]
    assert heard.count(LINE) + sum(lost) == MANY
    assert heard[-2:] == [f"{lost[-1]} lost\n", "on\n"]


def test_a_reader_that_has_gone_is_an_error_of_the_next_write(pipe: tuple[TextIO, TextIO]) -> None:
    reading, writing = pipe
    outlet = Outlet(writing, "{} lost\n".format)
    reading.close()
    with pytest.raises(BrokenPipeError):  # the thread writes when it comes to it
        for _ in range(1_000_000):
            outlet.write(LINE)
    outlet.close()
