"""Cutting a graph into stages: where to cut (from costs alone), and how to take the stages out of the file."""
