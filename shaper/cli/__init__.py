"""The `shaper` command: parse, call, render, exit."""

from shaper.cli.entry import main

__all__ = ["main"]
