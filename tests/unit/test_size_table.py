"""Size tables: what a packet counts for, byte by byte, against the definition of each link; and as bytes and back."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.netlink import TCA_STAB, attributes
from shaper.kernel.codec import stab
from shaper.model.link import LINK_LAYERS, Cells
from shaper.tree import SizeTable, size_table

overheads = st.integers(-64, 256)
mpus = st.integers(0, 256)
TABLES = st.builds(size_table, overhead=overheads, mpu=mpus, atm=st.booleans(), longest=st.integers(60, 70_000))


def on_the_wire(length: int, overhead: int, mpu: int, *, atm: bool) -> int:
    """By the definition of the link, without a table: the overhead, the least size, whole cells."""
    size = max(length + overhead, mpu, 1)
    return math.ceil(size / 48) * 53 if atm else size


@given(length=st.integers(65, 9000), overhead=overheads, mpu=mpus, atm=st.booleans())
def test_every_frame_up_to_the_longest_counts_exactly(length: int, overhead: int, mpu: int, atm: bool) -> None:
    table = size_table(overhead=overhead, mpu=mpu, atm=atm, longest=9000 + max(0, overhead))
    assert table.count(length) == on_the_wire(length, overhead, mpu, atm=atm)


@given(length=st.integers(2049, 65_536), overhead=overheads, mpu=mpus, atm=st.booleans())
def test_a_super_packet_counts_for_no_less_and_little_more(length: int, overhead: int, mpu: int, atm: bool) -> None:
    table = size_table(overhead=overhead, mpu=mpu, atm=atm, longest=1514 + max(0, overhead))
    least = on_the_wire(length, overhead, 0, atm=atm)
    assert least <= table.count(length) <= least + (length // 2048 + 1) * 53 + mpu * 2


@given(TABLES, st.integers(60, 65_536), st.integers(0, 3000))
def test_a_longer_frame_up_to_the_table_never_counts_for_less(table: SizeTable, length: int, more: int) -> None:
    last = (table.slots << table.cell_log) - table.overhead if table.slots else 70_000
    assert table.count(min(length, last)) <= table.count(min(length + more, last))


@given(TABLES)
def test_a_table_fits_the_message_and_comes_back(table: SizeTable) -> None:
    data = attributes(stab.encode(table))[TCA_STAB]
    assert stab.decode(data) == table
    found = attributes(data)
    sizes = struct.unpack(f"={table.slots}H", found.get(2, b""))
    assert sizes == table.sizes()
    assert len(data) < 1 << 16
    assert (table.slots == 0) == (2 not in found)


def test_what_is_no_table_is_none() -> None:
    assert stab.decode(b"") is None


@pytest.mark.parametrize(
    ("name", "overhead", "mpu", "cells"),
    [
        # tc-cake(8), OVERHEAD COMPENSATION PARAMETERS: its keywords and what they are equal to.
        ("ethernet", 38, 84, Cells.NONE),
        ("docsis", 18, 64, Cells.NONE),
        ("vdsl-pppoe-ptm", 30, 0, Cells.PTM),
        ("vdsl-bridged-ptm", 22, 0, Cells.PTM),
        ("adsl-pppoa-vcmux", 10, 0, Cells.ATM),
        ("adsl-pppoa-llc", 14, 0, Cells.ATM),
        ("adsl-pppoe-vcmux", 32, 0, Cells.ATM),
        ("adsl-pppoe-llcsnap", 40, 0, Cells.ATM),
        ("adsl-bridged-vcmux", 24, 0, Cells.ATM),
        ("adsl-bridged-llcsnap", 32, 0, Cells.ATM),
        ("adsl-ipoa-vcmux", 8, 0, Cells.ATM),
        ("adsl-ipoa-llcsnap", 16, 0, Cells.ATM),
        ("conservative", 48, 0, Cells.ATM),
    ],
)
def test_the_kinds_of_link_have_the_numbers_of_their_source(name: str, overhead: int, mpu: int, cells: Cells) -> None:
    layer = LINK_LAYERS[name]
    assert (layer.overhead, layer.mpu, layer.cells) == (overhead, mpu, cells)


def test_every_kind_of_link_is_in_the_table_above() -> None:
    assert len(LINK_LAYERS) == 13


def test_an_atm_packet_of_the_stab_manual() -> None:
    """tc-stab(8): a packet of 100 bytes needs three cells, 159 bytes."""
    assert size_table(overhead=0, mpu=0, atm=True, longest=1500).count(100) == 159
