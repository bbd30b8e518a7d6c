"""The place in the tree of the program that measures in the kernel: on the hook in front of the queue.

It classifies a packet as the queue will, and hands it to the program that stamps it; what comes out of the queue is
looked up by a socket on the device. So nothing is copied, and no ifb is needed. What comes in waits in an ifb, which
has such a hook of its own.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from shaper.compile.bpf import TooLongError
from shaper.compile.classifier import classifier
from shaper.compile.parse import ETHERNET_HEADER
from shaper.compile.program import Program
from shaper.compile.tap import PREFERENCE as MIRROR
from shaper.errors import UnavailableError
from shaper.tree import (
    CLSACT,
    CLSACT_EGRESS,
    CLSACT_HANDLE,
    PROGRAM_PREFIX,
    BpfFilter,
    Capabilities,
    Ifb,
    LinkFacts,
    LoadedFilter,
    Node,
    Qdisc,
    tree,
)

PREFERENCE, FILTER_HANDLE = 20, 1
"""Between what classifies and what mirrors."""
NAME = f"{PROGRAM_PREFIX}stamp-"
"""With it begin the names of the programs that stamp."""


def missing(capabilities: Capabilities) -> tuple[str, ...]:
    """What the kernel lacks for it, in tc's names."""
    wanted = (
        ("the clsact qdisc", "clsact" in capabilities.qdiscs),
        ("the bpf filter", "bpf" in capabilities.filters),
    )
    return tuple(name for name, there in wanted if not there)


def stamped(program: Program, instance: str, capabilities: Capabilities, link: LinkFacts) -> Program:
    """The program with packets stamped instead of copied, or as it is, with the reason in `unstamped`.

    `instance` tells the programs of one process from those of another: what has been loaded ends with the process.
    """
    if "ebpf" not in capabilities.features:
        return replace(program, unstamped="no programs can be loaded into this kernel; `shaper doctor` says why")
    if lacking := missing(capabilities):
        return replace(program, unstamped=f"the kernel lacks {' and '.join(lacking)}")
    try:
        ethernet = link.header == ETHERNET_HEADER
        classic = classifier(program.carried, program.handles, devices=program.devices, quick=ethernet)
    except UnavailableError as error:
        return replace(program, unstamped=f"no BPF program says to which class a packet belongs: {error.message}")
    except TooLongError as error:
        return replace(program, unstamped=f"the rules are more than one program holds: {error}")
    limits = {
        program.handles[leaf.path]: tuple(sorted({target.seconds for target in (*leaf.sla.delays, *leaf.sla.bounds)}))
        for leaf in program.interface.leaves()
        if leaf.sla.bounds
    }
    root, sorting = program.tree.root(), _sorts(program, link)
    name = NAME + f"{instance}-{_digest(classic, sorted(limits.items()), root and root.stab, sorting)}"
    hook = Qdisc(CLSACT_HANDLE, CLSACT, "clsact"), LoadedFilter(CLSACT_EGRESS, PREFERENCE, FILTER_HANDLE, name)
    kept = [node for node in program.tree.nodes() if not _copies(node, program)]
    incoming = bool(program.interface.fed_by)
    return replace(
        program,
        tree=tree(program.tree.device, (*kept, *hook)),
        tap=program.tap if incoming else "",
        tap_filter=(),
        arriving_filter=(),
        sampling=1,
        stamp=name,
        stamping=classic,
        sorting=sorting,
        limits=limits,
        notes=tuple(note for note in program.notes if not note.startswith("delay:")),
    )


def _sorts(program: Program, link: LinkFacts) -> bool:
    """Whether the class may be written on the packet, as its priority, so that HTB does not ask its filter as well.

    The filter stays for when nobody measures. It must do nothing else to packets, and mean what the program does: the
    other kinds differ from it in odd frames. Behind the queue nobody may go by the priority; from an ifb packets go on
    with it, to an HTB that has the same numbers.
    """
    root = program.tree.root()
    if link.heeds or program.interface.fed_by or root is None or root.kind != "htb":
        return False
    asked = [one for one in program.tree.filters if one.parent == root.handle]
    return len(asked) == 1 and isinstance(asked[0], (BpfFilter, LoadedFilter)) and not asked[0].actions


def _copies(node: Node, program: Program) -> bool:
    """Whether it is of the copies in front of the queue of what goes out, or the hook that is added anew."""
    if program.interface.fed_by:
        return False
    if isinstance(node, Ifb):
        return node.name == program.tap
    if isinstance(node, Qdisc):
        return node.parent == CLSACT
    return getattr(node, "parent", 0) == CLSACT_EGRESS and getattr(node, "preference", 0) == MIRROR


def _digest(*parts: object) -> str:
    """What counts otherwise has another name: so its filter is another, and exchanged."""
    return hashlib.blake2s(repr(parts).encode(), digest_size=4).hexdigest()
