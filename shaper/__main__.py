"""`python -m shaper`."""

from shaper.cli import main

main()
