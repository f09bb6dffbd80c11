# SPDX-License-Identifier: Apache-2.0
"""Notifiers: a run in a few lines, for whatever sends messages."""
