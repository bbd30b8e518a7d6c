"""What a policy is known by."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping


def policy_hash(text: str, files: Mapping[str, str]) -> str:
    """SHA-256 of the text, and of every file that it names."""
    digest = hashlib.sha256(text.encode())
    for name, content in sorted(files.items()):
        digest.update(f"\0{name}\0{content}".encode())
    return digest.hexdigest()
