# SPDX-License-Identifier: Apache-2.0
"""The benchmark suite: this product beside its peers and beside the limit, in one run on one machine.

Not part of the wheel. `make bench` runs all of it, `make bench-quick` the same on less.
"""
