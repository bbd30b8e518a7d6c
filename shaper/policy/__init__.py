"""Policy text to the model, or the list of all Problems."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from shaper.errors import PolicyError, Problem, Where
from shaper.files import read_regular
from shaper.model.policy import Policy
from shaper.policy.addresses import Read, with_lists
from shaper.policy.backends import backend_problems
from shaper.policy.checks import file_problems, policy_problems
from shaper.policy.draft import Drafter
from shaper.policy.kinds import Kind
from shaper.policy.reader import MAX_CHARACTERS, read, where_in
from shaper.policy.resolve import interface, unplaced_problems
from shaper.policy.schema import validate

__all__ = ["parse_policy", "policy_hash", "read_policy"]


def read_policy(path: Path) -> Policy:
    """The policy in a file. Raises PolicyError with every problem in it, also where it cannot be read at all."""
    source = str(path)
    try:
        data = read_regular(path, most=4 * MAX_CHARACTERS)
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        hint = "name a policy file that is there and that you may read"
        raise PolicyError([Problem(Kind.UNREADABLE, None, "", f"{source}: {reason}", hint)]) from None
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        message = f"the byte 0x{data[error.start]:02x} is not UTF-8"
        hint = "save the file as UTF-8"
        where = where_in(before, len(before), source)
        raise PolicyError([Problem(Kind.NOT_UTF8, where, "", message, hint)]) from None
    return parse_policy(text, source=source)


def parse_policy(text: str, *, source: str, files: Mapping[str, str] | None = None) -> Policy:
    """The policy in a text that came from `source`. Raises PolicyError with every problem in it, sorted by place.

    `files` are the texts of the address lists that it names; without, they are read from the folder of `source`.
    """
    document, problems = read(text, source=source)
    if document is None:
        raise PolicyError(_sorted(problems))
    document, lists = with_lists(document, _reader(source) if files is None else _kept(files))
    spec, lost, misshapen = validate(document)
    drafter = Drafter(document, lost)
    drafts = {
        name: [drafter.draft(cls, below, ("policies", name, "classes", cls)) for cls, below in policy.classes.items()]
        for name, policy in spec.policies.items()
    }
    problems += [*misshapen, *drafter.problems, *file_problems(spec, document, lost)]
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
    return Policy(source=source, sha256=policy_hash(text, lists), interfaces=tuple(interfaces), text=text, files=lists)


def policy_hash(text: str, lists: Mapping[str, str]) -> str:
    """SHA-256 of the text, and of every list that it names."""
    digest = hashlib.sha256(text.encode())
    for name, content in sorted(lists.items()):
        digest.update(f"\0{name}\0{content}".encode())
    return digest.hexdigest()


def _reader(source: str) -> Read:
    folder = Path(source).parent

    def read_list(name: str) -> str:
        return read_regular(folder / name, most=MAX_CHARACTERS).decode()

    return read_list


def _kept(files: Mapping[str, str]) -> Read:
    def read_list(name: str) -> str:
        if name not in files:
            raise ValueError("the list was not kept with the policy")
        return files[name]

    return read_list


def _sorted(problems: Iterable[Problem]) -> list[Problem]:
    """By place; what two interfaces find wrong with one policy, or two mentions with one list, is said once."""
    nowhere = Where("", 0, 0)
    once = {(problem.kind, problem.where, problem.message): problem for problem in reversed(list(problems))}
    return sorted(once.values(), key=lambda problem: (problem.where or nowhere, problem.kind, problem.message))
