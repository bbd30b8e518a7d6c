"""A Linux QoS controller: policy text in, a held SLA out, or the reason why not."""

__version__ = "0.1.0"
