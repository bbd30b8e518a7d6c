"""`shaper replay`: what was recorded comes out again, and what does not is shown."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from report_samples import DECISION, OBSERVATION

from shaper.cli.replay import replay
from shaper.cli.simulate import compiled
from shaper.errors import UnavailableError
from shaper.history.records import Premise
from shaper.history.store import History
from shaper.lab.offered import from_scenario
from shaper.lab.scenario import read_scenario
from shaper.lab.simulator import Simulation
from shaper.lab.stage import laid_out, the_interface

ROOT = Path(__file__).resolve().parents[2]
POLICY = ROOT / "policies" / "lab" / "office.yaml"
SCENARIO = ROOT / "policies" / "scenarios" / "open-loop.yaml"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The journal of a simulated run, with every decision that changed something."""
    folder = tmp_path_factory.mktemp("state")
    interface = the_interface(POLICY)
    traffic = laid_out(interface, read_scenario(SCENARIO), name=SCENARIO, seconds=6, seed=1)
    simulation = Simulation(compiled(interface, structure=True), from_scenario(traffic), mode="controlled")
    simulation.run()
    with History(folder / "history.db") as history:
        for move in simulation.moves:
            history.decide(
                at=1000 + move.at,
                device="wan0",
                decision=move.decision,
                applied=True,
                read_back=move.decision.allocation,
                inputs=move.inputs,
                premise=move.premise,
            )
    assert len(simulation.moves) > 4
    return folder


def ran(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(replay, [str(one) for one in arguments], catch_exceptions=False, standalone_mode=False)
    return int(done.return_value), done.output


def test_the_same_law_decides_the_same(recorded: Path) -> None:
    code, said = ran(recorded)
    assert code == 0
    assert "0 differ" in said


def test_as_many_as_any_number_says_are_all(recorded: Path) -> None:
    assert ran(recorded, "--last", 2**70) == ran(recorded)


def altered(recorded: Path, folder: Path, change: Any) -> Path:
    """A copy of the journal in which the last line says something else."""
    path = folder / "history.db"
    path.write_bytes((recorded / "history.db").read_bytes())
    with closing(sqlite3.connect(path)) as connection, connection:
        number, payload = connection.execute("SELECT id, payload FROM decision ORDER BY id DESC LIMIT 1").fetchone()
        data = json.loads(payload)
        change(data)
        connection.execute("UPDATE decision SET payload = ? WHERE id = ?", (json.dumps(data), number))
    return path


def test_another_decision_is_shown_beside_what_was_recorded(recorded: Path, tmp_path: Path) -> None:
    def other(data: dict[str, Any]) -> None:
        data["decision"]["allocation"]["video"]["rate_bit_s"] = 4_000_000

    path = altered(recorded, tmp_path, other)
    code, said = ran(path)
    assert code == 2
    assert "1 differ" in said
    assert "video: recorded 4mbit" in said
    code, said = ran(path, "--json")
    assert code == 2
    (one,) = json.loads(said)["differ"]
    assert one["recorded"]["allocation"]["video"]["rate_bit_s"] == 4_000_000
    assert one["replayed"]["allocation"]["video"]["rate_bit_s"] > 4_000_000


def test_other_inputs_are_another_decision(recorded: Path, tmp_path: Path) -> None:
    def louder(data: dict[str, Any]) -> None:
        data["inputs"]["classes"]["video"] |= {"inelastic_bit_s": 15e6, "offered_bit_s": 15e6}

    code, said = ran(altered(recorded, tmp_path, louder))
    assert code == 2
    assert "16.5mbit" in said  # 1.1 x 15


def test_a_line_of_an_older_shaper_is_counted_and_not_replayed(tmp_path: Path) -> None:
    with History(tmp_path / "history.db") as history:
        history.decide(
            at=1, device="eth1", decision=DECISION, applied=True, read_back=DECISION.allocation, inputs=OBSERVATION
        )
    code, said = ran(tmp_path)
    assert code == 4
    assert "1 lines are of a shaper that did not keep" in said


def test_a_journal_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"history\.db is not there"):
        ran(tmp_path)


def test_what_is_no_journal_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    text, other = tmp_path / "policy.yaml", tmp_path / "other.db"
    text.write_text("version: 1\n")
    with closing(sqlite3.connect(other)) as connection, connection:
        connection.execute("CREATE TABLE theirs (a INTEGER)")
    before = other.read_bytes()
    for path in (text, other):
        with pytest.raises(UnavailableError, match="holds no decisions of the shaper's") as refused:
            ran(path)
        assert "history.db" in refused.value.hint
    assert other.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.db", "policy.yaml"]


def test_a_setup_is_kept_once_and_its_change_again(tmp_path: Path, recorded: Path) -> None:
    with History(recorded / "history.db") as history:
        lines = history.journal(last=100)
    assert all(isinstance(line.premise, Premise) for line in lines)
    with closing(sqlite3.connect(recorded / "history.db")) as connection:
        assert connection.execute("SELECT count(*) FROM setup").fetchone() == (1,)
    first = lines[0].premise
    assert first is not None
    assert {path: one.grant for path, one in first.state.classes.items()} == first.setup.static()
