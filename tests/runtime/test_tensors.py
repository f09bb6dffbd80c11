# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from airflow_onnx_provider.exceptions import BadInputError, RowError
from airflow_onnx_provider.runtime.manifest import TensorSpec
from airflow_onnx_provider.runtime.tensors import NUMPY_TYPES, output_type, read_tensor, require_feedable, to_arrow
from tests.spark.session import local_spark

EXAMPLES: dict[str, list[Any]] = {
    "float16": [0.5, -65504, np.nan, np.inf],
    "float": [0.1, -3e38, np.nan, -np.inf],
    "double": [0.1, -1e308, np.nan, np.inf],
    "int8": [-128, 0, 1, 127],
    "int16": [-(2**15), 0, 1, 2**15 - 1],
    "int32": [-(2**31), 0, 1, 2**31 - 1],
    "int64": [-(2**63), 0, 1, 2**63 - 1],
    "uint8": [0, 1, 2, 255],
    "uint16": [0, 1, 2, 2**16 - 1],
    "uint32": [0, 1, 2, 2**32 - 1],
    "uint64": [0, 1, 2, 2**64 - 1],
    "bool": [True, False, False, True],
    "string": ["", "a", "ä 😀", "two words"],
}
SMALL = {"int8": pa.int8(), "int16": pa.int16(), "int32": pa.int32(), "int64": pa.int64()}
NUMERIC = sorted(set(NUMPY_TYPES) - {"bool", "string"})
ROW_SHAPES = st.lists(st.integers(1, 4), max_size=3).map(tuple)


def spec_of(kind: str, *row: int | str) -> TensorSpec:
    return TensorSpec("x", kind, ("batch", *row))


def example(kind: str, *row: int) -> NDArray[Any]:
    """Four rows with the type's extreme values."""
    values = np.array(EXAMPLES[kind], NUMPY_TYPES[kind])
    return np.stack([np.roll(values, turn) for turn in range(math.prod(row))], axis=1).reshape(4, *row)


def read(spec: TensorSpec, column: pa.Array) -> tuple[NDArray[Any], dict[int, RowError]]:
    """Read the one column ``c``, which must be one that is not refused."""
    require_feedable(spec, {"c": column.type})
    values, faults = read_tensor(spec, {"c": column})
    assert (values.dtype, values.shape) == (NUMPY_TYPES[spec.type], (len(column), *spec.shape[1:]))
    return values, faults


def reasons(faults: dict[int, RowError]) -> dict[int, str]:
    assert all(fault.stage == "read" for fault in faults.values())
    return {row: fault.reason for row, fault in faults.items()}


def refusal(spec: TensorSpec, *kinds: pa.DataType) -> str:
    with pytest.raises(BadInputError) as caught:
        require_feedable(spec, {f"c{index}": kind for index, kind in enumerate(kinds)})
    return str(caught.value)


def from_outputs(column: pa.Array, kind: str) -> pa.Array:
    """uint64 leaves as decimals, which feed nothing: cast them, as one would in Spark."""
    if kind != "uint64":
        return column
    wanted = pa.uint64()
    for _ in range(str(column.type).count("list")):
        wanted = pa.list_(wanted)
    return column.cast(wanted)


# Outputs


@pytest.mark.parametrize(
    ("kind", "leaf"),
    [
        *[("float16", pa.float32()), ("float", pa.float32()), ("double", pa.float64()), ("bool", pa.bool_())],
        *[("uint8", pa.int16()), ("uint16", pa.int32()), ("uint32", pa.int64()), ("uint64", pa.decimal128(20, 0))],
        *[*SMALL.items(), ("string", pa.string())],
    ],
)
def test_an_outputs_column_has_one_list_an_axis(kind: str, leaf: pa.DataType) -> None:
    assert output_type(spec_of(kind)) == leaf
    assert output_type(spec_of(kind, 1)) == pa.list_(leaf)
    assert output_type(spec_of(kind, "words", 3)) == pa.list_(pa.list_(leaf))


