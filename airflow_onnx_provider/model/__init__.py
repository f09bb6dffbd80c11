# SPDX-License-Identifier: Apache-2.0
"""Model files in, model files out: convert, validate, quantize, and the store that keeps the versions."""
