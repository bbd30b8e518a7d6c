"""Lists of addresses in files of their own: read beside the policy, part of its hash, kept with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from shaper.errors import PolicyError
from shaper.model.match import Packet, classify
from shaper.policy import addresses, parse_policy, read_policy

POLICY = """version: 1
interfaces:
  wan: {device: eth1, bandwidth: {egress: 20mbit}, policy: p}
policies:
  p:
    classes:
      site: {match: [{src: {file: lists/site.txt}, dst: [192.0.2.1, {file: lists/site.txt}]}]}
      rest: {default: true}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/site.txt").write_text("# ours\n10.0.0.0/8\n\n  192.0.2.0/24 # and theirs\n")
    (tmp_path / "office.yaml").write_text(POLICY)
    return tmp_path


def class_of(policy: str, src: int, dst: int, **more: dict[str, str]) -> str:
    rules = parse_policy(policy, source="office.yaml", **more).interfaces[0].rules()
    return classify(rules, Packet(0x0800, 255, src, dst))


def test_the_addresses_stand_where_the_list_is_named(folder: Path) -> None:
    policy = read_policy(folder / "office.yaml")
    (match,) = policy.interfaces[0].classes[1].matches
    assert [prefix.length for prefix in match.src] == [8, 24]
    assert [prefix.length for prefix in match.dst] == [8, 24, 32]
    assert policy.files == {"lists/site.txt": (folder / "lists/site.txt").read_text()}


def test_the_kept_lists_are_read_and_not_the_files(tmp_path: Path) -> None:
    kept = {"lists/site.txt": "198.51.100.0/24\n"}
    assert class_of(POLICY, 0xC6336407, 0xC0000201, files=kept) == "site"
    assert class_of(POLICY, 0x0A000001, 0xC0000201, files=kept) == "rest"
    with pytest.raises(PolicyError) as caught:
        parse_policy(POLICY, source="office.yaml", files={})
    assert {problem.kind for problem in caught.value.problems()} == {"address-file"}


def test_the_hash_is_of_the_lists_too(folder: Path) -> None:
    before = read_policy(folder / "office.yaml").sha256
    assert read_policy(folder / "office.yaml").sha256 == before
    (folder / "lists/site.txt").write_text("10.0.0.0/8\n")
    assert read_policy(folder / "office.yaml").sha256 != before


@pytest.mark.parametrize("name", ["../../../../etc/hostname\0", ".", "nowhere.txt", "x" * 5000])
def test_a_file_that_cannot_be_read_is_a_problem_at_its_name(folder: Path, name: str) -> None:
    (folder / "office.yaml").write_text(POLICY.replace("lists/site.txt", f'"{name}"'.replace("\0", "\\0")))
    with pytest.raises(PolicyError) as caught:
        read_policy(folder / "office.yaml")
    problems = caught.value.problems()
    assert {problem.kind for problem in problems} == {"address-file"}
    assert {problem.where.line for problem in problems if problem.where} == {7}


def test_a_list_has_a_bounded_length(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "MAX_ADDRESSES", 1000)
    lines = "".join(f"10.{number >> 8}.{number & 255}.1\n" for number in range(1001))
    (folder / "lists/site.txt").write_text(lines)
    with pytest.raises(PolicyError) as caught:
        read_policy(folder / "office.yaml")
    assert "1001 addresses" in caught.value.problems()[0].message


def test_what_is_wrong_in_a_list_is_said_there_and_once(folder: Path) -> None:
    (folder / "lists/site.txt").write_text("10.0.0.0/8\n\t10.1.0.1/16 # host bits\n")
    with pytest.raises(PolicyError) as caught:
        read_policy(folder / "office.yaml")
    (problem,) = caught.value.problems()
    assert problem.kind == "host-bits"
    assert str(problem.where) == f"{folder / 'lists/site.txt'}:2:2"