@pytest.mark.parametrize("kind", NUMPY_TYPES)
@pytest.mark.parametrize("row", [(), (1,), (3,), (2, 3), (2, 0)], ids=str)
def test_an_outputs_values_all_arrive(kind: str, row: tuple[int, ...]) -> None:
    values = np.broadcast_to(np.array(EXAMPLES[kind], NUMPY_TYPES[kind]).reshape(4, *[1 for _ in row]), (4, *row))
    column = to_arrow(values, spec_of(kind, *row))

    column.validate(full=True)
    assert column.type == output_type(spec_of(kind, *row))
    assert column.null_count == 0
    np.testing.assert_equal(column.to_pylist(), values.tolist())


def test_an_output_without_rows() -> None:
    for kind, dtype in NUMPY_TYPES.items():
        column = to_arrow(np.zeros((0, 3), dtype), spec_of(kind, 3))
        assert (len(column), column.type) == (0, output_type(spec_of(kind, 3)))


@pytest.mark.parametrize("kind", ["float", "double", "int8", "int16", "int32", "int64"])
def test_an_output_that_need_not_be_widened_is_not_copied(kind: str) -> None:
    values = example(kind, 2, 3)
    column = to_arrow(values, spec_of(kind, 2, 3))

    assert np.shares_memory(column.flatten().flatten().to_numpy(), values)


def test_an_output_that_is_a_slice_or_transposed() -> None:
    values = np.arange(24, dtype=np.float32).reshape(4, 6)

    assert to_arrow(values[1:3, ::2], spec_of("float", 3)).to_pylist() == values[1:3, ::2].tolist()
    assert to_arrow(values.T, spec_of("float", 4)).to_pylist() == values.T.tolist()


def test_an_output_with_other_axes_than_declared_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"the output x: float \[batch, 3\] came with the shape \[2, 1, 3\]"):
        to_arrow(np.zeros((2, 1, 3), np.float32), spec_of("float", 3))


@pytest.mark.parametrize(
    "kind", ["bfloat16", "float8e4m3fn", "complex64", "uint4", "int4", "float4e2m1", "undefined", "sequence"]
)
def test_types_that_spark_has_none_for_are_refused(kind: str) -> None:
    with pytest.raises(BadInputError, match=rf"the output x: {kind} \[batch, 2\] .* Spark has no type for {kind}"):
        output_type(spec_of(kind, 2))
    assert f"the input x: {kind} [batch, 2] cannot be a column" in refusal(spec_of(kind, 2), pa.list_(pa.float32()))


def test_a_tensor_without_a_batch_axis_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"the output x: float \[\] .* no batch axis"):
        output_type(TensorSpec("x", "float", ()))
    assert "no batch axis" in refusal(TensorSpec("x", "float", ()), pa.float32())


# Inputs: which column fits


ACCEPTED = {
    "float16": {"float", "double", "halffloat", "int8"},
    "float": {"float", "double", "halffloat", "int8", "int16"},
    "double": {"float", "double", "halffloat", "int8", "int16", "int32"},
    "bool": {"bool"},
    "string": {"string", "large_string"},
}
WHOLE = {"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"}
FLAT = [
    *[pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()],
    *[pa.float16(), pa.float32(), pa.float64(), pa.string(), pa.large_string(), pa.decimal128(10, 2), pa.date32()],
    *[pa.timestamp("us", "UTC"), pa.timestamp("us"), pa.null(), pa.struct([("a", pa.int32())])],
    pa.map_(pa.string(), pa.float32()),
]


def feeds(spec: TensorSpec, *kinds: pa.DataType) -> bool:
    try:
        require_feedable(spec, {f"c{index}": kind for index, kind in enumerate(kinds)})
    except BadInputError:
        return False
    return True


@pytest.mark.parametrize("kind", NUMPY_TYPES)
def test_which_columns_feed_which_input(kind: str) -> None:
    expected = ACCEPTED.get(kind, WHOLE)

    assert {str(leaf) for leaf in FLAT if feeds(spec_of(kind), leaf)} == expected
    assert {str(leaf) for leaf in FLAT if feeds(spec_of(kind, 2), pa.list_(leaf))} == expected
    assert {str(leaf) for leaf in FLAT if feeds(spec_of(kind, 2), leaf, leaf)} == expected
    assert feeds(spec_of(kind, 2), pa.binary()) == feeds(spec_of(kind, 1), pa.large_binary()) == (kind in NUMERIC)


