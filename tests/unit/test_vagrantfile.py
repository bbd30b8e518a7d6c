"""The Vagrantfile is one that vagrant takes, for both providers, and its policy fits its machines."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from shaper.policy import read_policy

ROOT = Path(__file__).parents[2]
POLICY = ROOT / "policies" / "vagrant" / "router.yaml"

# What vagrant asks VirtualBox for before it validates; with more it would be a VirtualBox.
VBOXMANAGE = '#!/bin/sh\n[ "$*" = --version ] && echo 7.0.0r1\n'


def validate(tmp_path: Path, provider: str, **environment: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("vagrant") is None:
        pytest.skip("missing capability: vagrant")
    program = tmp_path / "VBoxManage"
    program.write_text(VBOXMANAGE)
    program.chmod(0o755)
    vagrants = {"VAGRANT_HOME": str(tmp_path / "home"), "VAGRANT_DOTFILE_PATH": str(tmp_path / "dot")}
    path = f"{os.environ['PATH']}:{tmp_path}"
    return subprocess.run(
        ["vagrant", "validate"],
        cwd=ROOT,
        env={**os.environ, **vagrants, "PATH": path, "VAGRANT_DEFAULT_PROVIDER": provider, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("provider", "more"),
    [("libvirt", {}), ("libvirt", {"SHAPER_DRIVER": "qemu", "SHAPER_SITES": "2"}), ("virtualbox", {})],
)
def test_vagrant_takes_it(tmp_path: Path, provider: str, more: dict[str, str]) -> None:
    done = validate(tmp_path, provider, **more)
    if provider == "libvirt" and "could not be found" in done.stderr:
        pytest.skip("missing capability: vagrant-libvirt")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("name", "value"), [("SHAPER_DRIVER", "xen"), ("SHAPER_SITES", "3")])
def test_a_wrong_variable_is_named(tmp_path: Path, name: str, value: str) -> None:
    done = validate(tmp_path, "virtualbox", **{name: value})
    assert done.returncode != 0
    assert f"{name} is" in done.stderr
    assert f"not {value}" in done.stderr


def test_the_policy_finds_the_card_that_the_vagrantfile_gives() -> None:
    (address,) = re.findall(r'^ROUTER_WAN_MAC = "(\w+)"', (ROOT / "Vagrantfile").read_text(), re.MULTILINE)
    (interface,) = read_policy(POLICY).interfaces
    assert interface.wanted is not None
    assert str(interface.wanted.mac).replace(":", "") == address
