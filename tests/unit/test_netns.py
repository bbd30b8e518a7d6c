"""Devices in named network namespaces, on the verified fake: the same name in two of them is two places."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_run_service import Bench, Watching

from shaper.cli.entry import cli
from shaper.cli.unit import DROP_IN, NAME, drop_in_text, is_untouched
from shaper.compile import compile_interface
from shaper.errors import UnavailableError
from shaper.kernel.fake import FULL, FakeKernel
from shaper.model.policy import Direction
from shaper.policy import parse_policy, read_policy
from shaper.report.tc_script import script
from shaper.run import apply, snapshot
from shaper.run.inbox import Request
from shaper.run.look import look
from shaper.run.place import placed
from shaper.run.saved import saved_interface
from shaper.run.snapshot import SnapshotKernel, live_to_json
from shaper.run.state import DeviceState, known_devices, storied_devices
from shaper.tree import tree

TEXT = """\
version: 1
interfaces:
  here: {device: eth1, bandwidth: {egress: 20mbit}, policy: office}
  there: {device: eth1, netns: blue, bandwidth: {egress: 20mbit, ingress: 50mbit}, policy: office}
policies:
  office:
    classes:
      voice: {tier: special, guarantee: 1mbit, limit: 2mbit, match: [{dscp: ef}], sla: {delay-p99: 20ms}}
      rest: {guarantee: 12mbit, adapt: {min: 2mbit}, default: true}
"""


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Namespaces that are in no kernel have keys all the same; red has been deleted."""

    def key(netns: str = "") -> str:
        if netns == "red":
            raise UnavailableError("there is no network namespace 'red'")
        return f"net-{netns or 'own'}"

    monkeypatch.setattr("shaper.run.state.namespace_key", key)


@pytest.fixture
def kernel() -> FakeKernel:
    made = FakeKernel("eth1", "lo")
    made.add_namespace("blue", "eth1", "eth7")
    return made


class Two(Bench):
    """A run that holds a device of the same name in two namespaces."""

    def __init__(self, folder: Path, kernel: FakeKernel) -> None:
        super().__init__(folder)
        path = folder / "two.yaml"
        path.write_text(TEXT)
        self.kernel = kernel
        self.policy = read_policy(path)


def test_a_run_holds_both_and_tells_them_apart(tmp_path: Path, kernel: FakeKernel) -> None:
    bench, watcher = Two(tmp_path, kernel), Watching()
    clear = Request("clear", {"device": "blue/eth1"})
    bench.inbox.put(clear)
    bench.stop()
    bench.serve(watcher)
    assert len(clear.wait(0)) == 2  # type: ignore[arg-type]
    blue = kernel.inside("blue")
    assert blue.read("eth1") == tree("eth1", ())
    assert kernel.read("eth1").root() is not None
    assert {one.device for one in watcher.statuses} == {"eth1"}
    assert known_devices(bench.folder) == ("eth1",)
    assert storied_devices(bench.folder) == ("eth1", "blue/eth1")


def test_what_is_told_has_the_namespace_in_it(tmp_path: Path, kernel: FakeKernel) -> None:
    bench, watcher = Two(tmp_path, kernel), Watching()
    bench.stop()
    bench.serve(watcher)
    assert [(one.device, one.direction) for one in watcher.statuses] == [
        ("eth1", Direction.EGRESS),
        ("blue/eth1", Direction.EGRESS),
        ("blue/eth1", Direction.INGRESS),
    ]
    assert known_devices(bench.folder) == ("eth1", "blue/eth1")
    state = DeviceState(bench.folder, "blue/eth1", Direction.INGRESS)
    assert (state.title, state.home) == ("blue/eth1 (ingress)", bench.folder / "net-blue" / "eth1")
    assert look(kernel, state, now=0.0).drift == ()
    (bench.folder / "net-blue" / "eth1" / "netns").write_text("red")  # deleted, or another one by now
    assert known_devices(bench.folder) == ("eth1",)


def test_a_missing_namespace_is_said_at_its_line(kernel: FakeKernel) -> None:
    policy = parse_policy(TEXT.replace("blue", "green"), source="office.yaml")
    with pytest.raises(UnavailableError, match="there is no network namespace 'green'") as caught:
        placed(policy, kernel)
    assert (caught.value.where is not None and caught.value.where.line) == 4
    assert "there are: blue" in caught.value.hint


def test_a_device_is_looked_for_where_the_policy_says(kernel: FakeKernel) -> None:
    text = TEXT.replace("device: eth1, netns", 'device: {pattern: "eth?"}, netns')
    with pytest.raises(UnavailableError, match="fits several devices: eth1, eth7"):
        placed(parse_policy(text, source="office.yaml"), kernel)
    found = placed(parse_policy(text.replace("eth?", "*7"), source="office.yaml"), kernel)
    assert [one.spot for one in found.interfaces] == ["eth1", "blue/eth7", "blue/eth7"]


def test_a_snapshot_and_a_saved_plan_keep_them_apart(tmp_path: Path, kernel: FakeKernel) -> None:
    policy = parse_policy(TEXT, source="office.yaml")
    prepared = []
    for one in policy.interfaces[:2]:
        prepared.append(apply.prepare(kernel, DeviceState(tmp_path, one.spot), policy, one))
        assert saved_interface(kernel, prepared[-1]).device == one.spot
    file = tmp_path / "live.json"
    file.write_text(json.dumps({"interfaces": [{"live": live_to_json(one)} for one in prepared]}))
    there = SnapshotKernel(FULL, snapshot.read_devices(file))
    assert [one.name for one in there.devices()] == ["eth1"]
    assert [one.name for one in there.inside("blue").devices()] == ["eth1"]
    again = apply.prepare(there, there.device("blue/eth1"), policy, policy.interfaces[1])
    assert again.plan == prepared[1].plan


def test_exported_commands_enter_the_namespace() -> None:
    lines = script([("", tree("eth1", ())), ("blue net", _root())]).splitlines()
    assert [line for line in lines if "tc " in line][-1].startswith(
        "ip netns exec 'blue net' tc qdisc add dev eth1 root"
    )


def _root() -> object:
    kernel = FakeKernel("eth1")
    policy = parse_policy(TEXT, source="office.yaml")
    with_root = compile_interface(policy.interfaces[0], FULL, kernel.link("eth1")).tree
    return tree("eth1", [with_root.root() or pytest.fail("no root")])


def test_the_service_may_enter_namespaces_only_where_a_policy_names_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shaper.cli.install_service._UNSEEN", ("/nowhere/",))
    plain, named = tmp_path / "plain.yaml", tmp_path / "named.yaml"
    plain.write_text(TEXT.replace("device: eth1, netns: blue", "device: eth2"))
    named.write_text(TEXT)
    root = tmp_path / "root"
    units = root / "etc/systemd/system"

    def install(*arguments: object) -> str:
        done = CliRunner().invoke(cli, ["install-service", *map(str, arguments), "--root", str(root)])
        assert done.exit_code == 0, done.exception
        return done.stdout

    assert "CAP_SYS_ADMIN" not in install(plain, "--print")
    assert "CAP_SYS_ADMIN" in install(named, "--print")
    install(named)
    assert is_untouched((units / DROP_IN).read_text())
    assert (units / DROP_IN).read_text() == drop_in_text()
    assert "CAP_SYS_ADMIN" not in (units / NAME).read_text()
    install(plain)
    assert [path.name for path in units.iterdir()] == [NAME]
    install(named)
    install("--remove")
    assert [*units.iterdir()] == []
