"""`shaper report` on what a run recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from report_samples import READ_ONCE, RUNNING

from shaper.cli import report as module
from shaper.cli.report import report
from shaper.errors import UnavailableError
from shaper.history.store import History
from shaper.model.policy import Direction
from shaper.model.shortage import Shortage
from shaper.model.status import InterfaceStatus
from shaper.run.state import DeviceState

NOW = 1_000_100.5


class Frozen:
    @staticmethod
    def wall() -> float:
        return NOW


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[InterfaceStatus, int, int], None]:
    """Puts a status into the history, once a second from one second until another."""
    monkeypatch.setattr(module, "CLOCK", Frozen)
    state = DeviceState(tmp_path, "eth1", Direction.EGRESS)

    def record(status: InterfaceStatus, since: int, until: int) -> None:
        with History(state.history) as history:
            for at in range(since, until):
                history.observe(at=at, device="eth1", status=status)

    return record


def asked(folder: Path, *arguments: str) -> tuple[int, str]:
    words = ["--state", str(folder), "--device", "eth1", *arguments]
    done = CliRunner().invoke(report, words, catch_exceptions=False, standalone_mode=False)
    return int(done.return_value), done.output


def test_what_held_and_for_how_long(tmp_path: Path, recorded: Callable[[InterfaceStatus, int, int], None]) -> None:
    recorded(RUNNING, 1_000_050, 1_000_100)  # voice met, video missed
    code, said = asked(tmp_path, "--last", "100s", "--json")
    assert code == 3
    (interface,) = json.loads(said)["interfaces"]
    assert interface["place"] == "eth1"
    voice, video = interface["classes"]["voice"], interface["classes"]["video"]
    assert (voice["attainment_ratio"], voice["met_s"], voice["coverage_ratio"]) == (1.0, 50, 0.5)
    assert voice["interval_95"][0] < 1.0  # fifty good seconds prove no perfection
    assert (video["attainment_ratio"], video["missed_s"], video["longest_miss_s"]) == (0.0, 50, 50)
    assert "bulk" not in interface["classes"]  # it promises nothing
    code, said = asked(tmp_path, "--last", "100s")
    assert code == 3
    assert "50 s" in next(line for line in said.splitlines() if line.startswith("video"))


def test_a_miss_while_the_link_was_too_small_is_marked(
    tmp_path: Path, recorded: Callable[[InterfaceStatus, int, int], None]
) -> None:
    recorded(RUNNING, 1_000_050, 1_000_100)
    with History(DeviceState(tmp_path, "eth1", Direction.EGRESS).history) as history:
        short = Shortage("video", "delay-p95", 1_000_090.25, 12_000_000, 8_000_000, 24_000_000)
        history.shortages(at=1_000_091, device="eth1", news=(short, replace(short, target="loss", bound="limit")))
    _, said = asked(tmp_path, "--last", "100s", "--json")
    classes = json.loads(said)["interfaces"][0]["classes"]
    assert (classes["video"]["missed_s"], classes["video"]["missed_for_capacity_s"]) == (50, 10)
    assert classes["voice"]["missed_for_capacity_s"] == 0
    _, said = asked(tmp_path, "--last", "100s")
    assert "50 s 10 s 50 s" in " ".join(next(line for line in said.splitlines() if line.startswith("video")).split())


def test_what_is_older_counts_for_nothing(
    tmp_path: Path, recorded: Callable[[InterfaceStatus, int, int], None]
) -> None:
    recorded(RUNNING, 1_000_000, 1_000_050)
    code, said = asked(tmp_path, "--last", "20s")
    assert code == 4
    assert "no class with an SLA was observed" in said


def test_what_was_not_measured_is_no_data(
    tmp_path: Path, recorded: Callable[[InterfaceStatus, int, int], None]
) -> None:
    recorded(READ_ONCE, 1_000_090, 1_000_100)
    code, _ = asked(tmp_path, "--last", "1h")
    assert code == 4


def test_a_folder_without_history_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="nothing was recorded"):
        asked(tmp_path)


@pytest.mark.parametrize("text", ["soon", "0s", "31d", "xh", ""])
def test_a_wrong_span_is_refused(tmp_path: Path, text: str) -> None:
    done = CliRunner().invoke(report, ["--state", str(tmp_path), "--last", text])
    assert done.exit_code == 2
    assert "--last" in done.output
