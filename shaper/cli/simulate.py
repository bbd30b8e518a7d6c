"""`shaper simulate`: what would become of traffic under a policy, before anything is applied. Touches no kernel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from shaper.cli.asking import CLOCK
from shaper.cli.assumed import EVERYTHING, ethernet
from shaper.cli.common import Number, chosen, interface_option, json_option, policy_argument, print_json
from shaper.compile import compile_interface
from shaper.compile.program import Program
from shaper.errors import UnavailableError
from shaper.history.codec import encode
from shaper.lab.figures import figures
from shaper.lab.offered import from_recording, from_scenario
from shaper.lab.scenario import read_scenario
from shaper.lab.simulator import Simulation
from shaper.lab.stage import laid_out
from shaper.lab.virtual import run_virtually
from shaper.model.observation import TICK
from shaper.model.policy import Interface
from shaper.policy import read_policy
from shaper.report.render import console
from shaper.report.simulation import simulation_lines, simulation_table
from shaper.run.settings import Mode
from shaper.simulate import unmodelled

_SCENARIOS = (".yaml", ".yml")


@click.command()
@policy_argument
@interface_option
@click.option(
    "--traffic",
    required=True,
    metavar="SCENARIO|PCAP",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A scenario file (.yaml), or packets that were captured on Ethernet (pcap).",
)
@click.option("--seed", type=click.IntRange(min=0), help="Another sample of a scenario.  [default: the scenario's own]")
@click.option("--seconds", type=Number(min=1), help="How long.  [default: as long as the traffic]")
@click.option(
    "--mode",
    type=click.Choice([mode.value for mode in Mode]),
    default=Mode.CONTROLLED.value,
    show_default=True,
    help="As of `run`.",
)
@click.option("--tick", type=Number(0.05, 1.0), default=TICK, show_default=True, help="Seconds per decision.")
@click.option("--exact", is_flag=True, help="On the real queues of the lab's kernel in virtual time; takes a minute.")
@json_option
def simulate(
    policy_file: Path,
    names: tuple[str, ...],
    traffic: Path,
    seed: int | None,
    seconds: float | None,
    mode: str,
    tick: float,
    exact: bool,
    as_json: bool,
) -> None:
    """Say what would become of traffic under a policy: delay, loss, SLAs, and what the controller would do.

    A model of HTB with FIFOs, packet by packet, under the same controller; the same arguments give the same answer.
    Other queues, and TCP, which answers to its queue, need --exact.
    """
    interfaces = chosen(read_policy(policy_file), names)
    if len(interfaces) != 1:
        raise click.UsageError("one interface and direction is simulated at a time: name it with --interface")
    interface = interfaces[0].at(CLOCK.wall())
    if exact:
        if traffic.suffix not in _SCENARIOS or tick != TICK:
            raise click.UsageError("--exact runs a scenario file at the usual tick")
        own = read_scenario(traffic).seed if seed is None else seed
        found = run_virtually(policy_file, traffic, mode=mode, seed=own, seconds=seconds)
        result = {**found, "decisions": None, "notes": [], "seed": own}
    else:
        result = modelled(interface, traffic, seed=seed, seconds=seconds, mode=mode, tick=tick)
    result = {**result, "exit": 0, "mode": mode, "exact": exact}
    if as_json:
        print_json(result)
        return
    out = console()
    out.print(simulation_table(result))
    for line in simulation_lines(result):
        out.print(line, soft_wrap=True)


def modelled(
    interface: Interface,
    traffic: Path,
    *,
    mode: str,
    seed: int | None = None,
    seconds: float | None = None,
    tick: float = TICK,
) -> dict[str, Any]:
    """What the model shows of the traffic. Raises ShaperError where it does not know enough."""
    if interface.policed:
        raise UnavailableError(
            f"the model is of queues, and what comes in by {interface.device} is policed",
            hint="simulate it with --exact, or with `ingress: queue`",
            where=interface.policed_where,
        )
    program = compiled(interface, structure=mode != Mode.STATIC)
    if traffic.suffix in _SCENARIOS:
        scenario = read_scenario(traffic)
        seed = scenario.seed if seed is None else seed
        laid = laid_out(interface, scenario, name=traffic, seconds=seconds, seed=seed)
        offered, paths = from_scenario(laid), laid.paths
    else:
        offered = from_recording(
            traffic, interface.rules(), leave={one.path for one in interface.leaves() if one.implied}
        )
        if seconds is not None:
            offered = replace(offered, seconds=seconds)
        paths = {path for _, path, _ in offered.packets}
    _require(program, paths)
    simulation = Simulation(program, offered, mode=mode, tick=tick)
    trial = simulation.run()
    return {
        **figures(interface, trial),
        "seed": seed,
        "notes": list(offered.notes),
        "decisions": [
            {"at_s": move.at, "changes": encode(move.decision.changes), "shortfalls": encode(move.decision.shortfalls)}
            for move in simulation.moves
        ],
    }


def compiled(interface: Interface, *, structure: bool) -> Program:
    """For a kernel with everything, and an Ethernet device."""
    return compile_interface(interface, EVERYTHING, ethernet(interface.device), structure=structure, tap=False)


def _require(program: Program, paths: set[str]) -> None:
    """Raises UnavailableError for queues that the model does not know."""
    if other := unmodelled(program.tree, {program.handles[path] for path in paths}):
        raise UnavailableError(
            f"the model knows HTB with FIFOs, not {', '.join(other)}",
            hint="simulate it with --exact, or give the classes `aqm: fifo`",
        )
