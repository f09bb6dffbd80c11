# SPDX-License-Identifier: Apache-2.0
"""The demo world: a made-up shop whose product pictures are drawn, day by day, and a classifier trained on them.

Not part of the wheel. It needs Pillow and numpy; `demo.train` also needs Keras on TensorFlow.
"""
