"""`shaper schema`: the policy file's JSON Schema, for editors."""

from __future__ import annotations

import click

from shaper.cli.common import print_json
from shaper.policy.editor import json_schema


@click.command()
def schema() -> None:
    """Print the JSON Schema of a policy file; editors complete and check keys with it."""
    print_json(json_schema())