@pytest.mark.parametrize(
    ("row", "depths"),
    [((), {0, 1}), ((1,), {0, 1}), ((1, 1), {0, 1, 2}), ((2,), {1}), ((2, 3), {1, 2}), ((1, 2, 3), {1, 3})],
)
def test_lists_are_flat_or_nested_like_the_axes(row: tuple[int, ...], depths: set[int]) -> None:
    kinds = [pa.float32()]
    for wrap in (pa.list_, pa.large_list, lambda kind: pa.list_(kind, 3), pa.list_):
        kinds.append(wrap(kinds[-1]))

    assert {depth for depth, kind in enumerate(kinds) if feeds(spec_of("float", *row), kind)} == depths


def test_features_are_single_values_one_for_each_column() -> None:
    assert feeds(spec_of("float", 3), pa.float32(), pa.int8(), pa.float64())
    assert feeds(spec_of("string", 2), pa.string(), pa.large_string())
    assert not feeds(spec_of("float", 2), pa.float32(), pa.float32(), pa.float32())
    assert not feeds(spec_of("float", 1, 2), pa.float32(), pa.float32())
    assert not feeds(spec_of("float", 2), pa.float32(), pa.list_(pa.float32()))
    assert not feeds(spec_of("float", 2), pa.float32(), pa.binary())


@pytest.mark.parametrize(
    ("spec", "kinds", "words"),
    [
        (
            spec_of("float", 3),
            [pa.list_(pa.int64())],
            "the column c0 is array<bigint>, but the input x: float [batch, 3] takes float, double, tinyint, smallint. "
            "Make it one of these in Spark, for example CAST(c0 AS array<float>).",
        ),
        (spec_of("uint64"), [pa.decimal128(20, 0)], "is decimal(20,0), but .*for example CAST(c0 AS bigint)."),
        (spec_of("uint8", 1), [pa.float64()], "takes tinyint, smallint, int, bigint, boolean.*CAST(c0 AS smallint)."),
        (spec_of("string"), [pa.int8()], "takes string. Make it .*CAST(c0 AS string)."),
        (
            spec_of("float", 3),
            [pa.float64()],
            "the column c0 is double, but the input x: float [batch, 3] takes 3 values a row. Give one array of them, "
            "or 3 columns.",
        ),
        (
            spec_of("float", 2, 2, 3),
            [pa.list_(pa.list_(pa.float32()))],
            "the column c0 is array<array<float>>, but .* takes 12 values a row. Give one array of them, or arrays "
            "nested as its axes.",
        ),
        (
            spec_of("float", 2),
            [pa.float32(), pa.list_(pa.float32())],
            "the column c1 is array<float>, but the input x: float [batch, 2] takes one value from each of several "
            "columns. Give single values, or one array alone.",
        ),
        (
            spec_of("float", 3),
            [pa.float32()] * 2,
            "2 columns are a tensor [batch, 2], but the input is x: float [batch, 3]. Give one column a feature, or "
            "one array column.",
        ),
        (
            spec_of("float", "height", 3),
            [pa.binary()],
            "x: float [batch, height, 3] .*its axis height has no fixed size",
        ),
    ],
)
def test_a_refusal_says_what_was_found_and_a_way_out(spec: TensorSpec, kinds: list[Any], words: str) -> None:
    message = refusal(spec, *kinds)

    start = 0
    for part in words.split(".*"):
        assert part in message[start:]
        start = message.index(part, start) + len(part)


def test_a_columns_odd_name_is_quoted_in_the_cast() -> None:
    with pytest.raises(BadInputError, match=r"CAST\(`unit price` AS float\)"):
        require_feedable(spec_of("float"), {"unit price": pa.int64()})


@pytest.mark.parametrize(
    "kind", [kind for kind in FLAT if "uint" not in str(kind) and "half" not in str(kind)], ids=str
)
def test_a_columns_type_is_named_as_spark_names_it(kind: pa.DataType) -> None:
    from pyspark.sql.pandas.types import from_arrow_type

    for nested in (kind, pa.large_list(pa.list_(kind))):
        name = from_arrow_type(nested, prefer_timestamp_ntz=True).simpleString()  # Spark 4.2's default
        assert f"the column c0 is {name}, but" in refusal(spec_of("float", 2, 2, 2, 2), nested)


# Inputs: values


@pytest.mark.parametrize("kind", NUMPY_TYPES)
def test_extreme_values_survive_out_and_in(kind: str) -> None:
    for row in [(), (1,), (3,), (2, 3)]:
        values = example(kind, *row)
        back, faults = read(spec_of(kind, *row), from_outputs(to_arrow(values, spec_of(kind, *row)), kind))

        assert not faults
        np.testing.assert_array_equal(back, values)


