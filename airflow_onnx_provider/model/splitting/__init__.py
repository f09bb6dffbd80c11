# SPDX-License-Identifier: Apache-2.0
"""Cutting a graph into stages: where to cut (from costs alone), and how to take the stages out of the file."""
