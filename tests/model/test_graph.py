from __future__ import annotations

from pathlib import Path

import pytest

from airflow_onnx_provider.exceptions import BadInputError, ValidationError
from airflow_onnx_provider.model.graph import describe, require_sound
from airflow_onnx_provider.runtime.manifest import TensorSpec
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
        ("(float[batch, 3] scores)", "(int64[batch, 3] scores)", r"the ONNX checker refuses it: .*elem type"),
        ("(float[batch, 3] scores)", "(float[batch, 7] scores)", r"the ONNX checker refuses it: .*(3|7)"),
        ("<to = 1> (image)", "<to = 1> (picture)", r"the ONNX checker refuses it: .*picture"),
        ("float[3, 3] weights = {0.02, 0, 0, ", "float[2, 3] weights = {", r"the ONNX checker refuses it: "),
    ],
    ids=["opset", "ir", "operator", "later operator", "output type", "output shape", "missing input", "weight shape"],
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


@pytest.mark.parametrize("location", ["../outside.bin", "/etc/hostname"])
def test_weights_outside_the_models_folder_are_refused(path: Path, location: str) -> None:
    import onnx

    model = onnx.parser.parse_model(CLASSIFIER)
    weights = model.graph.initializer[0]
    (path.parent.parent / "outside.bin").write_bytes(bytes(36))
    weights.ClearField("float_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=location)
    path.write_bytes(model.SerializeToString())

    with pytest.raises(ValidationError, match="the ONNX checker refuses it"):
        require_sound(path)


def test_a_missing_file(path: Path) -> None:
    for look in (require_sound, describe):
        with pytest.raises(BadInputError, match=r"model\.onnx does not exist"):
            look(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "its graph is empty"), (b"not a model, but a text\n" * 9, "is not an ONNX model"), (b"PK\3\4zip", "is not")],
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
