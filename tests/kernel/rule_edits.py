"""Rule edits under traffic: whether every packet goes to a class that the policy before or the one after names for it.

Each flow has classes of its own, told by its addresses, and a counter for each of them; every class asks for something
more at random but the flow's last. So an edit that a packet could see half done would put it into a class that neither
policy names for it, or into the default class, which is named for none. Packets are counted between two looks at which
none is under way.
"""

from __future__ import annotations

import itertools
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import frame_samples
import policy_samples
from by_product import Product
from sorting import quiet_link

from shaper.errors import PolicyError, UnavailableError
from shaper.kernel.protocol import Kernel
from shaper.model.explain import explain
from shaper.model.match import Packet, Rules, network_control_matches
from shaper.plan.impact import impacts
from shaper.plan.steps import Plan, Step, Verb
from shaper.plan.trees import is_hook
from shaper.policy import parse_policy
from shaper.run.apply import Prepared
from shaper.tree import Class, Filter

if TYPE_CHECKING:
    from conftest import Lab

FLOWS = 4
CLASSES = 4
DEFAULT = "rest"
_ADDRESSED = {"src", "dst", "net", "mark"}
FIELDS = {
    "bpf": tuple(name for name in policy_samples.FIELDS if name not in _ADDRESSED),
    "flower": tuple(name for name in policy_samples.PLAIN if name not in _ADDRESSED),
}
FIELDS["tables"] = FIELDS["bpf"]
"""A BPF program that is too long without tables, because of a list that no packet meets."""
LIST = "listed.txt"
_TURN, _PAUSE = 0.0002, 0.002
_FEWEST = 3
"""Packets of every flow before and after each edit, so that what was named is seen."""


@dataclass
class Outcome:
    """What the edits came to."""

    classifier: str
    edits: int = 0
    refused: int = 0
    moved: int = 0
    """Flows that an edit put into another class."""
    filters: Counter[int] = field(default_factory=Counter)
    """Edits by how many filters they took."""
    packets: int = 0
    during: int = 0
    strays: int = 0
    """Packets in a class that neither policy names."""
    strayed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def problems(self) -> list[str]:
        """Why it does not hold. What `plan` calls not atomic may put packets elsewhere meanwhile, and nothing else."""
        return [*self.wrong, *self.strayed]

    def __str__(self) -> str:
        one, more = self.filters[1], sum(self.filters.values()) - self.filters[1]
        return (
            f"{self.classifier}: {self.edits} edits ({one} of one filter, called atomic; {more} of more, called not "
            f"atomic; {self.refused} others refused), {self.moved} times a flow moved; {self.packets} packets, "
            f"{self.during} of them during the exchange; {self.strays} in a class that neither policy names"
        )


class Sender:
    """Sends one frame of each flow after the other until the block is left; `hurried` counts those sent in a hurry."""

    def __init__(self, lab: Lab, device: str, frames: Sequence[bytes]) -> None:
        self._frames = frames
        self._sock = lab.inside(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
        self._sock.bind((device, 0))
        self._turns = threading.Condition()
        self._wanted = self._quiet = self._ended = self._hurry = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="frames")
        self.rounds = self.hurried = 0

    def __enter__(self) -> Sender:
        self._turn = sys.getswitchinterval()
        sys.setswitchinterval(_TURN)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._thread.join()
        self._sock.close()
        sys.setswitchinterval(self._turn)

    @contextmanager
    def still(self, more: int = 0) -> Iterator[None]:
        """After so many rounds more; in here nothing is sent. Raises what ended the thread."""
        self.await_rounds(more)
        with self._turns:
            self._wanted = True
            self._turns.wait_for(lambda: self._quiet or self._failure is not None)
        try:
            if self._failure is not None:
                raise self._failure
            yield
        finally:
            with self._turns:
                self._wanted = self._quiet = False
                self._turns.notify_all()

    @contextmanager
    def hurrying(self) -> Iterator[None]:
        """In here frames are sent as fast as can be, one round at least before and after what is done in it."""
        began, self._hurry = self.rounds, True
        self.await_rounds(1)
        yield
        self.await_rounds(1)
        self._hurry = False
        self.hurried += (self.rounds - began) * FLOWS

    def await_rounds(self, more: int) -> None:
        """Until every flow has sent so many packets more."""
        until = self.rounds + more
        while self.rounds < until and self._failure is None:
            time.sleep(_TURN)

    def _run(self) -> None:
        try:
            while not self._ended:
                if not self._hurry:
                    time.sleep(_PAUSE)
                for frame in self._frames:
                    self._sock.send(frame)
                self.rounds += 1
                with self._turns:
                    while self._wanted:
                        self._quiet = True
                        self._turns.notify_all()
                        self._turns.wait()
        except BaseException as error:
            with self._turns:
                self._failure = error
                self._turns.notify_all()


