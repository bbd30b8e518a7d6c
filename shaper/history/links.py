"""What a decision about a link that moves stands on, as the journal keeps it: packed, since it is many samples."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass

from shaper.control import link
from shaper.history.codec import decode, encode
from shaper.model.link_rate import LinkSeen


@dataclass(frozen=True, slots=True)
class LinkPremise:
    """What the policy allows, what was remembered, what was seen, and the boot time."""

    setup: link.Setup
    state: link.State
    seen: LinkSeen
    now: float


def packed(premise: LinkPremise) -> str:
    """A third of what it is as JSON: under load a link is moved every second, and the journal kept for a month."""
    text = json.dumps(encode(premise), allow_nan=False, separators=(",", ":"))
    return base64.b85encode(zlib.compress(text.encode(), 9)).decode("ascii")


def unpacked(text: str) -> LinkPremise:
    """Raises ValueError where it is none."""
    try:
        return decode(LinkPremise, json.loads(zlib.decompress(base64.b85decode(text))))
    except zlib.error as error:
        raise ValueError(f"this is no premise of a link: {error}") from error
