"""Measuring in the kernel: a C program for it, how it is loaded, and what it counted."""
