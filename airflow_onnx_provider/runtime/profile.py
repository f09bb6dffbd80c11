# SPDX-License-Identifier: Apache-2.0
"""Execution profiles: how ONNX Runtime and the feed before it are set up, by name and field by field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.runtime.cpu import available_cores

Decoder = Literal["full", "scaled"]
"""``full`` decodes every pixel. ``scaled`` has the JPEG decoder give a large picture at 1/2, 1/4 or 1/8 of its size,
but never below twice the model's input: the antialiased filter then still averages over all it gets, which evens out
how the decoder made the picture smaller. A 12-megapixel photo takes a third to an eighth of the time. The pixels are
not bit for bit the same: soft pictures differ by 2 levels of 255 at most, grain by 10, noise and hard edges by up to
16, and all of them by 1 or 2 on average."""

CPU = "CPUExecutionProvider"

PICTURES_PER_BATCH = 8
"""Small batches win on CPUs: MobileNetV2 on one thread does 276 images/s at batch 1, 230 at 8, 192 at 32; eight keeps
the cost per call low for small networks too."""

ROWS_PER_BATCH = 1024
"""Rows of plain columns are small, so the cost of the call itself decides."""

BYTES_PER_BATCH = 1 << 20
"""Tensors with large rows, such as decoded pictures, get batches of fewer rows than :data:`ROWS_PER_BATCH`."""


TOKENS_PER_BATCH = 1024
"""A small text encoder on one thread does 1,400 texts/s at 512 or 1,024 tokens, 1,240 at 4,096, 1,090 at 8,192: small
batches stay in the cache, and hold texts of more equal length."""


@dataclass(frozen=True)
class ExecutionProfile:
    """One way to run a model in one worker process.

    :param provider: ONNX Runtime's execution provider; no other one may take its place
    :param provider_options: option to value, as ONNX Runtime documents them for the provider
    :param threads: cores that one ``session.run`` uses
    :param batch_size: rows of one ``session.run``; None: :data:`PICTURES_PER_BATCH`, or as many rows as
        :data:`ROWS_PER_BATCH` and :data:`BYTES_PER_BATCH` allow
    :param token_budget: most tokens of one ``session.run``, padding included, for models that take token arrays
    :param decode_threads: threads that read and decode beside inference; 0: inference waits for them
    :param decoder: ``full``, or ``scaled``: large JPEGs are decoded at a fraction of their size, if the model's golden
        pictures get the same answers
    :param arena: whether ONNX Runtime keeps the memory of the largest batch (faster) or gives it back
    """

    provider: str = CPU
    provider_options: Mapping[str, str] | tuple[tuple[str, str], ...] = ()
    threads: int = 1
    batch_size: int | None = None
    token_budget: int = TOKENS_PER_BATCH
    decode_threads: int = 1
    decoder: Decoder = "full"
    arena: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.provider_options, Mapping):  # a mapping could not be part of a key
            pairs = tuple(sorted((str(name), str(value)) for name, value in self.provider_options.items()))
            object.__setattr__(self, "provider_options", pairs)
        least = {"threads": 1, "batch_size": 1, "token_budget": 1, "decode_threads": 0}
        given = {name: getattr(self, name) for name in least if (name, getattr(self, name)) != ("batch_size", None)}
        if wrong := {name: value for name, value in given.items() if type(value) is not int or value < least[name]}:
            raise BadInputError(f"profile: {wrong} cannot be; these are whole numbers, the least are {least}")
        if self.decoder not in get_args(Decoder):
            raise BadInputError(f"profile: decoder must be one of {get_args(Decoder)}, got {self.decoder!r}")

    @property
    def providers(self) -> list[Any]:
        """As ``InferenceSession`` takes them. TensorRT leaves what it cannot do to CUDA, on the same GPU."""
        chain: list[Any] = [(self.provider, dict(self.provider_options))]
        if self.provider != "TensorrtExecutionProvider":
            return chain
        device = {name: value for name, value in dict(self.provider_options).items() if name == "device_id"}
        return [*chain, ("CUDAExecutionProvider", device) if device else "CUDAExecutionProvider"]

    @property
    def sizing(self) -> dict[str, int]:
        """What the profile decides in the planner's place: its own threads and batch suit its provider."""
        sizes = {"task_cpus": self.threads, "threads": self.threads} if self.threads > 1 else {}
        return {**sizes, **({"batch_size": self.batch_size} if self.batch_size else {})}

    @property
    def constant_shape(self) -> bool:
        """Whether every batch must have the same shape, the last one of a task too."""
        return self.provider != CPU

    @property
    def on_gpu(self) -> bool:
        """Whether it needs a GPU."""
        return self.provider in ("CUDAExecutionProvider", "TensorrtExecutionProvider")

    def on_device(self, address: str) -> ExecutionProfile:
        """The same profile on one of a machine's GPUs, by the address that Spark gave to the task."""
        return replace(self, provider_options={**dict(self.provider_options), "device_id": address})

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        return {**asdict(self), "provider_options": dict(self.provider_options)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ExecutionProfile:
        """Inverse of :meth:`to_dict`; fields that are left out have their default.

        :raises BadInputError: for an unknown field or an impossible value
        """
        return cls().overridden(data)

    def overridden(self, fields: Mapping[str, Any]) -> ExecutionProfile:
        """The same profile with some fields changed.

        :raises BadInputError: for an unknown field or an impossible value
        """
        if unknown := sorted(set(fields) - set(self.__dataclass_fields__)):
            raise BadInputError(f"profile: unknown {unknown}; it has {sorted(self.__dataclass_fields__)}")
        return replace(self, **fields)


def profile_named(name: str, **fields: Any) -> ExecutionProfile:
    """A profile by its name, with fields of one's own.

    ``cpu-throughput``: one thread a task, many tasks. ``cpu-latency``: all cores of this machine, row by row.
    ``cuda``, ``tensorrt``: large batches on one GPU, fed by four threads. ``openvino``: Intel's provider on the CPU.

    :raises BadInputError: for an unknown name, field or impossible value
    """
    profiles = {
        "cpu-throughput": ExecutionProfile(),
        "cpu-latency": ExecutionProfile(threads=available_cores(), batch_size=1),
        "cuda": ExecutionProfile("CUDAExecutionProvider", batch_size=64, token_budget=65_536, decode_threads=4),
        "tensorrt": ExecutionProfile("TensorrtExecutionProvider", batch_size=64, token_budget=65_536, decode_threads=4),
        "openvino": ExecutionProfile("OpenVINOExecutionProvider", provider_options=(("device_type", "CPU"),)),
    }
    if name not in profiles:
        raise BadInputError(f"profile: {name!r} is not one of {', '.join(profiles)}")
    return profiles[name].overridden(fields)


def profile_of(given: str | Mapping[str, Any]) -> ExecutionProfile:
    """A profile from its name, or from ``{"name": …}`` with fields of one's own beside it.

    :raises BadInputError: for an unknown name, field or impossible value
    """
    fields = {"name": given} if isinstance(given, str) else dict(given)
    return profile_named(str(fields.pop("name", "cpu-throughput")), **fields)
