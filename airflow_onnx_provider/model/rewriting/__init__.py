# SPDX-License-Identifier: Apache-2.0
"""Rewriting a graph, file in and file out: each module does one thing to an ONNX file and knows nothing of versions."""
