# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.runtime.cpu import available_cores
from airflow_onnx_provider.runtime.manifest import MODEL_NAME
from airflow_onnx_provider.runtime.profile import ExecutionProfile, profile_named, profile_of
from airflow_onnx_provider.runtime.session import open_session

options = st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3)
profiles = st.builds(
    ExecutionProfile,
    provider=st.sampled_from(["CPUExecutionProvider", "CUDAExecutionProvider"]),
    provider_options=options.map(lambda given: tuple(sorted(given.items()))),
    threads=st.integers(1, 128),
    batch_size=st.none() | st.integers(1, 512),
    token_budget=st.integers(1, 10**6),
    decode_threads=st.integers(0, 16),
    decoder=st.sampled_from(["full", "scaled"]),
    arena=st.booleans(),
)


@given(profiles)
def test_json_there_and_back(profile: ExecutionProfile) -> None:
    back = ExecutionProfile.from_dict(json.loads(json.dumps(profile.to_dict())))

    assert back == profile
    assert hash(back) == hash(profile), "a worker keeps its model by it"


def test_the_usual_profile_is_one_thread_on_the_cpu() -> None:
    assert profile_named("cpu-throughput") == ExecutionProfile() == ExecutionProfile.from_dict({})
    assert ExecutionProfile().providers == [("CPUExecutionProvider", {})]


def test_latency_takes_all_cores_for_one_row() -> None:
    profile = profile_named("cpu-latency")

    assert (profile.threads, profile.batch_size) == (available_cores(), 1)


def test_fields_of_ones_own_change_a_named_profile_and_nothing_else() -> None:
    assert profile_named("cpu-throughput", threads=3, arena=False) == ExecutionProfile(threads=3, arena=False)
    assert profile_named("cuda", batch_size=16).to_dict() == {**profile_named("cuda").to_dict(), "batch_size": 16}


def test_a_profile_by_its_name_or_by_its_name_and_fields() -> None:
    assert profile_of("cuda") == profile_named("cuda")
    assert profile_of({"name": "cuda", "batch_size": 8}) == profile_named("cuda", batch_size=8)
    assert profile_of({"decoder": "scaled"}) == ExecutionProfile(decoder="scaled")


def test_the_given_fields_are_left_alone() -> None:
    given = {"name": "cuda", "batch_size": 8}
    profile_of(given)

    assert given == {"name": "cuda", "batch_size": 8}


def test_provider_options_are_texts_in_one_order() -> None:
    profile = profile_named("cuda", provider_options={"gpu_mem_limit": 10**9, "device_id": 1})

    assert profile.provider_options == (("device_id", "1"), ("gpu_mem_limit", "1000000000"))
    assert profile.providers == [("CUDAExecutionProvider", {"device_id": "1", "gpu_mem_limit": "1000000000"})]


def test_tensorrt_leaves_the_rest_to_the_same_gpu() -> None:
    assert profile_named("tensorrt").providers == [("TensorrtExecutionProvider", {}), "CUDAExecutionProvider"]
    assert profile_named("tensorrt").on_device("3").providers == [
        ("TensorrtExecutionProvider", {"device_id": "3"}),
        ("CUDAExecutionProvider", {"device_id": "3"}),
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("gpu", r"'gpu' is not one of cpu-throughput, cpu-latency, cuda, tensorrt, openvino"),
        ({"name": "cuda", "batch": 8}, r"unknown \['batch'\]; it has \['arena', 'batch_size', 'decode_threads'"),
        ({"decoder": "fast"}, r"decoder must be one of \('full', 'scaled'\), got 'fast'"),
        ({"threads": 0}, r"{'threads': 0} cannot be; .* the least are {'threads': 1"),
        ({"batch_size": 0}, r"{'batch_size': 0} cannot be"),
        ({"token_budget": -1, "decode_threads": -1}, r"{'token_budget': -1, 'decode_threads': -1} cannot be"),
        ({"threads": "2"}, r"{'threads': '2'} cannot be; these are whole numbers"),
        ({"threads": None}, r"{'threads': None} cannot be"),
    ],
)
def test_what_cannot_be_is_refused_by_name(given: str | dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=f"profile: {message}"):
        profile_of(given)


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        ("cuda", "CUDAExecutionProvider"),
        ("tensorrt", "TensorrtExecutionProvider"),
        ("openvino", "OpenVINOExecutionProvider"),
    ],
)
def test_no_profile_runs_on_the_cpu_in_its_providers_place(name: str, provider: str, version: Path) -> None:
    import onnxruntime

    if provider in onnxruntime.get_available_providers():
        pytest.skip(f"this ONNX Runtime has {provider}")
    with pytest.raises(BadInputError, match=f"asked for {provider}, but this ONNX Runtime has only"):
        open_session(version / MODEL_NAME, profile_named(name))
