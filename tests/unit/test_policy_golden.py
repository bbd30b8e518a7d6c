"""Golden policies: a case is a directory with a policy and either its problems or a summary of the model.

After a change that is meant, `GOLDEN=write pytest tests/unit/test_policy_golden.py` writes what is now found; read
the difference before it is committed.
"""

from __future__ import annotations

import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from shaper.errors import PolicyError, Where
from shaper.model.aqm import Aqm, CakeSettings
from shaper.model.policy import Interface, Policy, TrafficClass
from shaper.policy import checks, parse_policy, read_policy, reader
from shaper.policy.kinds import Kind

ROOT = Path(__file__).parents[2]
CASES = sorted(path for path in (ROOT / "tests/golden/policy").iterdir() if path.is_dir())


def summary_of(policy: Policy) -> dict[str, Any]:
    """What a person would check of a policy that was accepted."""
    return {
        interface.title: {
            "device": interface.spot,
            "bandwidth": interface.bandwidth,
            **({"policed": f"without {'; '.join(interface.unused)}"} if interface.policed else {}),
            **link_of(interface),
            **moving_of(interface),
            **({"cake": numbers(interface.cake)} if interface.cake else {}),
            **offloads_of(interface),
            "classes": {cls.path: row(cls) for cls in interface.walk()},
            "rules": [
                f"{len(rule.all_of)} -> {rule.path}"
                for rule in interface.rules().ordered
                if rule.path != "network-control"
            ],
            "default": interface.rules().default,
            **schedule_of(interface),
        }
        for interface in policy.interfaces
    }


def numbers(said: Aqm | CakeSettings) -> str:
    """What was said of a queue."""
    pairs = ((field.name, getattr(said, field.name)) for field in fields(said))
    return " ".join(f"{name}={value}" for name, value in pairs if value is not None)


def schedule_of(interface: Interface) -> dict[str, Any]:
    """What its schedule makes of it, phase by phase."""
    timetable = interface.timetable
    return {
        f"while: {timetable.words(phase)}": [
            f"bandwidth {then.bandwidth}",
            *(f"{cls.path} {row(cls)}" for cls in then.walk()),
        ]
        for phase, then in interface.variants.items()
        if timetable
    }


def link_of(interface: Interface) -> dict[str, str]:
    """What its link makes of a packet, where that was said."""
    link = interface.link
    return {"link": f"{link.name} {link.overhead} mpu {link.mpu} {link.cells}"} if link else {}


def moving_of(interface: Interface) -> dict[str, Any]:
    """Between what its rate moves, where it does."""
    moves = interface.moving
    if moves is None:
        return {}
    asked = f"{moves.kind} {moves.port} {', '.join(moves.reflectors)} {moves.bloat:g} s"
    return {"moving": f"{moves.least} to {moves.most} by {asked}"}


def offloads_of(interface: Interface) -> dict[str, str]:
    """What is done about super-packets, where that was said."""
    wanted = interface.offloads
    return {"offloads": f"fed by {', '.join(wanted.feeding)}" if wanted.feeding else "auto"} if wanted else {}


def row(cls: TrafficClass) -> str:
    """A class in one line."""
    text = f"{cls.tier.name.lower()} {cls.guarantee} floor {cls.floor} limit {cls.limit} share {cls.share:g}"
    targets = [f"{target.key} {target.seconds:g}" for target in cls.sla.delays]
    targets += [f"{target.key} {target.seconds:g}" for target in cls.sla.jitters]
    targets += [f"mos {mos.least:g} {mos.codec} {mos.path:g}"] if (mos := cls.sla.mos) is not None else []
    targets += [f"{name} {value:g}" for name in ("loss", "throughput") if (value := getattr(cls.sla, name)) is not None]
    more = {"most": cls.most, "step": cls.step, "priority": cls.priority, "burst": cls.burst, "cburst": cls.cburst}
    more["aqm"] = cls.aqm and numbers(cls.aqm)
    more |= {"fairness": cls.fairness, "police": cls.police, "marking": cls.marking or None, "probe": cls.probe}
    text += "".join(f" {key} {value}" for key, value in more.items() if value not in (None, 0))
    text += f" is {cls.service}: {'; '.join(cls.presets)}" if cls.service else ""
    return " ".join([text, *(["implied"] if cls.implied else []), *(f"[{target}]" for target in targets)])


