"""A device that is named on the command line: it names a folder of the state, and must be no way into another."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from shaper.cli.entry import cli
from shaper.run.state import DeviceState, Record

RECORD = Record("eth9", "wan", "policy.yaml", "aa", "boot", 0x5A000000)
NO_DEVICES = ["eth9/../eth9", ".", "..", "", "/etc", "a b", "e\nth", "\x1b[31m", "x" * 16, "é" * 8]


@pytest.mark.parametrize("name", NO_DEVICES)
@pytest.mark.parametrize("command", ["clear", "status", "history", "rollback", "confirm", "extend 1 60s"])
def test_what_no_device_is_called_is_refused(tmp_path: Path, command: str, name: str) -> None:
    state = DeviceState(tmp_path, "eth9")
    state.write_record(RECORD)
    done = CliRunner().invoke(cli, [*command.split(), "--device", name, "--state", str(tmp_path)])
    assert done.exit_code == 2  # click's own; 64 outside
    assert "cannot be a network device" in done.output
    assert state.record() == RECORD
