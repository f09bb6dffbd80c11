# SPDX-License-Identifier: Apache-2.0
import numpy as np

from airflow_onnx_provider.runtime.session import open_session
from benchmarks.datasets import MAX_TOKENS, _texts
from benchmarks.networks import write_encoder, write_table_network
from benchmarks.photographs import photograph


def test_a_photograph_is_the_same_for_the_same_number():
    assert photograph(3, (500, 375)) == photograph(3, (500, 375)) != photograph(4, (500, 375))


def test_a_small_photograph_has_the_size_of_a_real_one():
    assert 25_000 < len(photograph(0, (500, 375))) < 90_000


def test_texts_are_mostly_short():
    lengths = _texts(2000, 0)["tokens"].combine_chunks().value_lengths().to_numpy()
    assert lengths.min() >= 4
    assert lengths.max() <= MAX_TOKENS
    assert 20 <= np.median(lengths) <= 28


def test_the_encoder_pays_no_attention_to_padding(tmp_path):
    write_encoder(tmp_path / "encoder.onnx", layers=1)
    session = open_session(tmp_path / "encoder.onnx")
    ids, mask = np.array([[5, 6, 7, 0, 0]]), np.array([[1, 1, 1, 0, 0]])
    (padded,) = session.run(None, {"input_ids": ids, "attention_mask": mask})
    (alone,) = session.run(None, {"input_ids": ids[:, :3], "attention_mask": mask[:, :3]})
    np.testing.assert_allclose(padded, alone, atol=1e-6)


def test_the_table_network_answers_with_more_than_one_class(tmp_path):
    write_table_network(tmp_path / "table.onnx")
    session = open_session(tmp_path / "table.onnx")
    rows = np.random.default_rng(0).standard_normal((64, 100), dtype=np.float32)
    (scores,) = session.run(None, {"features": rows})
    assert len(set(scores.argmax(axis=1))) > 3
