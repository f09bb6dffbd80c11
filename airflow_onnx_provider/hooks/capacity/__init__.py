# SPDX-License-Identifier: Apache-2.0
"""What each kind of cluster has free, asked through its own web API."""
