"""nftables over netlink, as far as the shaper speaks it: its own table, and a look for rules that translate."""
