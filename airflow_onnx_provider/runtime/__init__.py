"""What runs on an executor: numpy, pyarrow, onnxruntime and an image decoder, nothing else."""
