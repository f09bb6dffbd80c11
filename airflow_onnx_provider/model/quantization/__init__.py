# SPDX-License-Identifier: Apache-2.0
"""Quantised variants of a model: making them, finding what must stay in float, and the search for the best one."""
