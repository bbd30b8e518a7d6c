"""Classifiers with tables on a real kernel: a command applies one and ends, and one that is killed is taken back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from by_product import Product
from sorting import quiet_link

from collectors.bpf import lookup
from shaper.run import apply
from shaper.tree import LoadedFilter, Tree, networks_in

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.kernel

POLICY = """\
version: 1
interfaces:
  wan: {device: q0, bandwidth: {egress: 20mbit}, policy: office}
policies:
  office:
    classes:
      listed: {guarantee: 5%, match: [{dst: {file: list.txt}}]}
      rest: {guarantee: 50%, default: true}
"""


def listing(count: int) -> dict[str, str]:
    return {"list.txt": "\n".join(f"10.{number >> 7}.{number % 128 * 2}.0/24" for number in range(count))}


def networks(held: Tree) -> list[tuple[int, int] | None]:
    return [networks_in(node.name) for node in held.filters if isinstance(node, LoadedFilter)]


DYING = """\
import os, signal, sys
sys.path[:0] = [{tests!r}]
from by_product import Product
from test_lookup_kernel import POLICY, listing
from pathlib import Path
from shaper.kernel.netlink import NetlinkKernel
send = NetlinkKernel.send
def dying(kernel, device, steps):
    for step in steps:
        if {early}:
            os.kill(os.getpid(), signal.SIGKILL)
        send(kernel, device, [step])
        os.kill(os.getpid(), signal.SIGKILL)
NetlinkKernel.send = dying
Product(NetlinkKernel(), "q0", Path({folder!r})).apply(POLICY, listing(2500))
"""


@pytest.fixture
def product(netns: Lab, tmp_path: Path) -> Product:
    if why := lookup.refusal():
        pytest.skip(f"missing capability: eBPF ({why})")
    return Product(netns.kernel(), quiet_link(netns), tmp_path)


def test_it_is_applied_edited_and_cleared_and_nothing_is_left(product: Product) -> None:
    bare = product.kernel.read("q0")
    first = product.apply(POLICY, listing(2000))
    assert not product.kernel.programs
    assert networks(product.kernel.read("q0")) == [(2000, 2)]
    assert len(product.apply(POLICY, listing(2500)).plan.steps) == 1
    assert networks(product.kernel.read("q0")) == [(2500, 2)]
    assert product.apply(POLICY, listing(3)).plan.steps
    assert networks(product.kernel.read("q0")) == []
    assert product.apply(POLICY, listing(2000)).target == first.target
    product.clear()
    assert product.kernel.read("q0") == bare


@pytest.mark.parametrize("early", [True, False], ids=["before the exchange", "after it"])
def test_after_sigkill_the_tables_from_before_are_loaded_again(netns: Lab, product: Product, early: bool) -> None:
    product.apply(POLICY, listing(2000))
    held = product.kernel.read("q0")
    script = product.state.root / "dying.py"
    tests = str(Path(__file__).parent)
    script.write_text(DYING.format(tests=tests, folder=str(product.state.root), early=early))
    netns.run(f"{sys.executable} {script}", check=False, timeout=60)
    assert networks(product.kernel.read("q0")) == [(2000, 2) if early else (2500, 2)]
    assert product.state.pending() is not None
    apply.recover(product.kernel, product.state)
    assert product.kernel.read("q0") == held
    product.clear()
