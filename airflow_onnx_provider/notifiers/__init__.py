"""Notifiers: a run in a few lines, for whatever sends messages."""
