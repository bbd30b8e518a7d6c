"""What people and machines read: tables, JSON, metrics."""
