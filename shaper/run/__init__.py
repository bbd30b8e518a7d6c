"""Where things happen: snapshot, steps, read back, control loop. The only room with a clock."""
