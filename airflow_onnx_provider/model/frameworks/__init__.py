# SPDX-License-Identifier: Apache-2.0
"""One module per source framework, each with the same two functions: ``to_onnx`` and ``open_predictor``."""
