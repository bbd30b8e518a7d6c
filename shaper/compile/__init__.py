"""Compilation: model and capabilities to the tree that the kernel should hold. Deterministic and pure."""

from shaper.compile.htb import compile_interface

__all__ = ["compile_interface"]