@given(st.data(), st.sampled_from(sorted(NUMPY_TYPES)), st.integers(0, 5), ROW_SHAPES)
def test_any_values_survive_out_and_in(data: st.DataObject, kind: str, rows: int, row: tuple[int, ...]) -> None:
    dtype, shape = NUMPY_TYPES[kind], (rows, *row)
    elements = st.text(max_size=3) if kind == "string" else arrays.from_dtype(dtype)
    values = data.draw(arrays.arrays(dtype, shape, elements=elements))
    column = from_outputs(to_arrow(values, spec_of(kind, *row)), kind)
    start = data.draw(st.integers(0, rows))
    stop = data.draw(st.integers(start, rows))

    back, faults = read(spec_of(kind, *row), column[start:stop])

    assert not faults
    np.testing.assert_array_equal(back, values[start:stop])


@given(st.data(), st.sampled_from(["float", "int64", "uint8", "bool", "string"]), ROW_SHAPES)
def test_exactly_the_bad_rows_are_faults_and_the_others_arrive(
    data: st.DataObject, kind: str, row: tuple[int, ...]
) -> None:
    blank: Any = "" if kind == "string" else 0
    depth = data.draw(st.sampled_from(sorted({1, len(row)} - {0} | ({0} if math.prod(row) == 1 else set()))))
    sizes = list(row) if depth == len(row) else [math.prod(row)] * depth
    cell: st.SearchStrategy[Any] = st.sampled_from([*EXAMPLES[kind], *([-1, 256] if kind == "uint8" else [])])
    any_cell, arrow = cell | st.none(), output_type(spec_of(kind))
    for size in reversed(sizes):
        any_cell = st.none() | st.lists(cell, max_size=size + 1) | st.lists(any_cell, min_size=size, max_size=size)
        cell = st.lists(cell, min_size=size, max_size=size)
        arrow = data.draw(st.sampled_from([pa.list_, pa.large_list]))(arrow)
    rows = data.draw(st.lists(cell | any_cell, max_size=6))
    start = data.draw(st.integers(0, len(rows)))

    values, faults = read(spec_of(kind, *row), pa.array(rows, arrow)[start:])

    def fault(cell: Any, sizes: list[int]) -> set[str]:
        """All that is wrong with a cell."""
        if cell is None:
            return {"null_input"}
        if not sizes:
            return {"out_of_range"} if kind == "uint8" and not 0 <= cell <= 255 else set()
        inner = {reason for each in cell for reason in fault(each, sizes[1:])}
        return inner | ({"wrong_shape"} if len(cell) != sizes[0] else set())

    for index, cell in enumerate(rows[start:]):
        if wrong := fault(cell, sizes):
            assert reasons(faults)[index] in wrong
            assert np.all(values[index] == blank)
        else:
            assert index not in faults
            np.testing.assert_array_equal(values[index], np.array(cell, NUMPY_TYPES[kind]).reshape(row))


@given(st.lists(st.binary(max_size=7) | st.binary(min_size=6, max_size=6) | st.none(), max_size=6), st.integers(0, 3))
@pytest.mark.parametrize("kind", ["float16", "int16", "uint16"])
def test_binary_is_the_tensors_bytes(kind: str, rows: list[bytes | None], start: int) -> None:
    for arrow in (pa.binary(), pa.large_binary()):
        values, faults = read(spec_of(kind, 3), pa.array(rows, arrow)[start:])

        for index, cell in enumerate(rows[start:]):
            if cell is None or len(cell) != 6:
                assert reasons(faults)[index] == ("null_input" if cell is None else "wrong_shape")
                assert not values[index].any()
            else:
                assert index not in faults
                expected = np.frombuffer(cell, NUMPY_TYPES[kind].newbyteorder("<"))
                np.testing.assert_array_equal(values[index], expected)


@pytest.mark.parametrize("kind", NUMERIC)
def test_the_bytes_of_every_numeric_type(kind: str) -> None:
    values = example(kind, 2, 3)
    back, faults = read(spec_of(kind, 2, 3), pa.array([row.tobytes() for row in values], pa.binary()))

    assert not faults
    np.testing.assert_array_equal(back, values)


