"""A tree that somebody else numbered: the program of a policy in its numbers, so that what it holds is only changed.

The kernel gives neither a root nor a class another handle, nor a root other options, nor an inner class another
priority or quantum. So of a tree that was taken over these stay for life, and the compiled ones are mapped to them.
"""

from __future__ import annotations

from dataclasses import replace

from shaper.compile.handles import ROOT_HANDLE
from shaper.compile.numbers import Adopted
from shaper.compile.program import Program
from shaper.tree import (
    LEAF_MAJORS,
    ROOT,
    BpfFilter,
    Class,
    FlowerFilter,
    Handle,
    HtbClass,
    HtbOptions,
    Insn,
    LoadedFilter,
    Node,
    OtherFilter,
    Qdisc,
    U32Filter,
    U32Table,
    tree,
)

_RETURN = 0x06
"""BPF_RET | BPF_K: the value names the class."""


def in_its_numbers(program: Program, adopted: Adopted) -> Program:
    """The program as it stands in the tree that was taken over; classes that are new get free numbers there."""
    adopted = _with_new(program, adopted)
    numbers = adopted.numbers

    def there(number: Handle) -> Handle:
        return numbers.get(number, number)

    lookups = tuple(lookup.renumbered(there) for lookup in program.lookups)
    renamed = {old.name: new.name for old, new in zip(program.lookups, lookups, strict=True)}

    def moved(node: Node) -> Node:
        match node:
            case Qdisc(parent=parent, options=HtbOptions()) if parent == ROOT:
                options = HtbOptions(adopted.default, adopted.direct_queue)
                return replace(node, handle=there(node.handle), options=options)
            case Qdisc():
                return replace(node, handle=there(node.handle), parent=there(node.parent))
            case HtbClass():
                node = replace(node, handle=there(node.handle), parent=there(node.parent))
                prio, quantum = adopted.inner.get(node.handle, (node.prio, node.quantum))
                return replace(node, prio=prio, quantum=quantum)
            case BpfFilter(parent=parent) if parent == ROOT_HANDLE:
                named = tuple(
                    Insn(one.code, one.jt, one.jf, there(one.k)) if one.code == _RETURN else one for one in node.program
                )
                return replace(node, parent=there(parent), program=named)
            case FlowerFilter(parent=parent) if parent == ROOT_HANDLE:
                return replace(node, parent=there(parent), classid=there(node.classid))
            case U32Filter(parent=parent) if parent == ROOT_HANDLE:
                return replace(node, parent=there(parent), classid=there(node.classid))
            case LoadedFilter(parent=parent) if parent == ROOT_HANDLE:
                return replace(node, parent=there(parent), name=renamed.get(node.name, node.name))
            case BpfFilter() | LoadedFilter() | FlowerFilter() | U32Filter() | U32Table() | OtherFilter():
                return replace(node, parent=there(node.parent))
        return node

    return replace(
        program,
        tree=tree(program.tree.device, map(moved, program.tree.nodes())),
        handles={path: there(number) for path, number in program.handles.items()},
        adopted=adopted,
        lookups=lookups,
    )


def _with_new(program: Program, adopted: Adopted) -> Adopted:
    """Numbers for the classes and queues that the tree did not have when it was taken over."""
    numbers = dict(adopted.numbers)
    taken = set(numbers.values())
    major = numbers[ROOT_HANDLE]
    for node in program.tree.nodes():
        if isinstance(node, Class) and node.handle not in numbers:
            free = (major | minor for minor in range(0x10, 0xFFFF))
        elif isinstance(node, Qdisc) and node.parent >> 16 == ROOT_HANDLE >> 16 and node.handle not in numbers:
            free = (number << 16 for number in LEAF_MAJORS)
        else:
            continue
        wanted = node.handle if isinstance(node, Qdisc) else major | node.handle & 0xFFFF
        numbers[node.handle] = wanted if wanted not in taken else next(one for one in free if one not in taken)
        taken.add(numbers[node.handle])
    return replace(adopted, numbers=numbers)
