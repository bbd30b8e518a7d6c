"""Which backend compiles an interface: the one that its policy names, else HTB, else what comes nearest.

Named, it is that one or none. `auto` is HTB wherever the kernel has it, since HTB alone keeps the tiers in strict order
and gives the controller rates to move; without it HFSC, which keeps guarantees, limits and delays. CAKE, ETS and prio
keep less of the language than that, so they are never chosen for anybody.
"""

from __future__ import annotations

from shaper.model.policy import Backend, Interface
from shaper.tree import Capabilities

_NEAREST = (Backend.HTB, Backend.HFSC)


def choose(interface: Interface, capabilities: Capabilities) -> Backend:
    """Never AUTO. Where the kernel has none of them it is HTB, whose compiler says what is missing."""
    if interface.backend is not Backend.AUTO:
        return interface.backend
    return next((backend for backend in _NEAREST if backend in capabilities.qdiscs), Backend.HTB)
