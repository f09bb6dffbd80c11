# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random
from pathlib import Path

import pytest

from airflow_onnx_provider.exceptions import BadInputError, ValidationError
from airflow_onnx_provider.model.gates.limits import Limits
from airflow_onnx_provider.model.gates.operators import EQUATION
from airflow_onnx_provider.model.gates.weights import require_numbers
from airflow_onnx_provider.model.graph import describe, require_sound
from airflow_onnx_provider.runtime.manifest import TensorSpec
from tests.model.hostile import loop
from tests.runtime.tiny import CLASSIFIER, write_onnx


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


def test_a_sound_model_passes(path: Path) -> None:
    assert require_sound(write_onnx(path)) is None


def test_a_graph_seen_from_outside(path: Path) -> None:
    facts = describe(write_onnx(path))

    assert facts.inputs == (TensorSpec("image", "uint8", ("batch", 4, 4, 3)),)
    assert facts.outputs == (TensorSpec("scores", "float", ("batch", 3)),)
    assert (facts.opset, facts.domains) == (18, ("",))


def test_the_first_axis_is_the_batch_whatever_the_converter_calls_it(path: Path) -> None:
    text = CLASSIFIER.replace("uint8[batch,", "uint8[unk__12,").replace("float[batch,", "float[unk__13,")

    facts = describe(write_onnx(path, text))

    assert [spec.shape[0] for spec in (*facts.inputs, *facts.outputs)] == ["batch", "batch"]


def test_a_fixed_batch_stays_visible(path: Path) -> None:
    assert describe(write_onnx(path, CLASSIFIER.replace("[batch,", "[1,"))).inputs[0].shape == (1, 4, 4, 3)


def test_other_open_axes_keep_their_names(path: Path) -> None:
    text = CLASSIFIER.replace("uint8[batch, 4, 4, 3]", "uint8[batch, rows, ?, 3]")

    assert describe(write_onnx(path, text)).inputs[0].shape == ("batch", "rows", "?", 3)


def test_weights_that_are_listed_as_inputs_are_no_inputs(path: Path) -> None:
    text = CLASSIFIER.replace("3] image)", "3] image, float[3, 3] weights)")

    assert [spec.name for spec in describe(write_onnx(path, text)).inputs] == ["image"]


@pytest.mark.parametrize("domain", ["ai.onnx.ml", "com.microsoft"])
def test_operators_that_onnxruntime_brings_itself_are_allowed(path: Path, domain: str) -> None:
    node = {"ai.onnx.ml": "ai.onnx.ml.Scaler <offset = [0.0], scale = [1.0]> (logits)"}.get(
        domain, "com.microsoft.Gelu (logits)"
    )
    text = CLASSIFIER.replace('"" : 18', f'"" : 18, "{domain}" : 1').replace(
        "Softmax <axis = -1> (logits)", f"Identity (scaled)\n  scaled = {node}"
    )
    lines = text.splitlines()
    made = next(index for index, line in enumerate(lines) if "scaled = " in line)
    lines[made - 1], lines[made] = lines[made], lines[made - 1]  # a node's input comes before it

    assert require_sound(write_onnx(path, "\n".join(lines))) is None
    assert describe(path).domains == ("", domain)


def test_the_default_domain_may_be_called_by_its_long_name(path: Path) -> None:
    import onnx

    model = onnx.parser.parse_model(CLASSIFIER)
    for node in model.graph.node:
        node.domain = "ai.onnx"
    path.write_bytes(model.SerializeToString())

    assert describe(path).domains == ("",)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"" : 18]', '"" : 27]', r"opset 27, IR version 10; ONNX Runtime takes up to opset 26.*Convert with an older"),
        ("ir_version: 10", "ir_version: 14", r"opset 18, IR version 14; .* and IR version 13"),
        ("Softmax <axis = -1>", "SparseFillEmptyRows", r"ONNX opset 18 has no operator SparseFillEmptyRows"),
        ("Softmax <axis = -1>", "Gelu", r"ONNX opset 18 has no operator Gelu"),  # it came with opset 20
        (
            "<to = 1> (image)",
            "<to = 1, axis = 3> (image)",
            r"the ONNX checker refuses it: .*Unrecognized attribute: axis",
        ),
        ("Softmax <axis = -1>", "Upsample <scales = [1.0]>", r"the ONNX checker refuses it: .*Upsample.*deprecated"),
    ],
    ids=["opset", "ir", "operator", "later operator", "attribute", "operator of before"],
)
def test_an_unsound_model_is_refused_with_what_is_wrong(path: Path, old: str, new: str, message: str) -> None:
    assert old in CLASSIFIER

    with pytest.raises(ValidationError, match=rf"(?s)model\.onnx: .*{message}"):
        require_sound(write_onnx(path, CLASSIFIER.replace(old, new)))


FOREIGN = CLASSIFIER.replace('"" : 18', '"" : 18, "acme" : 1').replace("Softmax <axis = -1>", "acme.Sharpen")


def test_an_operator_that_needs_foreign_code_is_refused(path: Path) -> None:
    with pytest.raises(ValidationError, match=r"the domains \['acme'\] need code that ONNX Runtime does not bring"):
        require_sound(write_onnx(path, FOREIGN))


def test_a_foreign_operator_can_be_allowed_by_name(path: Path) -> None:
    assert require_sound(write_onnx(path, FOREIGN), allowed_domains=("", "acme")) is None