class Watched:
    """A kernel that has its classifier exchanged while packets are sent as fast as can be.

    With `half_done` the one is taken away, and a round of packets later the next one comes: what the test must find.
    """

    def __init__(self, kernel: Kernel, sender: Sender, *, half_done: bool) -> None:
        self._kernel = kernel
        self._sender = sender
        self._half_done = half_done

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kernel, name)

    def send(self, device: str, steps: Sequence[Step]) -> None:
        for of_classifier, each in itertools.groupby(steps, _is_classifiers):
            with self._sender.hurrying() if of_classifier else nullcontext():
                for step in each:
                    self._send(device, step, in_halves=of_classifier and self._half_done and step.verb is Verb.CHANGE)

    def _send(self, device: str, step: Step, *, in_halves: bool) -> None:
        if not in_halves:
            self._kernel.send(device, [step])
            return
        self._kernel.send(device, [Step(Verb.DELETE, step.before, None)])
        self._sender.await_rounds(1)
        self._kernel.send(device, [Step(Verb.ADD, None, step.after)])


class Edits:
    """Flows, and policies about them that differ in a few rules, all from one seed."""

    def __init__(self, device: str, classifier: str, random: Random) -> None:
        self._device = device
        self._classifier = classifier
        self._random = random
        self.files = {LIST: _networks()} if classifier == "tables" else {}
        self.frames = tuple(_frames(random))
        self._written: dict[str, policy_samples.Spec] = {}
        for flow in range(FLOWS):
            for name in own_classes(flow):
                self._write(flow, name)
        self._rules = self._mended()

    @property
    def text(self) -> str:
        """The policy as it is now."""
        listed = {"listed": {"match": [{"dst": {"file": LIST}}]}} if self.files else {}
        written = {**self._written, **listed, DEFAULT: {"default": True}}
        kind = "bpf" if self.files else self._classifier
        return policy_samples.text_of(written, device=self._device, classifier=kind)

    def edit(self) -> None:
        """Other rules for one to four classes."""
        for _ in range(self._random.choice((1, 1, 2, 4))):
            flow = self._random.randrange(FLOWS)
            self._write(flow, self._random.choice(own_classes(flow)[:-1]))
        self._rules = self._mended()

    def named(self) -> list[str]:
        """The class of each flow's packets."""
        return [explain(self._rules, frame.packet).path for frame in self.frames]

    def _write(self, flow: int, name: str) -> None:
        """Rules that ask for the flow's addresses, and for more; the flow's last class for no more."""
        packet = self.frames[flow].packet
        own = {key: _address(packet, getattr(packet, key)) for key in ("src", "dst")}
        last = name == own_classes(flow)[-1]
        depth = 2 if self._classifier == "flower" else 0  # no deeper, no alternatives
        more = {} if last else policy_samples.match(self._random, packet, FIELDS[self._classifier], depth)
        self._written[name] = {"match": [{**more, **own}]}

    def _mended(self) -> Rules:
        """The rules, with others where the policy was refused."""
        while True:
            try:
                return parse_policy(self.text, source="edits.yaml", files=self.files).interfaces[0].rules()
            except PolicyError as error:
                for problem in error.problems():
                    assert policy_samples.without(self._written, problem.path), problem
            for flow in range(FLOWS):
                names = own_classes(flow)
                if self._written[names[-1]] == {"match": [None]}:  # one before it takes all
                    self._written |= {name: {"match": [None]} for name in names}
                for name in names:
                    if self._written[name] == {"match": [None]}:
                        self._write(flow, name)


def _networks() -> str:
    """More than one classic program holds, none beside another."""
    return "\n".join(f"198.{18 + (number >> 12)}.{number >> 4 & 255}.{number % 16 * 16}/30" for number in range(2500))


