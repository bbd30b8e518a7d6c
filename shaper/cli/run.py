"""`shaper run`: the main job. Apply, measure, control, serve metrics and a socket, until told to stop."""

from __future__ import annotations

import contextlib
import functools
import json
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO, cast

import click

from shaper.api.server import listening
from shaper.cli.common import (
    DURATION,
    Number,
    chosen,
    folder_of,
    interface_option,
    json_option,
    open_kernel,
    policy_argument,
    state_option,
)
from shaper.cli.outlet import Outlet
from shaper.errors import PolicyError, ShaperError
from shaper.model.observation import TICK, Rung
from shaper.model.policy import Drift, Policy
from shaper.model.status import InterfaceStatus, RunTotals
from shaper.policy import read_policy
from shaper.report.metrics import serve
from shaper.report.render import console
from shaper.report.run_lines import lost_line, ready_line, second_line, summary_line
from shaper.run import lastgood
from shaper.run.clock import Clock, SystemClock
from shaper.run.inbox import Inbox
from shaper.run.late import wait_for
from shaper.run.notify import ALIVE, READY, STOPPING, notify
from shaper.run.place import placed
from shaper.run.service import Service, Watcher
from shaper.run.settings import Mode, Settings
from shaper.run.snapshot import read_capabilities


@click.command()
@policy_argument
@interface_option
@state_option
@click.option(
    "--mode",
    type=click.Choice([mode.value for mode in Mode]),
    default=Mode.CONTROLLED.value,
    show_default=True,
    help="controlled: tiers and controller; structured: tiers only; static: plain tc.",
)
@click.option("--tick", type=Number(0.05, 1.0), default=TICK, show_default=True, help="Seconds per decision.")
@click.option(
    "--drift",
    type=click.Choice([one.value for one in Drift]),
    default=None,
    help="What somebody else changes of ours: put it back, or only say so, whatever the policy says of it.",
)
@click.option(
    "--measure",
    type=click.Choice(["auto", *(one.value for one in Rung)]),
    default="auto",
    show_default=True,
    help="Delay and loss by programs in the kernel, by captured packets, or by counters alone: the best, or only one.",
)
@click.option("--fine", is_flag=True, help="Count delays in the kernel by 0.4 % instead of 3 %, in 8 times the memory.")
@click.option("--dry-run", is_flag=True, help="Decide and journal, but leave the static allocation in the kernel.")
@click.option(
    "--listen",
    default="127.0.0.1:9917",
    show_default=True,
    metavar="HOST:PORT",
    help="Where /metrics is served; port 0 takes a free one.",
)
@click.option("--no-metrics", is_flag=True, help="Serve no metrics.")
@click.option(
    "--capabilities",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="CAPS",
    help="What the kernel can do, as `doctor --json` printed it: not probed then.",
)
@click.option(
    "--last-good", is_flag=True, help="Where POLICY is wrong, hold the one that was in force last, with an alarm."
)
@click.option(
    "--wait-device", "wait", type=DURATION, default=None, metavar="DURATION", help="Wait so long for missing devices."
)
@json_option
def run(
    policy_file: Path,
    names: tuple[str, ...],
    folder: Path | None,
    mode: str,
    tick: float,
    drift: str | None,
    measure: str,
    fine: bool,
    dry_run: bool,
    listen: str,
    no_metrics: bool,
    capabilities: Path | None,
    last_good: bool,
    wait: float | None,
    as_json: bool,
) -> None:
    """Apply POLICY and hold its SLAs until SIGTERM, which puts the static allocation back and leaves the tree.

    SIGHUP reads the policy again; a bad file keeps the old policy and says why. With --json one object a line: ready,
    one each second, and a summary at the end.
    """
    host, port = listening_address(listen)
    policy, alarm = _policy(policy_file, folder_of(folder), last_good=last_good)
    inbox, clock = Inbox(), SystemClock()
    with contextlib.ExitStack() as stack:
        words = stack.enter_context(Outlet(sys.stderr, "{} lines of this were left out: nobody read\n".format))
        if as_json:
            lines = stack.enter_context(Outlet(sys.stdout, lambda count: _json_line(lost_line(count))))
            watcher = Notifying(JsonLines(clock, lines, words))
        else:
            watcher = Notifying(Words(words))
        kernel = stack.enter_context(open_kernel(read_capabilities(capabilities) if capabilities else None))
        if wait is not None:
            wait_for(kernel, policy, chosen(policy, names), seconds=wait, clock=clock, told=watcher.told)
        policy = placed(policy, kernel)
        service = Service(
            kernel,
            policy,
            chosen(policy, names),
            folder=folder_of(folder),
            settings=Settings(
                Mode(mode),
                tick,
                dry_run,
                Drift(drift) if drift else None,
                measure=None if measure == "auto" else Rung(measure),
                fine=fine,
                alarm=alarm,
            ),
            clock=clock,
            inbox=inbox,
            watcher=watcher,
        )
        stack.enter_context(_signals(inbox))
        service.serve(
            functools.partial(listening, service.states, inbox),
            published=contextlib.nullcontext
            if no_metrics
            else functools.partial(_published, service, host, port, watcher),
        )


