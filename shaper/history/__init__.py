"""The embedded store: observations, decisions and changes of an interface, in SQLite."""
