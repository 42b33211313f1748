"""Measurements shared by questions: one per file, each `measure(probe) -> evidence`."""
