# SPDX-License-Identifier: Apache-2.0
"""The demo's classifier: a small convolutional network in Keras on TensorFlow.

Plain convolutions of 24 channels and more, because those are what int8 makes faster; depthwise ones hardly gain.
"""

import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

BLOCKS = ((32, 1), (64, 1), (144, 1))
"""Channels and number of further convolutions of each block; each block halves the picture first."""

BATCH = 32
LEARNING_RATE = 5e-3


def build(height: int, width: int, classes: int) -> keras.Model:
    """A network from `image`, float32 [N, height, width, 3] of 0..255, to `probabilities`, float32 [N, classes]."""
    image = keras.Input((height, width, 3), name="image", dtype="float32")
    values = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(image)
    values = _convolution(values, 24, stride=2)
    for channels, more in BLOCKS:
        values = _convolution(values, channels, stride=2)
        for _ in range(more):
            values = _convolution(values, channels, stride=1)
    values = keras.layers.GlobalAveragePooling2D()(values)
    probabilities = keras.layers.Dense(classes, activation="softmax", name="probabilities")(values)
    return keras.Model(image, probabilities, name="classifier")


def fit(model: keras.Model, pictures: NDArray[np.uint8], labels: NDArray[np.int64], epochs: int, seed: int) -> None:
    """Train in place and print a line an epoch.

    :param pictures: [N, height, width, 3], RGB.
    :param labels: [N], the class of each picture.
    """
    steps = -(-len(pictures) // BATCH) * epochs
    rate = keras.optimizers.schedules.CosineDecay(
        LEARNING_RATE / 10, steps, warmup_target=LEARNING_RATE, warmup_steps=steps // 10
    )
    model.compile(keras.optimizers.Adam(rate), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    data = (
        tf.data.Dataset.from_tensor_slices((pictures, labels))
        .shuffle(len(pictures), seed=seed)
        .batch(BATCH)
        .map(_mirrored)
        .prefetch(2)
    )
    for epoch in range(epochs):
        started = time.perf_counter()
        # One epoch a call, for a line of our own after each; `data` has shuffled already.
        history = model.fit(data, epochs=epoch + 1, initial_epoch=epoch, shuffle=False, verbose=0).history
        seconds = time.perf_counter() - started
        loss, share = history["loss"][-1], history["accuracy"][-1]
        print(f"epoch {epoch + 1}: loss {loss:.3f}, accuracy {share:.3f}, {seconds:.1f} s", flush=True)


def accuracy(model: keras.Model, pictures: NDArray[np.uint8], labels: NDArray[np.int64]) -> float:
    """The share of pictures [N, height, width, 3] that the model gives their label [N]."""
    answers = model.predict(pictures.astype(np.float32), batch_size=BATCH, verbose=0).argmax(axis=1)
    return float((answers == labels).mean())


def _convolution(values: Any, channels: int, stride: int) -> Any:
    values = keras.layers.Conv2D(channels, 3, strides=stride, padding="same", use_bias=False)(values)
    return keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(values))


def _mirrored(pictures: Any, labels: Any) -> tuple[Any, Any]:
    """Half of the pictures swapped left to right: a mirrored mug is a mug."""
    swap = tf.random.uniform((tf.shape(pictures)[0], 1, 1, 1)) < 0.5
    return tf.cast(tf.where(swap, pictures[:, :, ::-1], pictures), tf.float32), labels
