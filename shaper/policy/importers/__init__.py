"""Other tools' configurations as policies of ours: text in, policy text and a report out.

One file a tool reads its syntax into `draft`; `fit` makes the rates and names fit our rules; `writer` writes YAML; and
`accept` lets the checks have the last word, so that what comes out is a policy that `shaper check` accepts.
"""

from __future__ import annotations

from dataclasses import dataclass

from shaper.policy.importers.accept import accepted
from shaper.policy.importers.draft import Interface, Lost, Report
from shaper.policy.importers.fit import fit


@dataclass(frozen=True, slots=True)
class Imported:
    """A policy's text, and what of the source is not in it."""

    text: str
    lost: tuple[Lost, ...]


def imported(interfaces: list[Interface], report: Report, *, tool: str, nothing: str) -> Imported:
    """What was read as a policy that is accepted. Raises ImportFailedError where nothing of it can be carried over."""
    for interface in interfaces:
        fit(interface, report)
    text = accepted(interfaces, report, tool=tool, nothing=nothing)
    return Imported(text, report.lost())
