"""The systemd unit: what is written where, what is never overwritten, and that it is read as it is meant."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from shaper.cli.entry import cli
from shaper.cli.unit import NAME, is_untouched, unit_text
from shaper.errors import NotPermittedError, ShaperError, UnavailableError
from shaper.kernel.fake import FakeKernel
from shaper.policy import parse_policy
from shaper.run.late import wait_for
from shaper.run.notify import READY, notify

POLICY = Path(__file__).parents[2] / "policies" / "branch-office.yaml"


def install(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["install-service", *map(str, arguments)])


@pytest.fixture
def unseen_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout below /tmp is not seen by the service: here it does not matter."""
    monkeypatch.setattr("shaper.cli.install_service._UNSEEN", ("/nowhere/",))


def test_print_writes_nothing(tmp_path: Path) -> None:
    done = install(POLICY, "--print", "--root", tmp_path)
    assert is_untouched(done.stdout)
    assert f"run {POLICY} --state /var/lib/shaper --wait-device 30s" in done.stdout
    assert not [*tmp_path.iterdir()]


def test_where_the_metrics_are_is_the_unit_s_too() -> None:
    assert " --wait-device 30s --listen 0.0.0.0:9917 " in install(POLICY, "--print", "--listen", "0.0.0.0:9917").stdout
    assert "--listen" not in install(POLICY, "--print").stdout
    for wrong in (("--listen", "9917", "--print", POLICY), ("--remove", "--listen", "0.0.0.0:9917")):
        refused = install(*wrong)
        assert (refused.exit_code, "--listen" in refused.output) == (2, True)  # which the entry makes 64


@pytest.mark.usefixtures("unseen_is_fine")
def test_written_again_and_removed(tmp_path: Path) -> None:
    unit = tmp_path / "etc/systemd/system" / NAME
    done = install(POLICY, "--root", tmp_path)
    assert f"systemctl --root={tmp_path} enable {NAME}" in done.stdout
    assert is_untouched(unit.read_text())
    assert install(POLICY.with_name("home-cable.yaml"), "--root", tmp_path).exit_code == 0
    assert "home-cable.yaml" in unit.read_text()
    assert install("--remove", "--root", tmp_path).exit_code == 0
    assert [*unit.parent.iterdir()] == []
    assert "there is no" in str(install("--remove", "--root", tmp_path).exception)


@pytest.mark.usefixtures("unseen_is_fine")
def test_a_changed_unit_is_kept_unless_forced(tmp_path: Path) -> None:
    unit = tmp_path / "etc/systemd/system" / NAME
    install(POLICY, "--root", tmp_path)
    changed = unit.read_text().replace("RestartSec=5", "RestartSec=9")
    unit.write_text(changed)
    for command in (("--remove",), (POLICY,)):
        refused = install(*command, "--root", tmp_path)
        assert isinstance(refused.exception, ShaperError)
        assert "changed by somebody" in refused.exception.message
        assert unit.read_text() == changed
    assert install(POLICY, "--root", tmp_path, "--force").exit_code == 0
    assert is_untouched(unit.read_text())


def test_what_the_service_would_not_see_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shaper.cli.install_service._UNSEEN", (f"{tmp_path}/",))
    policy = tmp_path / "office.yaml"
    policy.write_text(POLICY.read_text())
    refused = install(policy, "--root", tmp_path)
    assert isinstance(refused.exception, ShaperError)
    assert f"would not see {policy}" in refused.exception.message


@pytest.mark.usefixtures("unseen_is_fine")
def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("a file in the folder's place")
    refused = install(POLICY, "--root", tmp_path)
    assert isinstance(refused.exception, ShaperError)
    assert not isinstance(refused.exception, NotPermittedError)
    assert "can't be" in refused.exception.message


@pytest.mark.parametrize("arguments", [(), ("--remove", "--print"), ("--remove", str(POLICY))])
def test_usage(arguments: tuple[str, ...]) -> None:
    assert install(*arguments).exit_code == 2


def test_the_kernel_is_probed_before_the_service_has_given_up_the_right_to() -> None:
    text = install(POLICY, "--print").stdout
    assert re.search(r"^ExecStartPre=-\+/bin/sh .* \S+/shaper doctor --json$", text, re.MULTILINE)
    assert re.search(r"^ExecStart=\S+/shaper run .* --capabilities /run/shaper/capabilities.json$", text, re.MULTILINE)


def test_however_the_service_ends_the_static_allocation_comes_back() -> None:
    text = install(POLICY, "--print").stdout
    (state,) = re.findall(r"^ExecStart=.* --state (\S+)", text, re.MULTILINE)
    assert re.search(rf"^ExecStopPost=-\+\S+/shaper rollback --static --state {state} -m ", text, re.MULTILINE)
    assert re.search(r"^WatchdogSec=\d+$", text, re.MULTILINE), "a controller that hangs is ended"


def test_words_are_written_as_systemd_reads_them() -> None:
    text = unit_text(["/opt/a b"], ['x"y', "50%", "$HOME", "line\nbreak"])
    assert 'ExecStart="/opt/a b" "x\\"y" 50%% "$$HOME" "line\\x0abreak"\n' in text


def test_systemd_finds_nothing_to_say(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("missing capability: systemd-analyze")
    unit = tmp_path / "sla-shaper-test.service"
    unit.write_text(unit_text(["/bin/true"], ["a b", "50%"]))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, timeout=60, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    graded = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=30", unit],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert graded.returncode == 0, graded.stdout[-300:]


def test_the_service_manager_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "notify"
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify(READY)
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    assert not notify(READY), "nobody listens"
    for address, name in ((str(path), str(path)), (f"\0slat-{os.getpid()}", f"@slat-{os.getpid()}")):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(address)
            monkeypatch.setenv("NOTIFY_SOCKET", name)
            assert notify(READY)
            assert manager.recv(100) == b"READY=1"


class Slept:
    """A clock that only sleeping moves on."""

    def __init__(self, kernel: FakeKernel, comes_at: float) -> None:
        self.now, self._kernel, self._comes_at = 0.0, kernel, comes_at

    def monotonic(self) -> float:
        return self.boot()

    def processor(self) -> float:
        return 0.0

    def boot(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.now >= self._comes_at:
            self._kernel.add_device("ppp0")


@pytest.mark.parametrize(("device", "words"), [("ppp0", "ppp0"), ('{pattern: "ppp*"}', "the pattern ppp*")])
@pytest.mark.parametrize(("comes_at", "ends_at"), [(3.0, 3.0), (60.0, 30.0)])
def test_a_device_is_waited_for_so_long_and_no_longer(comes_at: float, ends_at: float, device: str, words: str) -> None:
    kernel = FakeKernel("eth0")
    clock = Slept(kernel, comes_at)
    said: list[str] = []
    text = POLICY.read_text().replace("device: eth1", f"device: {device}")
    policy = parse_policy(text, source="office.yaml")
    wait_for(kernel, policy, policy.interfaces, seconds=30.0, clock=clock, told=said.append, sleep=clock.sleep)
    assert clock.now == pytest.approx(ends_at, abs=0.21)
    assert said[0] == f"waiting up to 30s for {words}, not there yet"
    assert len(said) == (1 if comes_at < 30 else 2)
    if comes_at > 30:
        with pytest.raises(UnavailableError):
            kernel.link("ppp0")
