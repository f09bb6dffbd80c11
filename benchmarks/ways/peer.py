# SPDX-License-Identifier: Apache-2.0
"""What the peers share: a session with the settings that suit them, and a batch's answers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airflow_onnx_provider.runtime.decode import decode_image
from airflow_onnx_provider.runtime.manifest import MODEL_NAME, ModelManifest

PICTURES_PER_BATCH = 8
ROWS_PER_BATCH = 1024


class Peer:
    """A model as a careful user would open it: one thread, no spinning. One for each worker process."""

    def __init__(self, folder: str) -> None:
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.manifest = ModelManifest.read(Path(folder))
        self._session = ort.InferenceSession(str(Path(folder) / MODEL_NAME), options)
        self._inputs = [one.name for one in self._session.get_inputs()]

    def pictures(self, encoded: Any) -> NDArray[Any]:
        """Labels and scores ``float64 [rows, 2]`` of encoded pictures, a few at a time."""
        preprocessing = self.manifest.image_preprocessing
        parts = []
        for start in range(0, len(encoded), PICTURES_PER_BATCH):
            batch = np.stack(
                [decode_image(data, preprocessing) for data in encoded[start : start + PICTURES_PER_BATCH]]
            )
            parts.append(self.best(batch))
        return np.concatenate(parts)

    def rows(self, features: NDArray[Any]) -> NDArray[Any]:
        """The same of a matrix of features."""
        starts = range(0, len(features), ROWS_PER_BATCH)
        return np.concatenate([self.best(features[start : start + ROWS_PER_BATCH]) for start in starts])

    def best(self, *tensors: NDArray[Any]) -> NDArray[Any]:
        """Labels and scores of one batch."""
        (scores,) = self._session.run(None, dict(zip(self._inputs, tensors, strict=True)))
        labels = scores.argmax(axis=1)
        return np.stack([labels, scores[np.arange(len(labels)), labels]], axis=1).astype(np.float64)
