# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.runtime.preprocessing import (
    ImagePreprocessing,
    TokenPreprocessing,
    preprocessing_from_dict,
)

numbers = st.floats(-1e3, 1e3)
preprocessings = st.builds(
    ImagePreprocessing,
    height=st.integers(1, 4096),
    width=st.integers(1, 4096),
    resize=st.sampled_from(["stretch", "crop"]),
    scale=numbers,
    mean=st.tuples(numbers, numbers, numbers),
    std=st.tuples(*[numbers.filter(bool)] * 3),
)


tokens = st.builds(
    TokenPreprocessing,
    input_ids=st.text(max_size=9),
    attention_mask=st.none() | st.text(max_size=9),
    max_length=st.integers(1, 8192),
    pad_id=st.integers(0, 10**5),
)


@given(preprocessings | tokens)
def test_json_there_and_back(preprocessing: ImagePreprocessing | TokenPreprocessing) -> None:
    assert preprocessing_from_dict(json.loads(json.dumps(preprocessing.to_dict()))) == preprocessing


def test_tokens_have_a_mask_only_if_the_model_takes_one() -> None:
    assert preprocessing_from_dict({"kind": "tokens", "input_ids": "ids"}) == TokenPreprocessing("ids", None, 512, 0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, r"tokens need input_ids and know \['attention_mask', 'input_ids', 'max_length', 'pad_id'\], got \[\]"),
        ({"input_ids": "ids", "padding": 1}, r"got \['input_ids', 'padding'\]"),
        ({"input_ids": "ids", "max_length": 0}, r"max_length must be positive, got 0"),
        ({"input_ids": "ids", "max_length": "long"}, r"max_length"),
        ({"input_ids": "ids", "pad_id": None}, r"pad_id"),
    ],
)
def test_a_bad_field_of_tokens_is_refused_by_name(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=f"preprocessing: .*{message}"):
        preprocessing_from_dict({"kind": "tokens", **fields})


def test_another_kind_is_refused() -> None:
    with pytest.raises(BadInputError, match="preprocessing"):
        preprocessing_from_dict({"kind": "sound", "height": 4, "width": 4})


def test_what_is_not_given_leaves_the_picture_as_it_is() -> None:
    found = ImagePreprocessing.from_dict({"height": 4, "width": 6})

    assert found == ImagePreprocessing(4, 6, "stretch", 1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert found.shape == (4, 6, 3)


def test_numbers_from_templates_arrive_as_strings() -> None:
    found = ImagePreprocessing.from_dict({"height": "224", "width": "192", "scale": "0.5", "mean": ["1", "2", "3"]})

    assert (found.height, found.width, found.scale, found.mean) == (224, 192, 0.5, (1.0, 2.0, 3.0))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"height": 4}, r"needs height and width"),
        ({"height": 4, "width": 4, "depth": 3}, r"got \['depth', 'height', 'width'\]"),
        ({"height": 0, "width": 4}, r"height and width must be positive, got 0 x 4"),
        ({"height": 4, "width": -1}, r"must be positive"),
        ({"height": 4, "width": 4, "resize": "pad"}, r"resize must be one of .*'crop'.*, got 'pad'"),
        ({"height": 4, "width": 4, "mean": [1, 2]}, r"mean and std need three values each"),
        ({"height": 4, "width": 4, "std": [1, 0, 1]}, r"no std may be 0"),
        ({"height": "tall", "width": 4}, r"height"),
        ({"height": None, "width": 4}, r"height"),
        ({"height": 4, "width": 4, "scale": "big"}, r"scale"),
        ({"height": 4, "width": 4, "mean": 0.5}, r"mean"),
    ],
)
def test_a_bad_field_is_refused_by_name(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        ImagePreprocessing.from_dict(fields)
