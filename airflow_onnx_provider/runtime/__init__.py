# SPDX-License-Identifier: Apache-2.0
"""What runs on an executor: numpy, pyarrow, onnxruntime and an image decoder, nothing else."""
