"""Policies as they look after a slip of the hand, an editor or a disk: one to three changes from a seeded random."""

from __future__ import annotations

import re
from random import Random

_KEY = re.compile(r"[\w-]+(?=:(?:\s|$))")
_VALUE = re.compile(r"(?<=: )[^\s,{}\[\]#]+|(?<=[\[,] )[^\s,{}\[\]:#]+(?=[,\]])")
_WORDS = (
    "version", "include", "vars", "defaults", "match-groups", "group", "interfaces", "policies", "device", "bandwidth",
    "egress", "ingress", "policy", "classifier", "link", "overhead", "classes", "tier", "priority", "guarantee",
    "limit", "share", "adapt", "min", "default", "match", "sla", "delay-p99", "jitter", "mos", "loss", "throughput",
    "service-class",
    "aqm", "family", "proto", "src", "dst", "net", "sport", "dport", "port", "dscp", "tos", "ecn", "tcp-flags", "set",
    "unset", "icmp-type", "length", "vlan", "pcp", "mac", "ethertype", "mark", "iif", "cgroup", "inner", "any", "all",
    "not", "schedule", "when", "days", "from", "to", "zone", "file", "guarantees", "Limit", "dst-port", "",
)  # fmt: skip
_VALUES = (
    "0", "-1", "1.5", "1e400", "0x1f", "010", "65536", "99999999999999999999", "true", "no", "~", "''", '"\\0"',
    '"\\ud800"', "..", "/", "20mbit", "0mbit", "1000tbit", "5Mbps", "101%", "0%", "-5%", "10ms", "0ms", "2h", "ef",
    "af44", "tcp", "domain", "nfs", "80-90", "90-80", "10.0.0.0/8", "10.0.0.1/8", "2001:db8::/32", "fe80::1%eth0",
    "mon-fri", "'08:00'", "24:00", "UTC", "Europe/Paris", "300.1.1.1", "special",
    "eth1", "[]", "{}", "[ef, ef]", "{egress: 1mbit}", "{dscp: ef}", "{file: guests.txt}",
    "{file: /dev/zero}", "{file: ..}", "{set: syn, unset: syn}", "{not: {not: {dscp: ef}}}", "{inner: {inner: {}}}",
    "*anchor", "&anchor ef", "!!int 7", "| \n", "\u202e", "\U0001f600", "x" * 300,
)  # fmt: skip


def mutated(random: Random, data: bytes) -> bytes:
    """The policy with one to three changes; most of them leave it UTF-8, some leave it a policy."""
    for _ in range(random.choice((1, 1, 1, 1, 2, 3))):
        data = random.choice(_CHANGES)(random, data)
    return data


def _flip(random: Random, data: bytes) -> bytes:
    """One bit of one byte."""
    if not data:
        return data
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]


def _rename(random: Random, data: bytes) -> bytes:
    """A key becomes another word of the language, or loses a letter."""
    text = data.decode(errors="surrogateescape")
    if not (found := list(_KEY.finditer(text))):
        return data
    one = random.choice(found)
    word = random.choice(_WORDS) if random.random() < 0.5 else _misspelt(random, one[0])
    return _put(text, (one.span(), word))


def _misspelt(random: Random, word: str) -> str:
    at = random.randrange(len(word))
    return word[:at] + word[at + 1 :]


def _exchange(random: Random, data: bytes) -> bytes:
    """A value becomes another kind of value, most of them wrong anywhere."""
    text = data.decode(errors="surrogateescape")
    if not (found := list(_VALUE.finditer(text))):
        return data
    return _put(text, (random.choice(found).span(), random.choice(_VALUES)))


def _swap(random: Random, data: bytes) -> bytes:
    """Two values of the policy change places."""
    text = data.decode(errors="surrogateescape")
    found = list(_VALUE.finditer(text))
    if len(found) < 2:
        return data
    first, second = sorted(random.sample(found, 2), key=lambda each: each.start())
    return _put(text, (first.span(), second[0]), (second.span(), first[0]))


def _put(text: str, *changes: tuple[tuple[int, int], str]) -> bytes:
    for (start, end), word in reversed(changes):
        text = text[:start] + word + text[end:]
    return text.encode(errors="surrogateescape")


def _digit(random: Random, data: bytes) -> bytes:
    """A digit becomes another: what is most often still a policy, and a different one."""
    found = [at for at, byte in enumerate(data) if byte in b"0123456789"]
    if not found:
        return data
    at = random.choice(found)
    return data[:at] + random.choice("0123456789").encode() + data[at + 1 :]


def _delete(random: Random, data: bytes) -> bytes:
    """A few lines go, or a few characters."""
    if random.random() < 0.5:
        at = random.randrange(len(data) + 1)
        return data[:at] + data[at + random.randint(1, 12) :]
    lines, start, end = _block(random, data)
    return b"".join([*lines[:start], *lines[end:]])


def _duplicate(random: Random, data: bytes) -> bytes:
    """A few lines are there twice, the second time anywhere."""
    lines, start, end = _block(random, data)
    at = random.choice((end, random.randint(0, len(lines))))
    return b"".join([*lines[:at], *lines[start:end], *lines[at:]])


def _indent(random: Random, data: bytes) -> bytes:
    """A few lines move left or right, now and then by a tab."""
    lines, start, end = _block(random, data)
    by = random.choice((-4, -2, -1, 1, 2, 4, 0))
    pad = b" " * by if by else b"\t"
    moved = [pad + line if by >= 0 else line.removeprefix(b" " * -by) for line in lines[start:end]]
    return b"".join([*lines[:start], *moved, *lines[end:]])


def _block(random: Random, data: bytes) -> tuple[list[bytes], int, int]:
    """The lines, and from where to where a few of them stand."""
    lines = data.splitlines(keepends=True)
    start = random.randint(0, max(0, len(lines) - 1))
    return lines, start, min(len(lines), start + random.choice((1, 1, 2, 5)))


_CHANGES = (_flip, _rename, _exchange, _swap, _digit, _delete, _duplicate, _indent)
