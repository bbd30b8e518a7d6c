"""Many lists of networks: in which of them an address is, found without asking one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from shaper.model.match import Prefix

Key = TypeVar("Key")


class Networks(Generic[Key]):
    """Each list under a key. A lookup takes as long as there are lengths of prefixes."""

    def __init__(self, lists: Iterable[tuple[Key, Iterable[Prefix]]]) -> None:
        self._held: dict[int, dict[int, dict[int, list[Key]]]] = {}
        for key, prefixes in lists:
            for prefix in prefixes:
                shift = prefix.bits - prefix.length
                lengths = self._held.setdefault(prefix.ethertype, {})
                lengths.setdefault(shift, {}).setdefault(prefix.value >> shift, []).append(key)

    def holding(self, ethertype: int, address: int | None) -> Iterator[Key]:
        """The keys of the lists that the address is in, some more than once."""
        if address is not None:
            for shift, values in self._held.get(ethertype, {}).items():
                yield from values.get(address >> shift, ())
