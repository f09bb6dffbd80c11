# SPDX-License-Identifier: Apache-2.0
"""What decides about a model: real rows, its answers to them, how far they are from others, and its speed."""
