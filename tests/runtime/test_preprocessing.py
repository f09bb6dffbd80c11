from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing

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


@given(preprocessings)
def test_json_there_and_back(preprocessing: ImagePreprocessing) -> None:
    assert ImagePreprocessing.from_dict(json.loads(json.dumps(preprocessing.to_dict()))) == preprocessing


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
