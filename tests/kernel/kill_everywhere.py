"""A program to be killed: the commands, each by SIGKILL of itself at one of its steps to the kernel after the other.

`python kill_everywhere.py DEVICE OTHER FOLDER SEED COUNT [CASE...]`, in a namespace of its own: every command of a case
is forked, and dies just before a step or just after it. Then another command comes back, and both directions of DEVICE
must stand as before or as after; OTHER is somebody else's. COUNT deaths of each case are drawn by SEED; 0: all of them.
The last line of output sums up, as JSON.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import socket
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, NoReturn

from shaper.cli.entry import cli, main
from shaper.kernel.netlink import NetlinkKernel
from shaper.plan.steps import Step
from shaper.plan.trees import is_hook
from shaper.tree import BpfFilter, Filter, LoadedFilter, Tree

POLICY = """\
version: 1
interfaces:
  wan: {{device: {device}, bandwidth: {{{bandwidth}}}, policy: office}}
policies:
  office:
    classes:
      voice:
        tier: special
        guarantee: 5%
        limit: {limit}
        match: [{{dscp: ef}}]
        sla: {{delay-p99: 20ms}}
      {more}
      rest: {{adapt: {{min: 10%}}, guarantee: 60%, default: true}}
"""
_BOTH = "egress: 20mbit, ingress: 30mbit"
POLICIES = {
    "old": {"bandwidth": _BOTH, "limit": "10%", "more": "mail: {match: [{dport: 25}]}"},
    "new": {"bandwidth": _BOTH, "limit": "15%", "more": "video: {match: [{dscp: af41}]}"},
    "out": {"bandwidth": "egress: 20mbit", "limit": "10%", "more": "mail: {match: [{dport: 25}]}"},
    "in": {"bandwidth": "ingress: 30mbit", "limit": "10%", "more": "mail: {match: [{dport: 25}]}"},
}


class Case(NamedTuple):
    """What is done first, the command that dies, and the policies that stand before and after it; "" for none."""

    first: tuple[str, ...]
    dies: str
    before: str
    after: str


CASES = {
    "first": Case((), "apply old", "", "old"),
    "over": Case(("apply old",), "apply new", "old", "new"),
    "egress-stays": Case(("apply old",), "apply out", "old", "out"),
    "ingress-stays": Case(("apply old",), "apply in", "old", "in"),
    "ingress-comes": Case(("apply out",), "apply old", "out", "old"),
    "clear": Case(("apply old",), "clear", "old", ""),
    "rollback": Case(("apply old", "apply new"), "rollback", "new", "old"),
    "run": Case(("apply old",), "run new", "old", "new"),
}
BACK = ("rollback --unconfirmed", "apply", "rollback", "run", "clear")
"""How somebody comes back; `apply` and `run` with the policy of the command that died, or of before it had none."""


Held = tuple[Tree, Tree, tuple[str, ...]]
_NOTHING_BEFORE = 69


def unchanged(held: Held) -> Held:
    """All of it."""
    return held


def shaping(held: Held) -> Held:
    """Without what only measures: copies and stamps on a hook, the hook itself, and the device of the copies."""
    out, back, names = held
    sides = []
    for side in (out, back):
        filters = tuple(one for one in side.filters if not (isinstance(one, LoadedFilter) or _copies(one)))
        used = {one.device for one in filters if is_hook(one.parent)}
        hooks = tuple(one for one in side.qdiscs if one.device in used or not is_hook(one.parent))
        links = tuple(one for one in side.links if not one.name.startswith("shp-"))
        sides.append(replace(side, filters=filters, qdiscs=hooks, links=links))
    return sides[0], sides[1], tuple(name for name in names if not name.startswith("shp-"))


def _copies(node: Filter) -> bool:
    return isinstance(node, BpfFilter) and bool(node.mirror)


class Box:
    """The device, its state folder, and commands in processes of their own."""

    def __init__(self, device: str, other: str, folder: Path) -> None:
        self.device, self.other, self.folder = device, other, folder
        self.state = folder / "state"
        self.kernel = NetlinkKernel()
        have = self.kernel.capabilities()
        NetlinkKernel.capabilities = lambda _: have  # type: ignore[method-assign] # probed once, not for each process
        for name, values in POLICIES.items():
            (folder / f"{name}.yaml").write_text(POLICY.format(device=device, **values))
        for name in ("apply", "clear", "rollback", "run", "plan"):
            cli.get_command(None, name)  # type: ignore[arg-type] # imported once, too
        self.foreign = self.kernel.read(other)

    def held(self) -> Held:
        """Both directions, and which devices there are."""
        names = tuple(sorted(name for _, name in socket.if_nameindex()))
        incoming = self.kernel.read(f"shi-{self.device}", fed_by=self.device)
        return self.kernel.read(self.device), incoming, names

    def argv(self, command: str) -> list[str]:
        words = [str(self.folder / f"{word}.yaml") if word in POLICIES else word for word in command.split()]
        more = ["--no-metrics", "--json"] if words[0] == "run" else []
        return ["shaper", *words, "--state", str(self.state), *more]

    def run(self, command: str, *, death: int | None = None) -> tuple[int, int]:
        """How a command ended, by `wait`, and how many steps it has sent; `run` until it is ready, which ends it."""
        said, says = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(said)
            self._become(command, says, death)
        os.close(says)
        steps, ready = 0, False
        with os.fdopen(said) as lines:
            for line in lines:
                steps += line == "step\n" and not ready
                if '"event": "ready"' in line:
                    ready = True
                    os.kill(child, signal.SIGTERM)
        return os.waitpid(child, 0)[1], steps

    def _become(self, command: str, says: int, death: int | None) -> NoReturn:
        """In the child: the command, with its output in the pipe, that dies at effect `death`: 2k before step k, 2k + 1
        after it."""
        code = 70
        try:
            os.dup2(says, 1)
            os.dup2(os.open(self.folder / "errors", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
            send, effects = NetlinkKernel.send, itertools.count()

            def effect() -> None:
                if next(effects) == death:
                    os.kill(os.getpid(), signal.SIGKILL)

            def dying(kernel: NetlinkKernel, device: str, steps: Sequence[Step]) -> None:
                for step in steps:
                    effect()
                    send(kernel, device, [step])
                    os.write(says, b"step\n")
                    effect()

            NetlinkKernel.send = dying  # type: ignore[method-assign]
            sys.argv = self.argv(command)
            main()
        except SystemExit as ended:
            sys.stdout.flush()
            code = int(ended.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def fresh(self, first: Sequence[str]) -> None:
        """As it was found, and then these commands."""
        if self.state.exists():
            assert self.run("clear")[0] == 0
            shutil.rmtree(self.state)
        for command in first:
            status, _ = self.run(command)
            assert status == 0, f"{command}: {status}, {(self.folder / 'errors').read_text()[-2000:]}"


def deaths(box: Box, name: str, seed: int, count: int) -> Iterator[tuple[bool, list[str]]]:
    """For each death of a case: whether the command had come through, and what was wrong afterwards."""
    case = CASES[name]
    box.fresh(())
    nothing = box.held()
    box.fresh(case.first)
    before = box.held()
    steps = box.run(case.dies)[1]
    after = box.held()
    assert before != after and steps >= 3, name
    events = range(2 * steps)
    chosen = sorted(Random(f"{name} {seed}").sample(events, count)) if 0 < count < len(events) else events
    for number, event in enumerate(chosen, seed):
        box.fresh(case.first)
        back = BACK[number % len(BACK)]
        command = f"{back} {case.after or case.before}" if back in ("apply", "run") else back
        where = f"{name}, {event} of {len(events)}, then {command}"
        if box.held() != before:
            yield False, [f"{where}: what is done first came to something else"]
            continue
        yield _die_and_come_back(box, where, case, event, command, states=(nothing, before, after))


def _die_and_come_back(
    box: Box, where: str, case: Case, event: int, command: str, *, states: tuple[Held, Held, Held]
) -> tuple[bool, list[str]]:
    wrong, back = [], command.partition(" ")[0]
    status, _ = box.run(case.dies, death=event)
    if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
        wrong.append(f"{where}: it was not killed but ended by {status}")
    # A run stamps packets where a command alone has copies of them: what shapes is compared where one had a part in it.
    alike = shaping if "run" in (back, case.dies.partition(" ")[0]) else unchanged
    nothing, before, after = (alike(held) for held in states)
    through = alike(box.held()) == after
    if box.kernel.read(box.other) != box.foreign:
        wrong.append(f"{where}: somebody else's qdisc was touched")
    status, _ = box.run(command)
    held = alike(box.held())
    allowed = {"clear": (nothing,), "apply": (after,), "run": (after,)}.get(back, (before, after))
    if not case.after and back != "clear":
        allowed = (before, after) if back == "rollback" else (before,)
    if held not in allowed:
        wrong.append(f"{where}: it is neither before nor after: {_told(held)}")
    if status and not (command == "rollback" and os.waitstatus_to_exitcode(status) == _NOTHING_BEFORE):
        wrong.append(f"{where}: the command that came back ended by {status}")
    if any(box.state.rglob("pending.json")):
        wrong.append(f"{where}: something is still pending")
    policy = case.after if held == after else case.before if held == before else ""
    if policy and (again := box.run(f"plan {policy}")[0]):
        wrong.append(f"{where}: what stands is not what the shaper thinks: {again}")
    if box.kernel.read(box.other) != box.foreign:
        wrong.append(f"{where}: somebody else's qdisc was touched by the one that came back")
    return through, wrong


def _told(held: Held) -> str:
    out, back, names = held
    minors = [[f"{cls.handle & 0xFFFF:x} {cls.rate} {cls.ceil}" for cls in one.classes] for one in (out, back)]
    return f"egress {minors[0]}, ingress {minors[1]}, devices {names}"


def everywhere(device: str, other: str, folder: Path, seed: int, count: int, cases: Sequence[str]) -> dict[str, Any]:
    """The deaths of each case, how many had come through all the same, and what was wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    box = Box(device, other, folder)
    seen: dict[str, Any] = {"cases": {}, "wrong": []}
    for name in cases or CASES:
        results = list(deaths(box, name, seed, count))
        seen["cases"][name] = {"deaths": len(results), "through": sum(through for through, _ in results)}
        seen["wrong"] += [one for _, wrong in results for one in wrong]
    box.fresh(())
    return seen


if __name__ == "__main__":
    print(json.dumps(everywhere(*sys.argv[1:3], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]), sys.argv[6:])))
