"""`shaper check`: is the policy right? Reads files only."""

from __future__ import annotations

from pathlib import Path

import click

from shaper.cli.common import json_option, policy_argument, print_json
from shaper.model.service import SERVICE_CLASSES
from shaper.policy import read_policy
from shaper.units import format_rate


@click.command()
@policy_argument
@json_option
def check(policy_file: Path, as_json: bool) -> None:
    """Check a policy file; no kernel is asked. All problems at once, each with its place and mend."""
    policy = read_policy(policy_file)
    if as_json:
        print_json(
            {
                "schema": 1,
                "exit": 0,
                "problems": [],
                "source": policy.source,
                "sha256": policy.sha256,
                "interfaces": [
                    {
                        "interface": one.name,
                        "device": one.spot,
                        "direction": one.direction.value,
                        "bandwidth_bit_s": one.bandwidth,
                        "schedule": [
                            {
                                "holds": one.timetable.words(phase),
                                "bandwidth_bit_s": then.bandwidth,
                                "guaranteed_bit_s": sum(cls.guarantee for cls in then.classes),
                            }
                            for phase, then in one.variants.items()
                            if one.timetable
                        ],
                        "classes": [cls.path for cls in one.walk()],
                        "leaves": len(one.leaves()),
                        "service_classes": {
                            cls.path: {
                                "name": cls.service,
                                "source": SERVICE_CLASSES[cls.service].source,
                                "presets": list(cls.presets),
                            }
                            for cls in one.walk()
                            if cls.service
                        },
                    }
                    for one in policy.interfaces
                ],
            }
        )
        return
    for one in policy.interfaces:
        for phase, then in one.variants.items() or [((), one)]:
            guaranteed = sum(cls.guarantee for cls in then.classes)
            while_ = f" ({one.timetable.words(phase)})" if one.timetable else ""
            click.echo(
                f"{policy.source}: {one.title} on {one.spot}: {len(one.leaves())} classes, "
                f"{format_rate(guaranteed)} of {format_rate(then.bandwidth)} guaranteed{while_}"
            )
