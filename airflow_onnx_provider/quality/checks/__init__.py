"""The checks themselves, what they look at, and what can be set."""
