# SPDX-License-Identifier: Apache-2.0
"""The page of a run: what it says, that it is sound, and that a browser shows it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from airflow_onnx_provider.exceptions import BadInputError, SparkJobError
from airflow_onnx_provider.quality.report import main, report_html, write_report
from airflow_onnx_provider.quality.reports.facts import Before, RunFacts
from airflow_onnx_provider.quality.reports.rows import Refused, Row
from airflow_onnx_provider.quality.reports.samples import RefusedSample, Sample, Samples, Thumbnail
from airflow_onnx_provider.quality.verdict import Accuracy, CheckResult
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.publish import publish
from airflow_onnx_provider.spark.run_manifest import write_failure
from tests.browser import SIZES, THEMES, chromium, fits, page_of
from tests.quality.reports.runs import (
    FIGURES,
    NEW,
    a_published_day,
    a_record,
    a_result,
    a_run,
    draw,
    some_facts,
    stage_rows,
    unjudged,
)

FAILED = a_result("label_drift", passed=False, expected="a PSI of at most 0.25", actual="0.41")
MEBIBYTE = 1 << 20


class Page(HTMLParser):
    """What a browser would make of a page, as far as these tests ask."""

    VOID = frozenset({"meta", "br", "img"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, Mapping[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text.append(data)

    @property
    def words(self) -> str:
        """All text of the page, white space evened out."""
        return " ".join(" ".join(self.text).split())


def page(facts: RunFacts, samples: Samples | None = None) -> Page:
    return Page(report_html(facts, samples))


def test_the_verdict_comes_first_then_the_figures_then_what_stands_out() -> None:
    shown = page(some_facts(a_record(a_result(), FAILED))).words
    order = [
        "Checks failed · not published",
        "1 of 2 checks failed",
        "Label drift: found 0.41; expected a PSI of at most 0.25.",
        "Rows in 1,200",
        "Accuracy 90.0 % 82.6 % to 94.5 % on 100 rows",
        "Moved to another label 6.3 % of the rows, since 2026-01-01",
        "What stands out",
        "Decoding takes 61.0 % of the work",
        "All checks, judged 2026-01-02 05:00:00 UTC",
        "Where each row went",
        "Files that are no pictures 9 75.0 %",
        "Rows by label, and the change in percentage points",
        "90 of 100 labelled rows are right",
        "Where the time went",
        "Slowest Spark tasks: 1 of 8; the median took 20 s",
        "What was run, on what, by what",
    ]
    places = [shown.find(words) for words in order]

    assert -1 not in places, order[places.index(-1)]
    assert places == sorted(places)


def test_a_checks_state_is_a_word_and_a_sign_not_only_a_colour() -> None:
    results = [
        a_result("row_books"),
        a_result("nulls", grey=True),
        a_result("latency", severity="warn", passed=False),
        FAILED,
    ]
    shown = page(some_facts(a_record(*results))).words

    for words in (
        "Row books ✓ passed", "Nulls ≈ passed within its tolerance", "Latency ! warning", "Label drift ✕ failed",
    ):  # fmt: skip
        assert words in shown


def test_what_is_not_known_is_said() -> None:
    shown = page(unjudged(some_facts(before=Before(), raw_images_per_second=0.0, raw_share=0.0, slowest=()))).words

    for words in (
        "Not judged yet",
        "Accuracy not known not judged yet",
        "Moved to another label not known no earlier day",
        "Share of raw speed not measured",
        "There is no record of checks",
        "There is no earlier day to compare with.",
        "Which tasks were slow, the run manifest does not tell.",
        "No rows were looked at.",
    ):
        assert words in shown


def test_a_manifest_of_the_first_kind_has_a_report() -> None:
    old = {**{name: type(value)() for name, value in NEW.items()}, "seconds": {"read": 0.1}, "latency_ms": {}}
    old |= {"plan": {}, "provenance": {}, "model": {"model": "/m", "digest": "0", "labels": []}}
    shown = page(some_facts(**old, mean_score=None, labels={}, score_histogram=(0,) * 20)).words

    assert "The run manifest has no histogram of it." in shown
    assert "The run manifest has no plan." in shown
    assert "No row was predicted." in shown


def test_a_day_without_a_row() -> None:
    empty: dict[str, Any] = {"rows_in": 0, "predicted": 0, "quarantined": {}, "labels": {}, "images_per_second": 0.0}
    shown = page(some_facts(**empty, mean_score=None, score_histogram=(0,) * 20, latency_buckets=())).words

    assert "All 2 checks passed; no row came in." in shown
    assert "No row is in quarantine." in shown


def test_the_page_needs_nothing_else_and_is_the_same_each_time() -> None:
    text = report_html(some_facts(), some_samples("a.png"))
    shown = Page(text)

    assert shown.open == []
    assert text == report_html(some_facts(), some_samples("a.png"))
    assert not {"script", "link", "iframe", "object", "form", "base"} & {tag for tag, _ in shown.elements}
    policies = [attrs["content"] for tag, attrs in shown.elements if attrs.get("http-equiv")]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]
    assert all(attrs["src"].startswith("data:image/webp") for tag, attrs in shown.elements if tag == "img")
    addresses = [attrs[name] for _, attrs in shown.elements for name in ("href", "xlink:href") if name in attrs]
    assert all(address.startswith("#") for address in addresses)
    assert "http" not in re.sub(r"http-equiv", "", text)
    ids = [attrs["id"] for _, attrs in shown.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {address[1:] for address in addresses} <= set(ids)


def test_every_plot_is_told_in_words_and_every_table_can_be_scrolled_by_keyboard() -> None:
    shown = page(some_facts())
    figures = sum(tag == "figure" for tag, _ in shown.elements)

    assert figures == 5
    assert figures == sum(tag == "figcaption" for tag, _ in shown.elements)
    assert "Share of the rows by label: red 50.5 % (before 50.0 %), blue 33.7 %" in shown.words
    scrolled = [attrs for tag, attrs in shown.elements if attrs.get("class") == "scroll"]
    assert len(scrolled) == sum(tag == "table" for tag, _ in shown.elements)
    assert all(attrs["tabindex"] == "0" and attrs["aria-label"] for attrs in scrolled)


HOSTILE = {
    "a script": '<script>alert("1")</script>',
    "an attribute": '"><img src=x onerror=alert(1)>',
    "a template": "{{ 7 * 7 }}{% raw %}",
    "a formula": r"$\frac{broken$ \x",
    "a style": "</style><style>body{display:none}",
    "a plot": "</text></svg><svg onload=alert(1)>",
    "a reversed text": "abc\u202etxt.exe\x00\x1b[31m",
    "a long one": "long" * 5000,
}


def some_samples(evil: str) -> Samples:
    row, picture = Row(evil, evil, 0.5), Thumbnail("data:image/webp;base64,UklGRg==")
    refused = RefusedSample(Refused(evil, evil, evil, evil, evil), evil[:24])
    both = (Sample(row, picture), Sample(row, Thumbnail(note=evil[:40])))
    return Samples({evil: both}, both, ((evil, (refused,)),), "")


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_names_are_only_text(kind: str) -> None:
    evil = HOSTILE[kind]
    result = CheckResult(evil, "error", False, evil, evil)
    accuracy = Accuracy(9, 0, 4, 0.2, 0.7, {evil: (4, 9)}, ((evil, evil, 4), (evil, "x", 5)))
    hostile: dict[str, Any] = {
        "partition": evil,
        "run": evil,
        "model": dict.fromkeys(("model", "name", "version", "digest"), evil),
        "labels": {evil: 1000, "x": 188},
        "quarantined": {evil: 12},
        "plan": {"decisions": [{"name": evil, "value": evil, "reason": evil}, evil]},
        "provenance": {evil: evil},
        "source": {"folder": evil, "newest": evil},
        "runtimes": (evil, "b"),
        "slowest": ({"task": evil, "rows": evil, "bytes": evil, "seconds": evil},),
        "finished": evil,
        "replays": evil,
    }
    before = Before(evil, (evil,), {evil: 5}, (1,) * 20, (evil,))
    record = replace(a_record(result, accuracy=accuracy), judged=evil)
    text = report_html(some_facts(record, before, **hostile), some_samples(evil))
    shown = Page(text)

    assert shown.open == []
    plain = {tag for tag, _ in page(some_facts(), some_samples("a")).elements}
    assert {tag for tag, _ in shown.elements} <= plain
    assert not any(name.startswith("on") for _, attrs in shown.elements for name in attrs)
    assert not {"\u202e", "\x00", "\x1b"} & set(text)
    assert len(text) < MEBIBYTE
    if len(evil) < 60:
        assert " ".join(re.sub("[\u202e\x00\x1b]", "\ufffd", evil).split()) in shown.words


def a_large_run() -> RunFacts:
    """Ten thousand classes, a hundred million rows, every list as long as it gets."""
    names = [f"class {number:05d} of a long catalogue" for number in range(10_000)]
    labels = {name: 10_000 + number % 7 for number, name in enumerate(names)}
    cells = [(name, name, 40) for name in names[:1_000]]
    cells += [(name, names[number + 1], 9) for number, name in enumerate(names[:1_000])]
    recall = dict.fromkeys(names, (40, 50))
    accuracy = Accuracy(500_000, 10, 400_000, 0.79, 0.81, recall, tuple(cells))
    rows = sum(labels.values())
    return some_facts(
        a_record(*(a_result(f"check_{number}") for number in range(13)), accuracy=accuracy),
        Before("the last 7 published partitions together", tuple(map(str, range(7))),
               {name: 10_000 + number % 11 for number, name in enumerate(names)}, (5_000_000,) * 20),
        labels=labels,
        rows_in=rows + 5_000,
        predicted=rows,
        quarantined={f"reason_{number}": 100 for number in range(50)},
        score_histogram=(rows // 20,) * 20,
        latency_buckets=tuple((0.001 * 1.06**number, 1_000) for number in range(160)),
        slowest=tuple({"task": number, "rows": 50_000, "bytes": 10**9, "seconds": 60.0} for number in range(20)),
    )  # fmt: skip


def test_a_large_run_has_a_report_that_can_be_sent() -> None:
    noise = Thumbnail("data:image/webp;base64," + "A" * 23_000)
    rows = tuple(Sample(Row(f"{'x' * 200}.jpg", f"class {number}", 0.5), noise) for number in range(12))
    by_label = {f"class {number}": rows[:2] for number in range(24)}
    text = report_html(a_large_run(), Samples(by_label, rows))
    shown = Page(text).words

    assert len(text.encode()) <= 5 * MEBIBYTE
    assert "10,000 labels were predicted." in shown
    assert "9,980 more have 99.8 % of the rows." in shown
    assert "and 9,980 more" in shown
    assert "The 25 labels with the most mistakes; 9,975 more are not shown." in shown


@pytest.fixture
def layout(tmp_path: Path) -> OutputLayout:
    """A day before, and a staged run with real rows and pictures, one of them with a hostile name."""
    layout = a_published_day(tmp_path, labels={"red": 5, "green": 5})
    folder = tmp_path / "catalog" / "ds=2026-01-02"
    evil = "<img src=x onerror=alert(1)>.png"
    draw(folder, ["a.png", evil, "b.png", "c.png"])
    (folder / "page.jpg").write_bytes(b"<html><script>alert(1)</script>")
    refused = {"key": "page.jpg", "stage": "decode", "reason": "not_an_image", "error": "none", "address": "page.jpg"}
    rows = [("a.png", "red", 0.99), (evil, "green", 0.21), ("b.png", "red", 0.8), ("c.png", "green", 0.9)]
    new = {**NEW, "plan": FIGURES["plan"], "source": {"folder": str(folder), "key": None, "input": None, "root": None}}
    stage_rows(layout, "one", rows, [refused], partition="2026-01-02", **new)
    replace(a_record(), run="one").write(layout.checks("one"))
    return layout


def test_a_report_of_real_files(layout: OutputLayout) -> None:
    path = write_report(layout, "one")
    shown = Page(path.read_text())

    assert path == layout.report("one")
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    assert "Checks passed · may be published" in shown.words
    assert "<html><script>alert(1)</" in shown.words
    assert "<img src=x onerror=alert(1)>.png" in shown.words
    pictures = [attrs for tag, attrs in shown.elements if tag == "img"]
    assert len(pictures) == 8, "each row as one of its label's surest, and as one of the least sure"
    assert "Before: the previous published partition – 2026-01-01." in shown.words


def test_after_publishing_the_report_can_be_written_again(layout: OutputLayout) -> None:
    write_report(layout, "one")
    publish(layout, "2026-01-02", "one")

    shown = Page(write_report(layout, "one").read_text())

    assert "Checks passed · published" in shown.words
    assert sum(tag == "img" for tag, _ in shown.elements) == 8


def test_a_run_that_failed_has_no_report(layout: OutputLayout) -> None:
    write_failure(layout.run_manifest("two"), "2026-01-02", SparkJobError("no space left"))

    with pytest.raises(SparkJobError, match="no space left"):
        write_report(layout, "two")


def test_a_report_without_airflow(layout: OutputLayout, capsys: pytest.CaptureFixture[str]) -> None:
    publish(layout, "2026-01-02", "one")
    command = [sys.executable, "-m", "airflow_onnx_provider.quality.report", str(layout.root)]
    run = subprocess.run([*command, "2026-01-02"], capture_output=True, text=True, check=True)

    assert run.stdout == f"{layout.report('one')}\n"
    assert main([str(layout.root), "one"]) == 0
    assert main([str(layout.root), "2026-01-31"]) == 1
    assert main([str(layout.root), "../one"]) == 1
    errors = capsys.readouterr().err
    assert "neither a run nor a published partition 2026-01-31; it has 2 published partitions" in errors
    assert "'../one' names neither a partition nor a run" in errors


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_a_missing_package_is_one_line_that_names_the_extra(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(BadInputError, match=rf"a run report needs the extra report: pip install .*{package}"):
        report_html(some_facts())


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", SIZES)
def test_a_browser_shows_it(browser: Any, layout: OutputLayout, size: str, theme: str) -> None:
    address = write_report(layout, "one").as_uri()

    with page_of(browser, size, theme) as opened:
        opened.goto(address)

        verdict = opened.locator("#verdict h2").bounding_box()
        assert verdict["y"] + verdict["height"] < SIZES[size]["height"] / 3, "the verdict is what one sees first"
        assert fits(opened)
        painted = opened.evaluate("[...document.images].map(one => one.complete && one.naturalWidth > 0)")
        assert painted == [True] * 8
        ink = "getComputedStyle(document.querySelector('figure svg text')).fill"
        assert opened.evaluate(ink) == ("rgb(27, 32, 39)" if theme == "light" else "rgb(232, 235, 239)")
        opened.locator("summary").click()
        opened.locator("nav a", has_text="Provenance").click()
        assert fits(opened)


@pytest.mark.parametrize("size", SIZES)
def test_a_browser_shows_the_largest(browser: Any, tmp_path: Path, size: str) -> None:
    path = tmp_path / "large.html"
    path.write_text(report_html(a_large_run(), some_samples("x" * 300)))

    with page_of(browser, size, "light") as opened:
        opened.goto(path.as_uri())
        assert fits(opened)


def test_a_run_knows_its_own_books() -> None:
    assert some_facts().balanced
    assert a_run().quarantined_rows == 12
