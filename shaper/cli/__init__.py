"""The `shaper` command: parse, call, render, exit."""

from __future__ import annotations

import signal


def main() -> None:
    """Runs the command. Until its own handlers are there, while it is imported, Ctrl-C ends it without a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from shaper.cli.entry import main as run  # noqa: PLC0415 # not before the signal is seen to

    run()


__all__ = ["main"]
