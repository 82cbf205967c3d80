"""Bringing a gallery in step with folders: what is there, what changed, what it costs, what became of each file."""