def test_bytes_at_an_odd_address_are_moved_to_an_even_one() -> None:
    even = pa.array([b"?", np.float64(2.5).tobytes()], pa.binary())[1:]
    values, _ = read(spec_of("double"), even)

    assert values.tolist() == [2.5]
    assert values.flags.aligned


@pytest.mark.parametrize("kind", ["float", "double", "int8", "int64"])
def test_a_column_of_the_exact_type_is_not_copied(kind: str) -> None:
    for row in [(), (3,), (2, 3)]:
        values = example(kind, *row)
        column = to_arrow(values, spec_of(kind, *row))

        assert np.shares_memory(read(spec_of(kind, *row), column)[0], values)
        assert np.shares_memory(read(spec_of(kind, *row), column[1:3])[0], values)
        np.testing.assert_array_equal(read(spec_of(kind, *row), column[1:3])[0], values[1:3])


def test_bytes_and_fixed_size_lists_are_not_copied() -> None:
    data = np.arange(24, dtype=np.uint8)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(data), 6)
    offsets = pa.py_buffer(np.arange(0, 25, 6, dtype=np.int32))
    binary = pa.Array.from_buffers(pa.binary(), 4, [None, offsets, pa.py_buffer(data)])
    for column in (lists[1:], binary[1:]):
        values, _ = read(spec_of("uint8", 2, 3), column)

        assert np.shares_memory(values, data)
        assert values.tolist() == data.reshape(4, 2, 3)[1:].tolist()


def test_a_fixed_size_list_has_faults_like_any_other() -> None:
    column = pa.array([[1, 2], None, [3, None], [5, 6]], pa.list_(pa.int8(), 2))

    values, faults = read(spec_of("int8", 2), column)
    assert (values.tolist(), reasons(faults)) == ([[1, 2], [0, 0], [0, 0], [5, 6]], {1: "null_input", 2: "null_input"})
    assert set(reasons(read(spec_of("int8", 3), column[2:])[1]).values()) == {"wrong_shape"}


@pytest.mark.parametrize("kind", [kind for kind in NUMERIC if "int" in kind])
def test_a_number_that_the_tensor_cannot_hold_is_a_fault(kind: str) -> None:
    bounds = np.iinfo(NUMPY_TYPES[kind])
    for source in FLAT[1:9]:
        has = np.iinfo(source.to_pandas_dtype())
        inside = sorted({max(bounds.min, has.min), 0, 1, min(bounds.max, has.max)})
        beyond = [value for value in (has.min, bounds.min - 1, bounds.max + 1, has.max) if has.min <= value <= has.max]
        beyond = [value for value in beyond if not bounds.min <= value <= bounds.max]

        values, faults = read(spec_of(kind), pa.array([*inside, *beyond], source))

        assert values.tolist() == [*inside, *([0] * len(beyond))]
        assert reasons(faults) == dict.fromkeys(range(len(inside), len(inside) + len(beyond)), "out_of_range")


def test_booleans_are_zero_and_one() -> None:
    assert read(spec_of("uint8", 2), pa.array([[True, False]]))[0].tolist() == [[1, 0]]


def test_whole_numbers_are_exact_as_floating_point() -> None:
    for kind, source, bound in [
        ("float16", pa.int8(), 127),
        ("float", pa.int16(), 2**15 - 1),
        ("double", pa.int32(), 2**31 - 1),
    ]:
        assert read(spec_of(kind), pa.array([-bound - 1, bound], source))[0].tolist() == [-bound - 1, bound]


def test_narrowed_floating_point_is_rounded_and_never_becomes_infinite() -> None:
    column = pa.array([0.1, 1e300, -np.inf, np.nan, 70_000.0])

    values, faults = read(spec_of("float"), column)
    np.testing.assert_array_equal(values, np.array([0.1, 0, -np.inf, np.nan, 70_000], np.float32))
    assert reasons(faults) == {1: "out_of_range"}
    assert reasons(read(spec_of("float16"), column)[1]) == {1: "out_of_range", 4: "out_of_range"}


def test_not_a_number_is_a_value_and_null_is_none() -> None:
    values, faults = read(spec_of("float", 1), pa.array([[np.nan], [None]], pa.list_(pa.float32())))

    assert (np.isnan(values).tolist(), list(faults)) == ([[True], [False]], [1])


