# SPDX-License-Identifier: Apache-2.0
"""Numbers in, verdict out."""
