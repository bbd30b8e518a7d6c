"""Policy text to the model, or the list of all Problems."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from shaper.errors import PolicyError, Problem, Where
from shaper.model.policy import Policy
from shaper.policy.backends import backend_problems
from shaper.policy.checks import file_problems, policy_problems
from shaper.policy.defaults import with_defaults
from shaper.policy.draft import Drafter
from shaper.policy.groups import Groups
from shaper.policy.include import gather
from shaper.policy.resolve import interface, unplaced_problems
from shaper.policy.schema import validate
from shaper.policy.sources import Fetch, from_disk, from_texts, text_of
from shaper.policy.variables import substitute

__all__ = ["parse_policy", "policy_hash", "read_policy"]


def read_policy(path: Path) -> Policy:
    """The policy in a file and those that it names.

    Raises PolicyError with every problem in it, also where it cannot be read at all.
    """
    return _policy(text_of(path), str(path), from_disk(path.parent))


def parse_policy(text: str, *, source: str, files: Mapping[str, str] | None = None) -> Policy:
    """The policy in a text that came from `source`. Raises PolicyError with every problem in it, sorted by place.

    `files` are the texts of the files that it names (policies that it includes, lists of addresses); without, they are
    read from the folder of `source`.
    """
    return _policy(text, source, from_disk(Path(source).parent) if files is None else from_texts(files))


def _policy(text: str, source: str, fetch: Fetch) -> Policy:
    document, problems, files = gather(text, source, fetch)
    if document is None:
        raise PolicyError(_sorted(problems))
    for step in (substitute, with_defaults):
        document, more = step(document)
        problems += more
    spec, lost, misshapen = validate(document)
    groups = Groups(spec.match_groups, document, lost)
    drafter = Drafter(document, lost, groups)
    drafts = {
        name: [drafter.draft(cls, below, ("policies", name, "classes", cls)) for cls, below in policy.classes.items()]
        for name, policy in spec.policies.items()
    }
    problems += [*misshapen, *groups.problems, *drafter.problems, *file_problems(spec, document, lost)]
    for name, classes in drafts.items():
        backends = [wanted.backend for wanted in spec.interfaces.values() if wanted.policy == name]
        limits = not backends or any(backend.rated for backend in backends)
        problems += policy_problems(name, classes, document, lost, limits=limits)
    interfaces = []
    for name, wanted in spec.interfaces.items():
        resolved, ill_rated = interface(name, wanted, drafts.get(wanted.policy, []), document, lost)
        interfaces.append(resolved)
        problems += ill_rated
    for name in drafts.keys() - {wanted.policy for wanted in spec.interfaces.values()}:
        problems += unplaced_problems(name, drafts[name], document, lost)
    if not problems:
        for resolved in interfaces:
            problems += backend_problems(resolved, drafts[resolved.policy], document)
    if problems:
        raise PolicyError(_sorted(problems))
    return Policy(source=source, sha256=policy_hash(text, files), interfaces=tuple(interfaces), text=text, files=files)


def policy_hash(text: str, files: Mapping[str, str]) -> str:
    """SHA-256 of the text, and of every file that it names."""
    digest = hashlib.sha256(text.encode())
    for name, content in sorted(files.items()):
        digest.update(f"\0{name}\0{content}".encode())
    return digest.hexdigest()


def _sorted(problems: Iterable[Problem]) -> list[Problem]:
    """By place; what is wrong at one place for two interfaces, or two classes, in the same words is said once."""
    nowhere = Where("", 0, 0)
    once: dict[tuple[Where, str, str], Problem] = {}
    for problem in problems:
        once.setdefault((problem.where or nowhere, problem.kind, problem.message), problem)
    return [once[key] for key in sorted(once)]
