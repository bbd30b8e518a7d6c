"""The `shaper` command."""


def main() -> None:
    raise SystemExit(70)
