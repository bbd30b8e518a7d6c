"""What a run in virtual time depends on, as it is read from the machine."""

from __future__ import annotations

import struct

import pytest

from shaper.lab.fingerprint import Fingerprint, build_id, cpu_flags, fingerprint
from shaper.lab.show import opening_lines


def note(kind: int, name: bytes, data: bytes) -> bytes:
    def padded(text: bytes) -> bytes:
        return text + bytes(-len(text) % 4)

    return struct.pack("<III", len(name), len(data), kind) + padded(name) + padded(data)


def test_the_build_id_is_found_among_other_notes() -> None:
    image = bytes(range(20))
    notes = (
        note(5, b"GNU\0", bytes(6)) + note(6, b"Linux\0", b"\1\0") + note(3, b"GNU\0", image) + note(3, b"Xen\0", b"x")
    )
    assert build_id(notes) == image
    assert build_id(note(6, b"Linux\0", b"\1\0")) == build_id(b"") == b""


def test_flags_are_in_order_whatever_the_kernel_makes_of_it() -> None:
    assert cpu_flags("processor : 0\nflags\t\t: sse fpu avx\n\nprocessor : 1\nflags\t: other\n") == [
        "avx",
        "fpu",
        "sse",
    ]
    assert cpu_flags("processor : 0\n") == []


def test_in_real_time_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAB_KERNEL", raising=False)
    assert fingerprint() is None
    assert opening_lines({"fingerprint": None}) == []


def test_it_is_said_first() -> None:
    found = {"kernel": "1b36e24f02a5", "python": "3.11.2", "packages": "e3a5c76f", "cpu": "22676b94"}
    said = "virtual time: kernel 1b36e24f02a5, Python 3.11.2, packages e3a5c76f, CPU 22676b94"
    assert opening_lines({"fingerprint": found}) == [said] == [str(Fingerprint(**found))]
