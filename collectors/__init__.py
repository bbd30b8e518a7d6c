"""Measurement: one collector a file, reading and parsing apart. Knows interfaces, classids and packets."""
