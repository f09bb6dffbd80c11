# SPDX-License-Identifier: Apache-2.0
"""The checks themselves, what they look at, and what can be set."""
