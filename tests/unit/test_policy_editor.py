"""The JSON Schema for editors: what is accepted fits it, and what has the wrong shape does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from shaper.cli.entry import cli
from shaper.policy import schema
from shaper.policy.editor import json_schema
from shaper.policy.kinds import Kind
from shaper.policy.reader import Node, read
from shaper.policy.spelling import BELOW

ROOT = Path(__file__).parents[2]
CASES = sorted(path for path in (ROOT / "tests/golden/policy").iterdir() if path.is_dir())
SHAPES = {
    Kind.UNKNOWN_KEY,
    Kind.MISSING_KEY,
    Kind.UNKNOWN_TIER,
    Kind.BAD_VERSION,
    Kind.UNKNOWN_SERVICE_CLASS,
    Kind.UNKNOWN_LINK,
}
"""Kinds that a shape can tell. A key that comes twice, or what a name means, it cannot."""

CHECK = Draft202012Validator(json_schema())


def plain(node: Node) -> Any:
    if isinstance(node.value, dict):
        return {key: plain(below) for key, below in node.value.items()}
    return [plain(below) for below in node.value] if isinstance(node.value, list) else node.value


def document(path: Path) -> Any:
    found, problems = read(path.read_text(), source=str(path))
    assert found is not None and not problems
    return plain(found.root)


def good() -> list[Path]:
    """Every policy that is accepted."""
    accepted = [case / "policy.yaml" for case in CASES if isinstance(expected(case), dict)]
    return [*sorted((ROOT / "policies").glob("*.yaml")), *accepted]


def expected(case: Path) -> Any:
    return json.loads((case / "expected.json").read_text())


def misshapen() -> list[Path]:
    """Every broken policy with a problem of shape in the file itself."""
    return [
        case / "policy.yaml"
        for case in CASES
        if isinstance(expected(case), list)
        and any(one["kind"] in SHAPES and one["line"] and "file" not in one for one in expected(case))
        and not any(one["kind"] in (Kind.YAML_SYNTAX, Kind.YAML_FEATURE, Kind.DUPLICATE_KEY) for one in expected(case))
    ]


def specs(of: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Every shape of a part of a policy."""
    for spec in of.__subclasses__():
        yield spec
        yield from specs(spec)


def shape(spec: type[BaseModel]) -> dict[str, Any]:
    made = json_schema()
    found: dict[str, Any] = made if spec is schema.FileSpec else made["$defs"][spec.__name__]
    return found


def says_nothing(fragment: Any) -> bool:
    """Whether any value at all fits, so that an editor is of no help."""
    if isinstance(fragment, dict):
        return not fragment or any(
            says_nothing(each) for key, each in fragment.items() if key in ("anyOf", "items", "additionalProperties")
        )
    return isinstance(fragment, list) and any(map(says_nothing, fragment))


@pytest.mark.parametrize("spec", [*specs(schema._Spec)], ids=lambda spec: spec.__name__)
def test_every_key_that_is_read_is_known_to_an_editor_with_what_it_takes(spec: type[BaseModel]) -> None:
    keys = {each.alias or name for name, each in spec.model_fields.items()}
    properties = shape(spec)["properties"]
    assert properties.keys() == keys
    assert shape(spec)["additionalProperties"] is False
    assert [key for key in keys if says_nothing(properties[key])] == [], "its reader is missing in editor._SCALARS"


@pytest.mark.parametrize("spec", [*specs(schema._Spec)], ids=lambda spec: spec.__name__)
def test_every_part_of_a_policy_is_known_to_the_hint_for_an_unknown_key(spec: type[BaseModel]) -> None:
    """What may stand below a key is looked up there by hand."""
    assert spec is schema.FileSpec or spec in BELOW.values()


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("path", good(), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_is_accepted_fits(path: Path) -> None:
    assert [error.message for error in CHECK.iter_errors(document(path))] == []


@pytest.mark.parametrize("path", misshapen(), ids=lambda path: path.parent.name)
def test_what_has_the_wrong_shape_does_not(path: Path) -> None:
    assert not CHECK.is_valid(document(path))


def test_there_are_some_of_each() -> None:
    assert len(good()) > 10
    assert len(misshapen()) > 5


def test_the_command_prints_it() -> None:
    done = CliRunner().invoke(cli, ["schema"])
    assert done.exit_code == 0
    assert json.loads(done.output) == json_schema()
