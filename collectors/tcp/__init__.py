"""Round trips and retransmissions of TCP, as the packets on a device show them to who only looks."""
