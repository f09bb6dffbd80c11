# SPDX-License-Identifier: Apache-2.0
"""Every bad model is refused, each with its own message: none hangs, fills the memory, or runs anything of its own."""

from __future__ import annotations

import logging
import os
import resource
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airflow_onnx_provider.exceptions import BadInputError, DigestMismatchError, ValidationError
from airflow_onnx_provider.model.evidence.parity import ParityLimits
from airflow_onnx_provider.model.evidence.samples import digest_of_path
from airflow_onnx_provider.model.gates.reference import Reference
from airflow_onnx_provider.model.graph import require_sound
from airflow_onnx_provider.model.stage import Stage
from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.model.validate import predict_source_in_child, validate, validate_in_child
from airflow_onnx_provider.model.version import manifest_of
from airflow_onnx_provider.runtime.golden import GoldenRows
from airflow_onnx_provider.runtime.manifest import MANIFEST_NAME, MODEL_NAME, write_json
from airflow_onnx_provider.runtime.session import open_session
from tests.model.corpus import COSTLY, ENDLESS, REFUSED_RUNNING, REFUSED_UNOPENED
from tests.model.hostile import PLAIN, Hostile
from tests.runtime.tiny import write_onnx

ROWS = np.random.default_rng(5).uniform(1, 2, (12, 3)).astype(np.float32)
WEIGHTS = np.array([[2, -1, 0.5], [-1, 2, 0.5], [0.5, 0.5, 1]], np.float32)
MEMORY_MB = 1024


@pytest.fixture
def little_memory() -> Iterator[None]:
    """This process may take 512 MiB more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (512 << 20), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


class OneChild(Stage):
    """Asks the source in this process, and runs the model in a child with limits."""

    def run(self, name: str, settings: Mapping[str, Any], memory_mb: int | None = None) -> dict[str, Any]:
        if name == "predict_source":
            return predict_source_in_child(settings)
        return super().run(name, settings, memory_mb)


def in_store(folder: Path, model: Hostile) -> tuple[ModelStore, str, Path]:
    """A version that says it was made of the plain model, and real rows."""
    source = write_onnx(folder / "source" / "plain.onnx", PLAIN)
    (folder / "new").mkdir()
    model.write(folder / "new")
    origin = {"framework": "onnx", "source": str(source), "sha256": digest_of_path(source)}
    manifest = manifest_of(folder / "new", name="hostile", origin=origin)
    store = ModelStore(folder / "store")
    np.savez(folder / "rows.npz", x=ROWS)
    return store, store.add(folder / "new", manifest), folder / "rows.npz"


def test_what_the_bad_models_are_made_from_is_good(tmp_path: Path) -> None:
    assert require_sound(write_onnx(tmp_path / "model.onnx", PLAIN)) is None


def test_the_corpus_is_large_and_each_model_has_a_message_of_its_own() -> None:
    corpus = [*REFUSED_UNOPENED, *REFUSED_RUNNING, *COSTLY, ENDLESS]

    assert len(corpus) >= 60
    assert len({model.name for model in corpus}) == len(corpus)


@pytest.mark.parametrize("model", REFUSED_UNOPENED, ids=lambda model: model.name)
@pytest.mark.usefixtures("little_memory")
def test_it_is_refused_before_onnx_runtime_sees_it(model: Hostile, tmp_path: Path) -> None:
    path = model.write(tmp_path)

    with pytest.raises((ValidationError, BadInputError), match=rf"(?s)model\.onnx.*{model.message}"):
        require_sound(path)


@pytest.mark.parametrize("model", REFUSED_RUNNING, ids=lambda model: model.name)
def test_it_is_refused_for_what_it_answers(model: Hostile, tmp_path: Path) -> None:
    model.write(tmp_path)
    write_json(tmp_path / MANIFEST_NAME, manifest_of(tmp_path, name="hostile").to_dict())
    GoldenRows({"x": ROWS}, {"y": ROWS @ WEIGHTS}).save(tmp_path / "source.npz")

    with pytest.raises(ValidationError, match=rf"(?s){model.message}"):
        validate_in_child(
            {
                "folder": str(tmp_path),
                "answers": str(tmp_path / "source.npz"),
                "golden": str(tmp_path / "golden.npz"),
                "limits": asdict(ParityLimits()),
                "reference": asdict(Reference()),
                "memory_limit_mb": MEMORY_MB,
            }
        )
    assert not (tmp_path / "golden.npz").exists()


@pytest.mark.parametrize(
    ("model", "seconds"),
    [*((model, 120.0) for model in COSTLY), (ENDLESS, 5.0)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_it_ends_with_its_process_and_is_refused(model: Hostile, seconds: float, tmp_path: Path) -> None:
    store, address, rows = in_store(tmp_path, model)
    stage = OneChild(logging.getLogger("child"), timeout=seconds)

    with pytest.raises(ValidationError, match=rf"(?s)hostile {Path(address).name} is refused: {model.message}"):
        validate(address, inputs=rows, store=store, stage=stage, memory_mb=MEMORY_MB)
    assert store.manifest(address).golden is None


def test_a_flipped_bit_of_a_weight_is_found_by_its_digest(tmp_path: Path) -> None:
    store, address, rows = in_store(tmp_path, Hostile("good", ""))
    path = Path(address) / MODEL_NAME
    data = bytearray(path.read_bytes())
    data[data.index(np.float32(2).tobytes()) + 2] ^= 1
    path.write_bytes(data)

    with pytest.raises(DigestMismatchError, match=r"model\.onnx is not the file that was recorded for hostile"):
        validate(address, inputs=rows, store=store, stage=OneChild(logging.getLogger("child")), memory_mb=MEMORY_MB)


def test_a_version_in_a_store_that_grew_a_link_to_other_weights_is_refused(tmp_path: Path) -> None:
    """Its digests hold, because the link leads to the same bytes today."""
    data = next(model for model in REFUSED_UNOPENED if model.name == "data missing")
    folder = tmp_path / "version"
    folder.mkdir()
    data.write(folder)
    (tmp_path / "elsewhere").write_bytes(WEIGHTS.tobytes())
    (folder / "model.onnx.data").symlink_to(tmp_path / "elsewhere")

    manifest_of(folder, name="linked").verify_files(folder)
    with pytest.raises(ValidationError, match="is a link to another file"):
        require_sound(folder / "model.onnx")


def test_no_library_of_a_model_is_ever_loaded(tmp_path: Path) -> None:
    """A real library that any loader would map: it is in no process's memory, whatever the model says of it."""
    canary = tmp_path / "libevil.so"
    real = next(Path(np.__file__).parent.rglob("_multiarray_umath*.so"))
    shutil.copyfile(real, canary)
    model = next(model for model in REFUSED_UNOPENED if model.name == "library in the metadata")
    path = model.write(tmp_path)

    with pytest.raises(ValidationError, match="No library that comes with a model is ever loaded"):
        require_sound(path)
    open_session(path)  # and even ONNX Runtime, asked all the same, leaves it where it is

    assert str(canary) not in Path("/proc/self/maps").read_text()


def test_the_gates_leave_pipes_and_devices_closed(tmp_path: Path) -> None:
    """A writer of a pipe can open it without waiting only while somebody reads it."""
    model = next(model for model in REFUSED_UNOPENED if model.name == "data of a pipe")
    path = model.write(tmp_path)
    with pytest.raises(ValidationError, match="is no regular file"):
        require_sound(path)

    with pytest.raises(OSError, match="No such device or address"):
        os.open(tmp_path / "model.onnx.data", os.O_WRONLY | os.O_NONBLOCK)
