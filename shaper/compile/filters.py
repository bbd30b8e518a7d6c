"""An interface's rules as filters of whichever kind the kernel has, or the policy asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from shaper.compile.bpf import TooLongError
from shaper.compile.classifier import classifier
from shaper.compile.flower import flower_filters
from shaper.compile.handles import ROOT_HANDLE
from shaper.errors import UnavailableError
from shaper.model.match import Rules
from shaper.model.policy import Classifier, Interface
from shaper.tree import BpfFilter, Capabilities, FlowerFilter, Handle

PREFERENCE, FILTER_HANDLE = 10, 1
_MODULES = {Classifier.BPF: "cls_bpf", Classifier.FLOWER: "cls_flower"}


class Classification(NamedTuple):
    """The filters, and what is to be said of them."""

    filters: tuple[BpfFilter | FlowerFilter, ...]
    notes: tuple[str, ...] = ()


def choose(interface: Interface, capabilities: Capabilities) -> Classifier:
    """BPF where nothing is asked for and the kernel has it: one program, exchanged in one step.

    Raises UnavailableError when the kernel lacks what is asked for, or both.
    """
    asked = interface.classifier
    wanted = tuple(_MODULES) if asked is Classifier.AUTO else (asked,)
    for kind in wanted:
        if kind in capabilities.filters:
            return kind
    lacking = " and ".join(f"the {kind} filter" for kind in wanted)
    loading = " or ".join(f"`modprobe {_MODULES[kind]}`" for kind in wanted)
    config = " or ".join(f"CONFIG_NET_{_MODULES[kind].upper()}" for kind in wanted)
    other = "" if asked is Classifier.AUTO else "; or leave `classifier` out, and what the kernel has is used"
    raise UnavailableError(
        f"{interface.device} can't be shaped: the kernel ({capabilities.kernel}) lacks {lacking}",
        hint=f"{loading}, or a kernel built with {config}{other}",
        where=interface.device_where if asked is Classifier.AUTO else interface.classifier_where,
    )


def classify(
    interface: Interface, rules: Rules, handles: Mapping[str, Handle], capabilities: Capabilities
) -> Classification:
    """Raises UnavailableError when the kernel has no classifier for it, or the rules are more than it takes."""
    if choose(interface, capabilities) is Classifier.BPF:
        return Classification((_bpf(interface, rules, handles),))
    try:
        filters = flower_filters(rules, handles, ROOT_HANDLE)
    except UnavailableError as error:
        error.where = error.where or interface.classifier_where or interface.where
        raise
    lacking = "" if Classifier.BPF in capabilities.filters else "the kernel lacks the bpf filter: "
    note = (
        f"{lacking}packets are classified by {len(filters)} flower filters. While an apply changes them, packets may "
        f"meet neither the old rules nor the new. To {rules.default} go frames with a VLAN tag, MPLS in IP, and 802.3 "
        "frames that a program of this machine sends"
    )
    return Classification(filters, (note,))


def _bpf(interface: Interface, rules: Rules, handles: Mapping[str, Handle]) -> BpfFilter:
    try:
        program = classifier(rules, handles)
    except TooLongError as error:
        raise UnavailableError(
            f"the rules of {interface.name} ({interface.policy}) are more than one classifier holds: {error}",
            hint="join ports to ranges and addresses to prefixes, mark the traffic where it enters the network and "
            "match its DSCP, or drop conditions that an inner class repeats for every child",
            where=interface.where,
        ) from error
    return BpfFilter(ROOT_HANDLE, PREFERENCE, FILTER_HANDLE, program)
