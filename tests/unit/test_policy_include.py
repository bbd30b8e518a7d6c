"""A policy in several files: one text carries them all, and what stands where makes no difference."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from shaper.errors import PolicyError, Where
from shaper.model.policy import Policy
from shaper.policy import include, parse_policy, read_policy, variables
from shaper.policy.kinds import Kind
from shaper.policy.reader import MAX_CHARACTERS, MAX_NODES

ROOT = Path(__file__).parents[2]
GOOD = ROOT / "tests/golden/policy/good-includes"
INTERFACE = "interfaces: {wan: {device: eth1, bandwidth: {egress: 20mbit}, policy: p}}\n"
POLICY = "policies: {p: {classes: {rest: {default: true}}}}\n"


def kinds(call: Path) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        read_policy(call)
    return [problem.kind for problem in caught.value.problems()]


def test_a_policy_that_was_kept_needs_none_of_its_files(tmp_path: Path) -> None:
    shutil.copytree(GOOD, tmp_path / "there")
    policy = read_policy(tmp_path / "there/policy.yaml")
    assert set(policy.files) == {"shared/groups.yaml", "shared/defaults.yaml"}
    shutil.rmtree(tmp_path / "there")
    assert parse_policy(policy.text, source=policy.source, files=policy.files) == policy


def test_an_included_file_names_its_lists_from_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "main.yaml").write_text("version: 1\ninclude: shared/p.yaml\n" + INTERFACE)
    classes = "a: {match: [{src: {file: list.txt}}]}, rest: {default: true}"
    (tmp_path / "shared/p.yaml").write_text(f"policies: {{p: {{classes: {{{classes}}}}}}}\n")
    (tmp_path / "shared/list.txt").write_text("10.0.0.0/8\n")
    policy = read_policy(tmp_path / "main.yaml")
    assert set(policy.files) == {"shared/p.yaml", "shared/list.txt"}
    assert parse_policy(policy.text, source="elsewhere.yaml", files=policy.files).interfaces
    (tmp_path / "shared/list.txt").write_text("10.0.0.1/8\n")
    with pytest.raises(PolicyError) as caught:
        read_policy(tmp_path / "main.yaml")
    (problem,) = caught.value.problems()
    assert problem.where == Where(str(tmp_path / "shared/list.txt"), 1, 1)


def test_every_included_file_is_part_of_the_hash(tmp_path: Path) -> None:
    shutil.copytree(GOOD, tmp_path, dirs_exist_ok=True)
    before = read_policy(tmp_path / "policy.yaml").sha256
    for file in ("policy.yaml", "shared/groups.yaml", "shared/defaults.yaml"):
        path = tmp_path / file
        path.write_text(path.read_text() + "# another\n")
        after = read_policy(tmp_path / "policy.yaml").sha256
        assert after != before
        before = after


def test_what_was_not_kept_is_not_read(tmp_path: Path) -> None:
    """A text from a socket or from history makes nobody read the files of the machine."""
    (tmp_path / "p.yaml").write_text(POLICY)
    with pytest.raises(PolicyError) as caught:
        parse_policy("version: 1\ninclude: p.yaml\n" + INTERFACE, source=str(tmp_path / "main.yaml"), files={})
    (problem,) = caught.value.problems()
    assert (problem.kind, "was not kept with the policy" in problem.message) == (Kind.UNREADABLE, True)


def test_what_two_files_need_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "main.yaml").write_text("version: 1\ninclude: [a.yaml, ./b.yaml, p.yaml]\n" + INTERFACE)
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text("include: p.yaml\n")
    (tmp_path / "p.yaml").write_text(POLICY)
    assert read_policy(tmp_path / "main.yaml").interfaces


def test_files_are_bounded(tmp_path: Path) -> None:
    many = ", ".join(f"f{n}.yaml" for n in range(include.MAX_FILES + 1))
    main = tmp_path / "main.yaml"
    main.write_text(f"version: 1\ninclude: [{many}]\n{INTERFACE}{POLICY}")
    for n in range(include.MAX_FILES + 1):
        (tmp_path / f"f{n}.yaml").write_text("")
    assert kinds(main) == [Kind.TOO_LARGE]
    for n in range(include.MAX_CHAIN + 1):
        (tmp_path / f"f{n}.yaml").write_text(f"include: f{n + 1}.yaml\n")
    main.write_text(f"version: 1\ninclude: f0.yaml\n{INTERFACE}{POLICY}")
    assert kinds(main) == [Kind.TOO_LARGE]
    (tmp_path / "large.yaml").write_text("#" * (MAX_CHARACTERS - 10))
    main.write_text(f"version: 1\ninclude: large.yaml\n{INTERFACE}{POLICY}")
    assert kinds(main) == [Kind.TOO_LARGE]


def test_vars_make_no_large_document_of_a_small_one(tmp_path: Path) -> None:
    main = tmp_path / "main.yaml"
    uses = ", ".join(['"${v}${v}${v}${v}"'] * 1000)
    main.write_text(f"version: 1\nvars: {{v: {'x' * variables.LONGEST}}}\n{INTERFACE}{POLICY}x: [{uses}]\n")
    assert kinds(main).count(Kind.TOO_LARGE) == 1
    main.write_text(f"version: 1\nvars: {{v: {'x' * (variables.LONGEST + 1)}}}\n{INTERFACE}{POLICY}")
    assert kinds(main) == [Kind.BAD_VAR]


def test_defaults_make_no_large_document_of_a_small_one(tmp_path: Path) -> None:
    targets = ", ".join(f"delay-p{n / 1000:.3f}: 5ms" for n in range(1, MAX_NODES // 1000 + 2))
    classes = "".join(f"      c{n}: {{match: [{{dscp: ef}}]}}\n" for n in range(1000))
    main = tmp_path / "main.yaml"
    main.write_text(
        f"version: 1\n{INTERFACE}defaults: {{sla: {{{targets}}}}}\npolicies:\n  p:\n    classes:\n{classes}"
        "      rest: {default: true}\n"
    )
    assert Kind.TOO_LARGE in kinds(main)


def without_places(policy: Policy) -> list[object]:
    """What the policy means."""
    return [
        (one.name, one.device, one.bandwidth, [(cls.path, cls.guarantee, cls.limit, cls.sla) for cls in one.walk()])
        for one in policy.interfaces
    ]


@given(st.data())
def test_where_a_part_stands_makes_no_difference(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("split")
    whole = yaml.safe_load(data.draw(st.sampled_from(sorted((ROOT / "policies").glob("*.yaml")))).read_text())
    parts: list[dict[str, dict[str, object]]] = [{}, {}, {}]
    for key in ("match-groups", "interfaces", "policies"):
        for name, value in whole.get(key, {}).items():
            data.draw(st.sampled_from(parts)).setdefault(key, {})[name] = value
    for number, part in enumerate(parts):
        (folder / f"{number}.yaml").write_text(yaml.safe_dump(part, sort_keys=False))
    (folder / "whole.yaml").write_text(yaml.safe_dump(whole, sort_keys=False))
    zone = f"zone: {whole['zone']}\n" if "zone" in whole else ""
    (folder / "main.yaml").write_text(f"version: 1\n{zone}include: [0.yaml, 1.yaml, 2.yaml]\n")
    expected = sorted(without_places(read_policy(folder / "whole.yaml")), key=str)
    assert sorted(without_places(read_policy(folder / "main.yaml")), key=str) == expected
