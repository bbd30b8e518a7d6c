"""From what a policy says of a device to the device: by name, alternative name, hardware address or pattern."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shaper.errors import UnavailableError
from shaper.kernel.fake import FakeKernel
from shaper.model.device import DeviceName, Selector
from shaper.model.policy import Policy
from shaper.policy import parse_policy
from shaper.run import apply
from shaper.run.look import look
from shaper.run.place import placed
from shaper.run.state import DeviceState

POLICY = "policies: {p: {classes: {rest: {default: true}}}}\n"
MAC = "02:00:5e:10:00:01"


def policy(*devices: str) -> Policy:
    interfaces = "".join(
        f"  i{n}: {{device: {device}, bandwidth: {{egress: 20mbit}}, policy: p}}\n" for n, device in enumerate(devices)
    )
    return parse_policy(f"version: 1\ninterfaces:\n{interfaces}{POLICY}", source="p.yaml")


def kernel() -> FakeKernel:
    made = FakeKernel("eth1", "ppp0")
    made.add_device("enp3s0", others=("uplink", "enx02005e100001"), mac=MAC)
    return made


@pytest.mark.parametrize(
    ("said", "device"),
    [
        ("eth1", "eth1"),
        ("uplink", "enp3s0"),
        (f'{{mac: "{MAC.upper()}"}}', "enp3s0"),
        ('{pattern: "ppp*"}', "ppp0"),
        ('{pattern: "up*"}', "enp3s0"),
        ("eth9", "eth9"),
    ],
)
def test_a_device_is_found(said: str, device: str) -> None:
    assert placed(policy(said), kernel()).interfaces[0].device == device


@pytest.mark.parametrize(
    ("said", "why", "hint"),
    [
        ('{pattern: "*p*"}', "several devices: enp3s0, ppp0", "more exactly"),
        ('{pattern: "wlan*"}', "fits no device here", "enp3s0, eth1, ppp0"),
        ('{mac: "02:00:5e:10:00:02"}', "fits no device here", "enp3s0, eth1, ppp0"),
    ],
)
def test_no_device_or_several_are_refused_with_the_candidates_and_the_line(said: str, why: str, hint: str) -> None:
    with pytest.raises(UnavailableError, match=why.replace("*", ".")) as caught:
        placed(policy(said), kernel())
    assert hint in caught.value.hint
    assert caught.value.where is not None
    assert (caught.value.where.line, caught.value.where.column) == (3, 16)


def test_two_interfaces_on_one_device_are_refused() -> None:
    with pytest.raises(UnavailableError, match="i0 and i1 are both enp3s0"):
        placed(policy("uplink", "enp3s0"), kernel())


def test_a_name_of_its_own_comes_before_the_alternative_of_another() -> None:
    made = FakeKernel("eth1")
    made.add_device("eth2", others=("eth1",))
    assert placed(policy("eth1"), made).interfaces[0].device == "eth1"


def test_our_own_devices_fit_no_pattern(tmp_path: Path) -> None:
    made = FakeKernel("eth1")
    found = placed(policy('{pattern: "*"}'), made)
    state = DeviceState(tmp_path, "eth1")
    with state.lock():
        apply.apply(made, state, apply.prepare(made, state, found, found.interfaces[0]))
    assert placed(policy('{pattern: "*"}'), made).interfaces[0].device == "eth1"
    made.add_device("eth2")  # now it would fit two, and what was applied is still known
    assert look(made, state, now=0.0).device == "eth1"


def test_the_plan_says_which_device_it_is(tmp_path: Path) -> None:
    made = kernel()
    found = placed(policy('{pattern: "ppp*"}'), made)
    prepared = apply.prepare(made, DeviceState(tmp_path, "ppp0"), found, found.interfaces[0])
    assert "i0 is ppp0, by its pattern ppp*" in prepared.program.notes
    named = placed(policy("eth1"), made)
    prepared = apply.prepare(made, DeviceState(tmp_path, "eth1"), named, named.interfaces[0])
    assert not any(" is eth1" in note for note in prepared.program.notes)


names = st.text("abp01", min_size=1, max_size=4)
devices = st.lists(st.builds(DeviceName, names, st.tuples(names), st.sampled_from(["", MAC])), max_size=6)


@given(devices, st.one_of(st.builds(Selector, name=names), st.builds(Selector, mac=st.just(MAC))))
def test_what_is_found_is_there_and_fits(there: list[DeviceName], wanted: Selector) -> None:
    found = wanted.among(there)
    by_name = {device.name: device for device in there}
    assert list(found) == sorted(found)
    for name in found:
        fitting = [device for device in there if device.name == name]
        assert any(wanted.mac == device.mac or wanted.name in (name, *device.others) for device in fitting)
    if wanted.name in by_name:
        assert set(found) == {wanted.name}


def test_a_placed_policy_is_the_same_but_for_its_devices() -> None:
    before = policy("uplink")
    after = placed(before, kernel())
    assert replace(after, interfaces=before.interfaces) == before