def edited_under(lab: Lab, folder: Path, *, classifier: str, count: int, seed: int, half_done: bool = False) -> Outcome:
    """`count` edits. With `half_done` the kernel is given each as two messages."""
    kernel = lab.kernel()
    device = quiet_link(lab)
    edits, outcome = Edits(device, classifier, Random(seed)), Outcome(classifier)
    with Sender(lab, device, [frame.data for frame in edits.frames]) as sender:
        product = Product(Watched(kernel, sender, half_done=half_done), device, folder)
        handles = _first(product, edits).program.handles
        sender.hurried, named = 0, edits.named()
        with sender.still(_FEWEST):
            look = Look.of(kernel, device, handles, sender)
        while outcome.edits < count:
            edits.edit()
            try:
                plan = product.apply(edits.text, edits.files).plan
            except UnavailableError:  # flower cannot say it
                outcome.refused += 1
                continue
            if not plan.steps:
                continue
            before, named = named, edits.named()
            with sender.still():
                look, seen = (now := Look.of(kernel, device, handles, sender)), now.since(look)
            _judge_plan(outcome, plan)
            outcome.edits += 1
            outcome.moved += sum(one != other for one, other in zip(before, named, strict=True))
            atomic = sum(map(_is_classifiers, plan.steps)) == 1
            _judge(outcome, seen, [{*both} for both in zip(before, named, strict=True)], atomic=atomic)
            with sender.still(_FEWEST):
                look, seen = (now := Look.of(kernel, device, handles, sender)), now.since(look)
            _judge(outcome, seen, [{one} for one in named], atomic=True)
        outcome.during = sender.hurried
    return outcome


def _first(product: Product, edits: Edits) -> Prepared:
    """The first of the policies that the classifier can say."""
    while True:
        try:
            return product.apply(edits.text, edits.files)
        except UnavailableError:
            edits.edit()


@dataclass(frozen=True)
class Look:
    """How many rounds were sent, and the packets of each class."""

    rounds: int
    counts: Mapping[str, int]

    @classmethod
    def of(cls, kernel: Kernel, device: str, handles: Mapping[str, int], sender: Sender) -> Look:
        classes = kernel.counters(device).classes
        return cls(sender.rounds, {path: classes[handle].sent_packets for path, handle in handles.items()})

    def since(self, before: Look) -> Look:
        moved = {path: count - before.counts[path] for path, count in self.counts.items()}
        return Look(self.rounds - before.rounds, moved)


def _judge(outcome: Outcome, seen: Look, allowed: Sequence[set[str]], *, atomic: bool) -> None:
    """Every flow's packets in its allowed classes, and nowhere else."""
    outcome.packets += seen.rounds * FLOWS
    counted, wanted = sum(seen.counts.values()), seen.rounds * FLOWS
    if counted != wanted:
        outcome.wrong.append(f"edit {outcome.edits}: {wanted} packets were sent, {counted} counted in a class")
    inside = set().union(*allowed)
    strays = {path: count for path, count in seen.counts.items() if count and path not in inside}
    outcome.strays += sum(strays.values())
    if strays and atomic:
        outcome.strayed.append(f"edit {outcome.edits}: {strays}, where {sorted(inside)} were named")
    for flow, paths in enumerate(allowed):
        there = sum(seen.counts[path] for path in paths)
        if atomic and there != seen.rounds and not strays:
            outcome.strayed.append(f"edit {outcome.edits}: {there} of {seen.rounds} packets of flow {flow} in {paths}")


def _is_classifiers(step: Step) -> bool:
    return isinstance(step.node, Filter) and not is_hook(step.node.parent)


def _judge_plan(outcome: Outcome, plan: Plan) -> None:
    """An edit is one exchange of the program, or the plan says of each filter that it is not atomic."""
    steps = [(step, impact) for step, impact in zip(plan.steps, impacts(plan), strict=True) if _is_classifiers(step)]
    outcome.filters[len(steps)] += 1
    where = f"edit {outcome.edits}"
    if any(isinstance(step.node, Class) for step in plan.steps):
        outcome.wrong.append(f"{where}: an edit of rules changed classes")
    if outcome.classifier == "bpf" and [step.verb for step, _ in steps] != [Verb.CHANGE]:
        outcome.wrong.append(f"{where}: {len(steps)} filter steps, not one exchange")
    for _, impact in steps:
        if (len(steps) > 1) != impact.disruptive or ("not atomic" in impact.reason) != impact.disruptive:
            outcome.wrong.append(f"{where}: of {len(steps)} filters the plan says {impact}")


def own_classes(flow: int) -> tuple[str, ...]:
    """A flow's classes, in the order of matching."""
    return tuple(f"f{flow}-{number}" for number in range(CLASSES))


def _frames(random: Random) -> Iterator[frame_samples.Frame]:
    """IP packets, no two with the same addresses, that no rule of the shaper's own takes."""
    seen: set[tuple[int | None, int | None]] = set()
    control = network_control_matches()
    while len(seen) < FLOWS:
        frame = frame_samples.frame(random, tagged=False)
        packet = frame.packet._replace(mark=0)
        pair = (packet.src, packet.dst)
        if packet.protocol is None or pair in seen or any(match.holds(packet) for match in control):
            continue
        seen.add(pair)
        yield replace(frame, packet=packet)


def _address(packet: Packet, value: int) -> str:
    return str({frame_samples.V4: IPv4Address, frame_samples.V6: IPv6Address}[packet.ethertype](value))