def test_a_foreign_operator_inside_a_branch_is_found_too(path: Path) -> None:
    text = FOREIGN.replace(
        "acme.Sharpen (logits)",
        """If (yes) <
    then_branch = a () => (float[batch, 3] t) { t = acme.Sharpen (logits) },
    else_branch = b () => (float[batch, 3] e) { e = Identity (logits) }>""",
    ).replace("axes = {1, 2}", "axes = {1, 2}, bool yes = {1}")

    with pytest.raises(ValidationError, match=r"\['acme'\]"):
        require_sound(write_onnx(path, text))


@pytest.mark.parametrize("folder", ["", "weights/of/layers/"], ids=["beside", "below"])
def test_weights_in_plain_files_of_their_own_are_fine(path: Path, folder: str) -> None:
    """Ten weights of different types, in two files, with offsets."""
    import onnx

    (path.parent / folder).mkdir(parents=True, exist_ok=True)
    model = onnx.parser.parse_model(CLASSIFIER)
    for tensor in model.graph.initializer:
        data = onnx.numpy_helper.to_array(tensor).tobytes()
        for field in ("float_data", "int64_data"):
            tensor.ClearField(field)
        (path.parent / folder / f"{tensor.name}.bin").write_bytes(bytes(64) + data)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in {"location": f"{folder}{tensor.name}.bin", "offset": 64, "length": len(data)}.items():
            tensor.external_data.add(key=key, value=str(value))
    path.write_bytes(model.SerializeToString())

    assert require_sound(path) is None
    require_numbers(path)


def test_limits_are_values(path: Path) -> None:
    write_onnx(path)

    for limits, message in [
        (Limits(opset=17), "up to opset 17"),
        (Limits(weight_bytes=51), r"its weights need 52 bytes of memory \(limit 51 bytes\)"),
        (Limits(tensor_bytes=191), r"the tensor 'pixels' of a Cast takes 192 bytes for one row: float \[1, 4, 4, 3\]"),
        (Limits().within(0), "its weights need"),
    ]:
        with pytest.raises(ValidationError, match=message):
            require_sound(path, limits=limits)
    assert require_sound(path, limits=Limits(weight_bytes=52, tensor_bytes=192)) is None


LOCAL = CLASSIFIER.replace('"" : 18', '"" : 18, "mine" : 1').replace("Softmax <axis = -1>", "mine.outer")


def test_a_call_of_a_local_function_needs_no_foreign_code(path: Path) -> None:
    """As PyTorch's exporter writes them: functions that call functions, and branches in between."""
    text = (
        LOCAL
        + """
<domain: "mine", opset_import: ["" : 18, "mine" : 1]>
outer (a) => (b) { c = mine.inner (a) b = mine.inner (c) }
<domain: "mine", opset_import: ["" : 18]>
inner (a) => (b) { b = Softmax <axis = -1> (a) }"""
    )

    assert require_sound(write_onnx(path, text)) is None
    assert describe(path).domains == ("",)


@pytest.mark.parametrize(
    "equation", ["ij,jk->ik", "...ij,...jk->...ik", "i j , j k", "bhid,bhjd->bhij", "ii->", "...->..."]
)
def test_what_an_einsum_may_say(equation: str) -> None:
    assert EQUATION.fullmatch(equation)


@pytest.mark.parametrize("equation", ["....", "i...j...->ij", "ij->i->j", "i.j", "ij,1"])
def test_what_an_einsum_may_not_say(equation: str) -> None:
    assert not EQUATION.fullmatch(equation)


def test_a_loop_that_someone_waits_for_is_no_endless_one(path: Path) -> None:
    """TensorFlow's loops have no bound either, but a condition that changes."""
    for text in (
        loop("Identity (before)", bound="ten").replace("bool yes", "int64 ten = {10}, bool yes"),
        loop("Less (i, ten)", bound="most").replace("bool yes", "int64 ten = {10}, bool yes"),
    ):
        assert require_sound(write_onnx(path, text)) is None


def test_a_missing_file(path: Path) -> None:
    for look in (require_sound, describe):
        with pytest.raises(BadInputError, match=r"model\.onnx does not exist"):
            look(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "the file is empty"), (b"not a model, but a text\n" * 9, "is not an ONNX model"), (b"PK\3\4zip", "is not")],
)
def test_a_file_that_is_no_model(path: Path, data: bytes, message: str) -> None:
    path.write_bytes(data)

    for look in (require_sound, describe):
        with pytest.raises(BadInputError, match=message):
            look(path)


def test_a_model_that_was_cut_off_anywhere_is_refused(path: Path) -> None:
    whole = write_onnx(path).read_bytes()

    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises((BadInputError, ValidationError), match=r"model\.onnx"):
            require_sound(path)


def test_a_model_that_was_damaged_at_random_is_refused_or_still_a_model(path: Path) -> None:
    """Whatever the bytes say, the door answers with an error of its own or opens."""
    whole = write_onnx(path, loop("Identity (before)", bound="most")).read_bytes()
    chance = random.Random(3)
    refused = 0

    for _ in range(300):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            place = chance.randrange(len(data))
            data[place : place + chance.choice([0, 1, 1, 4])] = chance.randbytes(chance.choice([0, 1, 1, 3]))
        path.write_bytes(data)
        try:
            require_sound(path)
        except (BadInputError, ValidationError):
            refused += 1
    assert refused > 250, "hardly any damage is harmless, such as another letter in a name"
