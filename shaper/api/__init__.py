"""The Unix socket of a running `run`: one JSON request a line, one JSON answer, the same objects as `--json`."""