def _policy(policy_file: Path, folder: Path, *, last_good: bool) -> tuple[Policy, str]:
    """What is to be held, and why it is another than the file says, "" where it is not. Raises PolicyError."""
    try:
        return read_policy(policy_file), ""
    except PolicyError as error:
        if not last_good:
            raise
        return lastgood.last_good(folder, str(policy_file), error)


@contextlib.contextmanager
def _published(service: Service, host: str, port: int, watcher: Watcher) -> Iterator[None]:
    """Serves the metrics until left."""
    try:
        server = serve(service.statuses, host=host, port=port)
    except OSError as error:
        raise ShaperError(
            f"metrics can't be served on {host}:{port}: {error.strerror}",
            hint="name another address with --listen HOST:PORT, or none with --no-metrics",
        ) from error
    with contextlib.closing(server):
        watcher.told(f"metrics on http://{host}:{server.port}/metrics")
        yield


def listening_address(text: str) -> tuple[str, int]:
    """HOST:PORT of `--listen` as its parts. Raises UsageError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise click.UsageError(f"--listen {text!r} is not HOST:PORT, such as 127.0.0.1:9917 or [::1]:9917")
    return host.strip("[]") or "0.0.0.0", int(port)


@contextlib.contextmanager
def _signals(inbox: Inbox) -> Iterator[None]:
    """SIGTERM and SIGINT ask the loop to stop, SIGHUP to read the policy again."""
    meanings = {signal.SIGTERM: "stop", signal.SIGINT: "stop", signal.SIGHUP: "reload"}
    before = {
        number: signal.signal(number, lambda *_, command=command: inbox.signal(command))
        for number, command in meanings.items()
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Notifying:
    """Also tells the service manager, if one listens."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self.told = watcher.told

    def ready(self, statuses: Sequence[InterfaceStatus]) -> None:
        self._watcher.ready(statuses)
        notify(READY)

    def second(self, statuses: Sequence[InterfaceStatus]) -> None:
        notify(ALIVE)
        self._watcher.second(statuses)

    def ended(self, totals: Sequence[RunTotals]) -> None:
        notify(STOPPING)
        self._watcher.ended(totals)


class Words:
    """Tells a person what changes; quiet while all is well."""

    def __init__(self, out: Outlet) -> None:
        self._out = console(cast("TextIO", out))
        self._said: dict[str, tuple[str, ...]] = {}

    def ready(self, statuses: Sequence[InterfaceStatus]) -> None:
        for one in statuses:
            self.told(f"{one.place}: {one.policy} is in force ({one.controller.mode}), {len(one.classes)} classes")

    def second(self, statuses: Sequence[InterfaceStatus]) -> None:
        for one in statuses:
            missed = tuple(
                f"{cls.path} misses {result.target}"
                for cls in one.classes
                if cls.sla is not None
                for result in cls.sla.targets
                if result.state == "missed"
            )
            frozen = (one.frozen.words,) if one.frozen else ()
            news = (*one.alarms, *frozen, *missed)
            if news != self._said.get(one.place, ()):
                self._said[one.place] = news
                self.told(f"{one.place}: " + ("; ".join(news) or "all well"))

    def told(self, message: str) -> None:
        self._out.print(message, markup=False, highlight=False)

    def ended(self, totals: Sequence[RunTotals]) -> None:
        for one in totals:
            self.told(f"{one.place}: stopped")


class JsonLines:
    """Tells a program one object a line; words go elsewhere."""

    def __init__(self, clock: Clock, lines: Outlet, words: Outlet) -> None:
        self._clock = clock
        self._lines = lines
        self._words = words

    def ready(self, statuses: Sequence[InterfaceStatus]) -> None:
        self._print(ready_line(statuses))

    def second(self, statuses: Sequence[InterfaceStatus]) -> None:
        for one in statuses:
            self._print(second_line(one, at=self._clock.wall()))

    def told(self, message: str) -> None:
        self._words.write(f"{message}\n")

    def ended(self, totals: Sequence[RunTotals]) -> None:
        for one in totals:
            self._print(summary_line(one))

    def _print(self, data: dict[str, Any]) -> None:
        self._lines.write(_json_line(data))


def _json_line(data: dict[str, Any]) -> str:
    return json.dumps(data, allow_nan=False) + "\n"
