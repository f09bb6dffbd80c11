# SPDX-License-Identifier: Apache-2.0
"""Model cards: what they say of real, old, measured and hostile manifests, and that their pages are sound."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import ObjectStoragePath

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.model.card import (
    MARKDOWN_BYTES,
    card_html,
    card_markdown,
    lineage_of,
    main,
    write_card,
)
from airflow_onnx_provider.model.cards.measured import own_measurement
from airflow_onnx_provider.model.cards.verdict import verdict_of
from airflow_onnx_provider.model.store.aliases import Aliases
from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.runtime.manifest import Golden, ModelManifest, TensorSpec
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing
from tests.runtime.tiny import write_version

PARITY = {
    "rows": 32,
    "batch_1": {"max_difference": 1.8e-7, "max_relative_difference": 3e-6, "label_agreement": 1.0},
    "batch_32": {"max_difference": 2.4e-7, "max_relative_difference": 3e-6, "label_agreement": 1.0},
    "reference": {"skipped": "onnx.reference does not know MaxRoiPool"},
}
QUANTIZED = {
    "accepted": True,
    "reason": "static goes on. static: accuracy 0.958 → 0.958, 2.50 times the speed",
    "labelled_rows": 119,
    "measurements": [
        {"variant": "original", "size_bytes": 4_000_000, "accuracy": 0.958, "speedup": 1.0, "images_per_second": 400.0},
        {"variant": "static", "size_bytes": 1_080_000, "accuracy": 0.958, "speedup": 2.5, "images_per_second": 1000.0},
        {"variant": "dynamic", "size_bytes": 1_050_000, "accuracy": 0.95, "speedup": 0.25, "images_per_second": 100.0},
        {"variant": "float16", "size_bytes": 2_000_000, "accuracy": 0.7, "speedup": 1.4, "images_per_second": 560.0},
    ],
}
VALIDATED = ModelManifest(
    name="digits",
    files={"model.onnx": "1" * 64},
    inputs=(TensorSpec("image", "uint8", ("batch", 8, 8, 3)),),
    outputs=(TensorSpec("scores", "float", ("batch", 10)),),
    opset=18,
    domains=("",),
    preprocessing=ImagePreprocessing(8, 8),
    labels=tuple(f"digit {number}" for number in range(10)),
    origin={"source": "/data/digits.keras", "sha256": "a" * 64, "framework": "tensorflow", "converter": "tf2onnx"},
    recipe={"stage": "convert", "opset": 18},
    checks={"parity": PARITY, "quantize": {**QUANTIZED, "accepted": True}},
    golden=Golden("b" * 64, 1e-4),
)
QUANTIZED_VERSION = replace(
    VALIDATED,
    files={"model.onnx": "2" * 64},
    origin={**VALIDATED.origin, "parent": VALIDATED.version},
    recipe={"stage": "quantize", "variant": "static", "rows": 128, "limits": {"max_accuracy_drop": 0.01}},
    checks={"quantize": QUANTIZED},
    speed=(
        {"cpu": "AMD EPYC 9654", "threads": 1, "batch": 8, "decoder": "full", "arena": True,
         "images_per_second": 1000.0, "decode_included": False},
        {"cpu": "Xeon 8592+", "threads": 4, "batch": 32, "images_per_second": 5000.0},
    ),
)  # fmt: skip
OLD = replace(
    QUANTIZED_VERSION,
    recipe={"quantize": "static", "calibration_rows": 128, "limits": {"mode": "auto", "max_accuracy_drop": 0.01}},
    checks={"quantize": QUANTIZED["measurements"]},
    speed=({"cpu": "AMD EPYC", "threads": 1, "batch": 8, "images_per_second": 1000.0},),
)
"""As manifests were before stages kept their verdicts: a bare list, in the new version alone."""


class Page(HTMLParser):
    """What a browser would make of a page, as far as these tests ask."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, Mapping[str, str | None]]] = []
        self.tables: list[dict[str, Any]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    VOID = frozenset({"meta", "br"})

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append({"caption": "", "columns": 0, "row heads": 0, "rows": 0})
        if tag == "th":
            self.tables[-1]["columns" if dict(attrs)["scope"] == "col" else "row heads"] += 1
        if tag == "tr":
            self.tables[-1]["rows"] += 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if "caption" in self.open:
            self.tables[-1]["caption"] += data

    @property
    def words(self) -> str:
        """All text of the page, white space evened out."""
        return " ".join("".join(self.text).split())


def page(manifest: ModelManifest, lineage: Sequence[ModelManifest] = (), aliases: Sequence[str] | None = ()) -> Page:
    return Page(card_html(manifest, lineage, aliases))


def said(manifest: ModelManifest, *lineage: ModelManifest) -> str:
    return "\n".join(remark.text for remark in verdict_of(manifest, lineage).remarks)


def test_a_quantised_version_is_recommended_with_its_numbers() -> None:
    verdict = verdict_of(QUANTIZED_VERSION, (VALIDATED, QUANTIZED_VERSION), ["production"])
    words = said(QUANTIZED_VERSION, VALIDATED)

    assert (verdict.level, verdict.headline) == ("good", "Ready to use")
    assert verdict.remarks[0].text == (
        f"Static int8: 2.50× the speed of {VALIDATED.version} for 0.0 points of accuracy on 119 labelled rows, "
        "73 % smaller."
    )
    assert "VNNI: Intel from Cascade Lake on, AMD from Zen 4 on), such as AMD EPYC 9654 and Xeon 8592+" in words
    assert "Dynamic int8 was rejected: it has 0.25× the speed." in words
    assert "Half precision was rejected: it loses 25.8 points of accuracy (1.0 were allowed)." in words
    assert f"The version {VALIDATED.version}, from which it was made, agrees with the source on 32 rows" in words
    assert verdict.remarks[-1].text == "In use as production."


def test_a_version_that_was_never_validated_must_not_be_used() -> None:
    verdict = verdict_of(replace(VALIDATED, golden=None, checks={}), ())

    assert verdict.headline == "Do not use this version"
    assert verdict.remarks[0].text.startswith("Was never validated: it has no golden rows, so executors refuse it")


@pytest.mark.parametrize(
    ("change", "reservation"),
    [
        ({"checks": {}}, "Was never compared with its source"),
        ({"opset": 27}, "Opset 27: ONNX Runtime 1.31 takes 26 at most."),
        ({"domains": ("", "my.ops")}, "operators of my.ops, which only some runtimes have"),
        ({"origin": {"trusted": True}}, "may run code when it is opened, and was trusted by hand"),
        ({"inputs": (TensorSpec("x", "float", (4, 2)),)}, r"Takes exactly 4 rows at a time (input x)."),
        (
            {"checks": {"parity": {"rows": 100, "batch_1": {"max_difference": 0.3, "label_agreement": 0.97}}}},
            "on 100 rows at batch sizes 1: largest difference 0.3, the same label for 97.0 % of them.",
        ),
    ],
)
def test_reservations(change: dict[str, Any], reservation: str) -> None:
    verdict = verdict_of(replace(VALIDATED, **change), ())

    assert verdict.headline == "Usable, with reservations"
    assert reservation in verdict.remarks[0].text


def test_a_version_that_is_slower_than_what_it_was_made_from() -> None:
    rows = [QUANTIZED["measurements"][0], {**QUANTIZED["measurements"][1], "speedup": 0.8}]  # type: ignore[index]
    slow = replace(QUANTIZED_VERSION, checks={"quantize": {**QUANTIZED, "measurements": rows}})

    verdict = verdict_of(slow, (VALIDATED,))

    assert verdict.level == "care"
    assert "Static int8: 0.80× the speed" in verdict.remarks[0].text
    assert "VNNI" not in said(slow, VALIDATED)


def test_the_original_says_what_was_made_of_it_and_how_it_measured() -> None:
    assert "A better version was made from this one (quantize). static goes on." in said(VALIDATED)
    own = own_measurement(VALIDATED)
    assert own is not None
    assert (own.name, own.accuracy) == ("original", 0.958)

    rejected = {**QUANTIZED, "accepted": False, "reason": "the original goes on. dynamic: 0.25 times the speed"}
    assert "Quantize was tried and found nothing better. the original goes on." in said(
        replace(VALIDATED, checks={"parity": PARITY, "quantize": rejected})
    )


REWRITTEN = replace(
    VALIDATED,
    files={"model.onnx": "3" * 64},
    origin={**VALIDATED.origin, "parent": VALIDATED.version},
    recipe={
        "stage": "optimize",
        "steps": [
            {"step": {"simplify": {}}, "accepted": True, "reason": "5 nodes fewer"},
            {"step": {"graph": {"level": "all"}}, "accepted": False, "reason": "no faster"},
            {"step": {"top_k": {"k": 3}}, "accepted": True, "reason": "smaller answers"},
        ],
    },
    checks={
        "optimize": {
            "accepted": True,
            "reason": "the rewritten model goes on",
            "measurements": [
                {"variant": "original", "speedup": 1.0, "accepted": True},
                {"variant": "simplify", "speedup": 1.1, "accepted": True, "reason": "5 nodes fewer"},
                {"variant": "graph", "accepted": False, "reason": "no faster"},
                {"variant": "top_k", "speedup": 1.2, "accepted": True, "reason": "smaller answers"},
            ],
        }
    },
)
"""Steps that build on one another, not variants that compete."""


def test_steps_that_build_on_one_another() -> None:
    words = said(REWRITTEN, VALIDATED)
    shown = page(REWRITTEN, (VALIDATED,)).words

    assert f"Rewritten (simplify, top_k): 1.20× the speed of {VALIDATED.version}, accuracy not measured." in words
    assert "Graph was not kept: no faster" in words
    assert "Simplify was not" not in words
    for row in ("simplify (kept)", "graph (not kept)", "top_k (goes on)"):
        assert row in shown
    assert "optimize simplify, top_k" in shown.replace(VALIDATED.version, "")


def test_an_old_manifest_is_read_as_far_as_it_goes() -> None:
    shown = page(OLD, (VALIDATED,)).words

    assert "Static int8: 2.50× the speed" in shown
    assert "on labelled rows (how many is not recorded)" in shown
    assert "The stage's own words were not recorded." in shown
    assert "Half precision was rejected: it loses 25.8 points" in shown


def test_what_was_not_measured_is_said() -> None:
    bare = replace(VALIDATED, checks={}, origin={}, recipe={}, labels=(), preprocessing=None)
    shown = page(bare, aliases=None).words

    for words in (
        "Sizenot measured",  # a heading and its value
        "Accuracynot measured",
        "In use asnot known",
        "source not recorded",
        "Its speed was not measured on any type of CPU",
        "no stage compared variants",
        "was not compared with its source",
    ):
        assert words in shown
    assert "None: the inputs are columns." in shown


@pytest.mark.parametrize("value", [None, "fast", float("nan"), float("inf"), True, [], {}])
def test_a_measurement_that_is_no_number_counts_as_not_measured(value: Any) -> None:
    rows = [QUANTIZED["measurements"][0], dict.fromkeys(QUANTIZED["measurements"][1], value) | {"variant": "static"}]  # type: ignore[index]
    shown = page(replace(QUANTIZED_VERSION, checks={"quantize": {**QUANTIZED, "measurements": rows}})).words

    assert "Static int8: speed not measured, accuracy not measured." in shown
    assert "static int8 (goes on) not measured" in shown


@pytest.mark.parametrize("manifest", [VALIDATED, QUANTIZED_VERSION, OLD], ids=["validated", "quantised", "old"])
def test_the_page_stands_alone_and_its_tables_have_headings(manifest: ModelManifest) -> None:
    text = card_html(manifest, (VALIDATED, manifest), ["production"])
    shown = Page(text)

    assert shown.open == []
    assert shown.elements[0] == ("html", {"lang": "en"})
    assert "://" not in text.replace(str(manifest.origin), "")
    assert not {"script", "link", "img", "iframe", "object", "use", "image"} & {tag for tag, _ in shown.elements}
    assert not any(name in {"src", "href", "xlink:href", "srcset"} for _, attrs in shown.elements for name in attrs)
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in shown.elements
    assert "prefers-color-scheme: dark" in text
    assert shown.tables
    for table in shown.tables:
        assert table["caption"].strip()
        assert table["columns"] >= 2
        assert table["row heads"] == table["rows"] - 1
    ids = [attrs["id"] for _, attrs in shown.elements if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_charts_show_what_the_table_says() -> None:
    text = card_html(QUANTIZED_VERSION, (VALIDATED,), [])
    shown = Page(text)

    assert sum(tag == "figure" for tag, _ in shown.elements) == 3
    assert (
        "Speed (longer is better): original 1.00×, static int8 2.50×, dynamic int8 0.25×, half precision 1.40×"
        in shown.words
    )
    assert "currentColor" in text
    assert "#010203" not in text


def test_the_same_manifest_gives_the_same_page() -> None:
    program = (
        "import json, sys; from airflow_onnx_provider.model.card import card_html;"
        "from airflow_onnx_provider.runtime.manifest import ModelManifest;"
        "print(card_html(ModelManifest.from_dict(json.load(sys.stdin)), (), ['a', 'b']), end='')"
    )
    other = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(QUANTIZED_VERSION.to_dict()),
        capture_output=True,
        text=True,
        check=True,
    )

    assert other.stdout == card_html(QUANTIZED_VERSION, (), ["b", "a"])


EVIL = '<script>alert("1")</script>'
HOSTILE = {
    "a script": EVIL,
    "an attribute": '"><img src=x onerror=alert(1)>',
    "a template": "{{ 7 * 7 }}{% raw %}",
    "a formula": r"$\frac{broken$ \x",
    "a table cell": "a|b\n# heading\n- [x](javascript:alert(1))",
    "a reversed text": "abc\u202etxt.exe\x00\x1b[31m",
    "a long one": "long" * 5000,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_names_are_only_text(kind: str) -> None:
    evil = HOSTILE[kind]
    row = {"variant": evil, "size_bytes": 10, "accuracy": 0.5, "speedup": 2.0}
    check = {"accepted": True, "reason": evil, "measurements": [QUANTIZED["measurements"][0], row]}  # type: ignore[index]
    hostile = replace(
        VALIDATED,
        name=evil,
        files={f"model.onnx{evil}": evil},
        inputs=(TensorSpec(evil, evil, (evil, 3)),),
        labels=(evil,) * 30,
        domains=("", evil),
        origin=dict.fromkeys((*VALIDATED.origin, "parent"), evil),
        recipe={"stage": evil, "variant": evil, evil: evil},
        checks={evil: check, "parity": {"rows": evil, evil: {"max_difference": evil}, "batch_1": {"skipped": evil}}},
        speed=({"cpu": evil, "threads": evil, "batch": evil, "images_per_second": evil},),
    )
    text = card_html(hostile, (), [evil])
    shown = Page(text)

    assert shown.open == []
    plain = {tag for tag, _ in page(QUANTIZED_VERSION, (VALIDATED,)).elements}
    assert {tag for tag, _ in shown.elements} <= plain
    assert not any(name.startswith("on") for _, attrs in shown.elements for name in attrs)
    assert not {"\u202e", "\x00", "\x1b"} & set(text)
    if len(evil) < 100:
        assert " ".join(re.sub("[\u202e\x00\x1b]", "\ufffd", evil).split()) in shown.words

    markdown = card_markdown(hostile, (), [evil])
    assert "<" not in markdown
    assert len(markdown.encode()) <= MARKDOWN_BYTES
    assert not re.search(r"(?<!\\)[\[\]*_`]", markdown.replace("**", "")), "nothing of it is Markdown"
    assert "\n# heading" not in markdown


def test_many_labels_and_inputs_are_counted_not_listed() -> None:
    wide = replace(
        VALIDATED,
        labels=tuple(f"class {number}" for number in range(1000)),
        inputs=tuple(TensorSpec(f"column {number}", "float", ("batch", 1)) for number in range(300)),
    )
    shown = page(wide).words

    assert "1000 labels, in the order of the output; the first 20 of them" in shown
    assert "class 19" in shown
    assert "class 20" not in shown
    assert "and 260 more" in shown


def test_the_markdown_is_a_table_for_a_person() -> None:
    text = card_markdown(QUANTIZED_VERSION, (VALIDATED,), ["production"])

    assert text.startswith(f"# digits {QUANTIZED_VERSION.version}\n\n## Ready to use\n")
    assert "| static int8 (goes on) | 1.08 MB | 95.8 % | 2.50× | 1,000 |" in text
    assert f"3. quantize (variant static, rows 128) → **{QUANTIZED_VERSION.version}**" in text
    heads = [line for line in text.splitlines() if line.startswith("| ---")]
    assert len(heads) >= 5
    assert html.unescape(text) == text, "nothing here needs escaping"


def test_a_long_markdown_is_cut_at_a_line() -> None:
    speeds = tuple({"cpu": "c" * 190, "threads": t, "batch": "b" * 190, "decoder": "d" * 190} for t in range(40))
    text = card_markdown(replace(VALIDATED, speed=speeds))

    assert len(text.encode()) <= MARKDOWN_BYTES
    assert text.endswith("|\n\n(The rest is on the page card.html.)\n")


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store")


@pytest.fixture
def address(store: ModelStore, tmp_path: Path) -> str:
    """A version that was made from another of the same store."""
    parent = write_version(tmp_path / "parent", checks={"parity": PARITY})
    store.add(tmp_path / "parent", parent)
    child = write_version(tmp_path / "child", labels=("a", "b", "c"), origin={"parent": parent.version})
    return store.add(tmp_path / "child", child)


def test_a_card_lies_beside_its_version_and_is_no_part_of_it(store: ModelStore, address: str) -> None:
    before = store.manifest(address)
    Aliases(store, "colours").point("production", before.version, by="a test")

    card = write_card(store, address)

    assert (card.html, card.markdown) == (f"{address}/card.html", f"{address}/card.md")
    assert "In use as production." in Page(Path(card.html).read_text()).words
    assert card.text == Path(card.markdown).read_text()
    assert before.origin["parent"] in card.text
    assert f"Size: **{(Path(address) / 'model.onnx').stat().st_size} bytes**" in card.text
    assert store.manifest(address) == before
    with store.local(address) as folder:
        before.verify_files(folder)


def test_a_card_in_an_object_store(tmp_path: Path) -> None:
    store = ModelStore(ObjectStoragePath(f"memory://cards-{tmp_path.name}/models"))
    address = store.add(tmp_path / "made", write_version(tmp_path / "made"))

    card = write_card(store, address)

    assert card.html == f"{address}/card.html"
    assert b"<h1>colours</h1>" in ObjectStoragePath(card.html).read_bytes()


def test_a_card_of_what_an_alias_names(store: ModelStore, address: str) -> None:
    Aliases(store, "colours").point("candidate", store.manifest(address).version, by="a test")

    assert write_card(store, f"{store.root}/colours@candidate").html == f"{address}/card.html"


def test_the_lineage_is_followed_as_far_as_the_store_goes(store: ModelStore, address: str) -> None:
    child = store.manifest(address)
    assert [one.version for one in lineage_of(store, child)] == [child.origin["parent"], child.version]

    orphan = replace(child, origin={"parent": "0123456789ab"})
    assert lineage_of(store, orphan) == (orphan,)
    assert "no longer in the store" in page(orphan).words
    assert lineage_of(store, replace(child, origin={"parent": child.version}))[-1].version == child.version
    part = replace(child, name="colours.stage-1", recipe={"stage": "split", "whole": {"name": "colours"}})
    assert [one.name for one in lineage_of(store, part)] == ["colours", "colours.stage-1"]
    strange = replace(child, origin={"parent": "../../../etc"})
    assert lineage_of(store, strange) == (strange,)


def test_a_card_without_airflow(store: ModelStore, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([address, "--markdown"]) == 0
    assert capsys.readouterr().out.startswith("# colours ")
    assert not (Path(address) / "card.html").exists()

    run = subprocess.run(
        [sys.executable, "-m", "airflow_onnx_provider.model.card", address], capture_output=True, text=True, check=True
    )
    assert run.stdout == f"{address}/card.html\n"
    assert (Path(address) / "card.html").exists()

    assert main([f"{store.root}/colours/0123456789ab"]) == 1
    assert "there is no model version" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_a_missing_package_is_one_line_that_names_the_extra(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(BadInputError, match=rf"needs the extra report: pip install .*{package}"):
        card_html(QUANTIZED_VERSION)
