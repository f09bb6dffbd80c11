# SPDX-License-Identifier: Apache-2.0
"""Gates that an ONNX file must pass before ONNX Runtime may open it: one module a subject, one message a fault.

A file is read once, as protobuf without its external data. Nothing in it is believed before its gate has passed.
"""