@pytest.mark.parametrize(
    ("spec", "column", "message"),
    [
        (spec_of("float"), pa.array([None], pa.float32()), "null in the column c, for the input x: float [batch]"),
        (spec_of("float", 2), pa.array([None], pa.list_(pa.float32())), "null in the column c, for the input"),
        (
            spec_of("float", 2),
            pa.array([[1, None]], pa.list_(pa.float32())),
            "a null inside the column c, for the input",
        ),
        (
            spec_of("float", 2),
            pa.array([[1, 2, 3]], pa.list_(pa.float32())),
            "3 values where 2 are expected in the column c, for the input x: float [batch, 2]",
        ),
        (spec_of("float", 2), pa.array([b"12345"]), "5 bytes where 8 are expected in the column c"),
        (spec_of("uint8", 2), pa.array([[1, 300]]), "300 is out of range in the column c, for the input x: uint8"),
    ],
)
def test_a_fault_says_what_was_seen_and_where(spec: TensorSpec, column: pa.Array, message: str) -> None:
    _, faults = read(spec, column)

    assert str(faults[0]).startswith(message)


# Inputs: features


def test_columns_are_stacked_in_their_order() -> None:
    columns = {
        "b": pa.array([1.5, 2.5, None, 4.5], pa.float64()),
        "a": pa.array([1, None, None, 4], pa.int8()),
        "c": pa.array([1e300, 2, 3, 4]),
    }
    require_feedable(spec_of("float", 3), {name: column.type for name, column in columns.items()})

    values, faults = read_tensor(spec_of("float", 3), columns)

    assert values.dtype == np.float32
    assert values.tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 0], [4.5, 4, 4]]
    assert {row: str(fault).split(", ")[0] for row, fault in faults.items()} == {
        0: "1e+300 is out of range in the column c",
        1: "null in the column a",
        2: "null in the column b",
    }
    assert all("x: float [batch, 3]" in str(fault) for fault in faults.values())


@pytest.mark.parametrize("kind", [kind for kind in NUMPY_TYPES if kind != "uint64"])
def test_columns_of_every_type(kind: str) -> None:
    values = example(kind, 3)
    columns = {str(index): to_arrow(values[:, index], spec_of(kind))[1:] for index in range(3)}

    back, faults = read_tensor(spec_of(kind, 3), columns)

    assert not faults
    np.testing.assert_array_equal(back, values[1:])


@given(st.integers(2, 5), st.integers(0, 6), st.data())
def test_stacked_columns_equal_the_same_values_as_lists(features: int, rows: int, data: st.DataObject) -> None:
    cells = st.sampled_from([0, 1, 255, 256, -1, None])
    table = data.draw(st.lists(st.lists(cells, min_size=features, max_size=features), min_size=rows, max_size=rows))
    columns = {f"c{index}": pa.array([row[index] for row in table], pa.int32()) for index in range(features)}

    values, faults = read_tensor(spec_of("uint8", features), columns)
    listed, wrong = read(spec_of("uint8", features), pa.array(table, pa.list_(pa.int32())))

    assert values.tolist() == listed.tolist()
    assert set(faults) == set(wrong)


# What the tensors are for


@pytest.mark.parametrize("kind", NUMPY_TYPES)
def test_onnx_runtime_takes_and_gives_every_type(kind: str) -> None:
    import onnx.parser
    import onnxruntime

    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 18]> '
        f"same ({kind}[batch, 3] x) => ({kind}[batch, 3] y) {{ y = Identity(x) }}"
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    spec, values = spec_of(kind, 3), example(kind, 3)
    columns = {"lists": from_outputs(to_arrow(values, spec), kind)}
    if kind in NUMERIC:
        columns["binary"] = pa.array([row.tobytes() for row in values], pa.binary())
    for column in columns.values():
        (answer,) = session.run(None, {"x": read(spec, column)[0]})

        np.testing.assert_array_equal(answer, values)
        np.testing.assert_equal(to_arrow(answer, spec).to_pylist(), values.tolist())

    damaged = pa.array([None, *columns["lists"][1:].to_pylist()], columns["lists"].type)
    fed, faults = read(spec, damaged)
    (answer,) = session.run(None, {"x": fed})
    assert list(faults) == [0]
    np.testing.assert_array_equal(answer[1:], values[1:])


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with local_spark(tmp_path_factory.mktemp("spark"), 1) as session:
        yield session


