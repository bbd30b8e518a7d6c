"""Policy text to the model, or the list of all Problems."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from shaper.model.policy import Policy
from shaper.policy.hash import policy_hash
from shaper.policy.sources import Fetch, from_disk, from_texts, text_of

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
    # The schema takes half of the time in which a command starts, and most commands read no policy.
    from shaper.policy.parse import policy  # noqa: PLC0415

    return policy(text, source, fetch)