def included_file(case: Path, where: Where | None) -> dict[str, str]:
    """The file of a problem, where it is another than the policy itself."""
    file = Path(where.file).relative_to(case) if where else Path("policy.yaml")
    return {} if file == Path("policy.yaml") else {"file": str(file)}


def found_in(case: Path) -> Any:
    """The problems, or the summary."""
    try:
        return summary_of(read_policy(case / "policy.yaml"))
    except PolicyError as error:
        assert error.problems()
        return [
            {
                "kind": str(problem.kind),
                **included_file(case, problem.where),
                "line": problem.where.line if problem.where else None,
                "column": problem.where.column if problem.where else None,
                "path": problem.path,
                "message": problem.message.replace(str(case), "."),
                "hint": problem.hint.replace(str(case), "."),
            }
            for problem in error.problems()
        ]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_golden(case: Path) -> None:
    found = found_in(case)
    expected = case / "expected.json"
    if os.environ.get("GOLDEN") == "write":
        expected.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    assert found == json.loads(expected.read_text())


def test_every_kind_of_problem_has_a_case_with_its_line_and_column() -> None:
    placed: set[str] = {Kind.UNREADABLE}  # a file that cannot be read has no lines
    for case in CASES:
        expected = json.loads((case / "expected.json").read_text())
        if isinstance(expected, list):
            placed.update(problem["kind"] for problem in expected if problem["line"] and problem["column"])
    assert set(Kind) <= placed, f"no golden case for {sorted(set(Kind) - placed)}"


def test_every_problem_tells_the_mend() -> None:
    for case in CASES:
        for problem in json.loads((case / "expected.json").read_text()):
            assert isinstance(problem, str) or (problem["message"] and problem["hint"])


@pytest.mark.parametrize("path", sorted((ROOT / "policies").glob("*.yaml")), ids=lambda path: path.name)
def test_the_policies_that_come_with_the_shaper_are_good(path: Path) -> None:
    assert read_policy(path).interfaces


def test_the_branch_office_case_is_the_policy_that_ships() -> None:
    case = ROOT / "tests/golden/policy/branch-office/policy.yaml"
    assert case.read_text() == (ROOT / "policies/branch-office.yaml").read_text()


def kinds(text: str) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        parse_policy(text, source="policy.yaml")
    return [problem.kind for problem in caught.value.problems()]


def policy_of(classes: str) -> str:
    interface = "wan: {device: eth1, bandwidth: {egress: 10gbit}, policy: p}"
    return f"version: 1\ninterfaces:\n  {interface}\npolicies:\n  p:\n    classes:\n{classes}"


def test_sizes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kinds("#" * (reader.MAX_CHARACTERS + 1)) == [Kind.TOO_LARGE]
    assert kinds("a: &a 1\nb: [" + "*a, " * (reader.MAX_ALIASES + 1) + "]") == [Kind.TOO_LARGE]
    monkeypatch.setattr(checks, "MAX_LEAVES", 20)
    leaves = "".join(f"      c{n}: {{match: [{{dst: 10.0.0.{n}}}]}}\n" for n in range(20))
    assert kinds(policy_of(leaves + "      rest: {default: true}\n")) == [Kind.TOO_LARGE]


def test_rules_that_multiply_are_bounded() -> None:
    match = "[" + ", ".join(f"{{sport: {port}}}" for port in range(1, 31)) + "]"
    nested = "{default: true}"
    for level in range(5):
        nested = f"{{match: {match}, classes: {{c{level}: {nested}}}}}"
    assert kinds(policy_of(f"      top: {nested}\n")) == [Kind.TOO_LARGE]


def test_problems_come_in_the_order_of_the_file() -> None:
    for case in CASES:
        expected = json.loads((case / "expected.json").read_text())
        if isinstance(expected, list):
            files = [problem.get("file", "policy.yaml") for problem in expected]
            places = [(problem["line"] or 0, problem["column"] or 0) for problem in expected]
            assert list(zip(files, places, strict=True)) == sorted(zip(files, places, strict=True))