@pytest.mark.spark
def test_spark_takes_every_output(spark: Any) -> None:
    from pyspark.sql.pandas.types import from_arrow_schema

    specs = [spec_of(kind, *row) for kind in NUMPY_TYPES for row in [(), (1,), (2, 3)]]
    names = [f"{spec.type}_{len(spec.shape)}" for spec in specs]
    outputs = [example(spec.type, *spec.shape[1:]) for spec in specs]
    schema = pa.schema([(name, output_type(spec)) for name, spec in zip(names, specs, strict=True)])

    def answer(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for _ in batches:
            columns = [to_arrow(values, spec) for values, spec in zip(outputs, specs, strict=True)]
            yield pa.RecordBatch.from_arrays(columns, names)

    frame = spark.range(1, numPartitions=1).mapInArrow(answer, from_arrow_schema(schema)).cache()

    assert [kind for name, kind in frame.dtypes if name.endswith("_1")] == [
        *["float", "float", "double", "tinyint", "smallint", "int", "bigint"],
        *["smallint", "int", "bigint", "decimal(20,0)", "boolean", "string"],
    ]
    collected = frame.collect()
    for name, values in zip(names, outputs, strict=True):
        np.testing.assert_equal(undecimal([row[name] for row in collected]), values.tolist())


def undecimal(cell: Any) -> Any:
    """Spark's decimals as whole numbers."""
    if isinstance(cell, list):
        return [undecimal(each) for each in cell]
    return int(cell) if isinstance(cell, Decimal) else cell


@pytest.mark.spark
@pytest.mark.parametrize("large", [False, True], ids=["plain", "large"])
def test_spark_feeds_every_input(spark: Any, large: bool) -> None:
    columns = {
        "float": "float(id)",
        "float16": "array(double(id), double(0.5))",
        "double": "double(id)",
        "int8": "tinyint(id)",
        "int16": "array(smallint(id))",
        "int32": "int(id)",
        "int64": "id",
        "uint8": "array(array(1, 2, 3), array(id, 255, if(id = 1, 256, 0)))",
        "uint16": "unhex('0100feff')",
        "uint32": "id",
        "uint64": "array(id, null)",
        "bool": "id = 1",
        "string": "array('ä', string(id))",
    }
    rows = {"float16": (2,), "int16": (1,), "uint8": (2, 3), "uint16": (2,), "uint64": (2,), "string": (2,)}
    specs = {kind: spec_of(kind, *rows.get(kind, ())) for kind in columns}

    def check(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            found = []
            for kind, spec in specs.items():
                require_feedable(spec, {kind: batch.schema.field(kind).type})
                values, faults = read_tensor(spec, {kind: batch.column(kind)})
                found.append([kind, str(values.tolist()), str({row: fault.reason for row, fault in faults.items()})])
            yield pa.RecordBatch.from_arrays([pa.array(column) for column in zip(*found, strict=True)], ["a", "b", "c"])

    spark.conf.set("spark.sql.execution.arrow.useLargeVarTypes", str(large).lower())
    frame = spark.range(2, numPartitions=1).selectExpr(*[f"{value} AS {name}" for name, value in columns.items()])
    found = {row.a: (row.b, row.c) for row in frame.mapInArrow(check, "a string, b string, c string").collect()}

    assert found == {
        "float": ("[0.0, 1.0]", "{}"),
        "float16": ("[[0.0, 0.5], [1.0, 0.5]]", "{}"),
        "double": ("[0.0, 1.0]", "{}"),
        "int8": ("[0, 1]", "{}"),
        "int16": ("[[0], [1]]", "{}"),
        "int32": ("[0, 1]", "{}"),
        "int64": ("[0, 1]", "{}"),
        "uint8": ("[[[1, 2, 3], [0, 255, 0]], [[0, 0, 0], [0, 0, 0]]]", "{1: 'out_of_range'}"),
        "uint16": ("[[1, 65534], [1, 65534]]", "{}"),
        "uint32": ("[0, 1]", "{}"),
        "uint64": ("[[0, 0], [0, 0]]", "{0: 'null_input', 1: 'null_input'}"),
        "bool": ("[False, True]", "{}"),
        "string": ("[['ä', '0'], ['ä', '1']]", "{}"),
    }
