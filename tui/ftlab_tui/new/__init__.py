"""New: set up a run in four steps."""
