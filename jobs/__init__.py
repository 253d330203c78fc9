"""Jobs and commands."""
