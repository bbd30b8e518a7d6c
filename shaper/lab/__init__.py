"""Throwaway networks, traffic and its independent account: what the demo, the benchmarks and the lab stand on."""
