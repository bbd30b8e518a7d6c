"""On which way packets were lost, by the numbers of a stateful reflector's answers (RFC 8762, section 4.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from collectors.probe.log import Outcome


@dataclass(frozen=True, slots=True)
class LostWays:
    """Packets lost on the way `there`, and answers lost on the way `back` or late; `untold` were sent after the last
    packet that was answered, or before the first one where nobody knows from which number the reflector counts.
    """

    there: int
    back: int
    untold: int


def lost_ways(settled: Sequence[Outcome], *, stateful: bool = False) -> LostWays | None:
    """Of packets in the order of sending. None where the numbers tell nothing: without any; of a reflector that began
    anew meanwhile; and where each is its packet's own, unless it is known that the reflector is `stateful`, since a
    stateless one gives back the sender's numbers, and what looks like loss on the way back may be either.
    """
    answers = [(one.sequence, number) for one in settled for number in one.numbers]
    numbers = {number for _, number in answers}
    if not answers or (not stateful and all(sequence == number for sequence, number in answers)):
        return None
    if len(numbers) < len(answers):
        return None  # one number for two packets: it began anew
    first, last = min(answers), max(sequence for sequence, _ in answers)
    whole = settled[0].sequence == 0 and first[1] <= first[0]  # it heard of this session from the beginning
    begins = (0, 0) if whole else first
    told = [one for one in settled if begins[0] <= one.sequence <= last]
    lost = sum(one.lost for one in told)
    twice = len(answers) - sum(1 for one in told if one.numbers)
    reached = max(numbers) - begins[1] + 1 - twice
    there = min(lost, max(0, len(told) - reached))
    return LostWays(there, lost - there, sum(one.lost for one in settled) - lost)
