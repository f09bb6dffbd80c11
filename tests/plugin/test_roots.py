# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_onnx_provider.plugin.roots import NotThereError, OutsideRootsError, Roots, check_run, configured


def test_what_is_below_a_folder_is_inside(tmp_path: Path) -> None:
    roots = Roots.of([str(tmp_path / "a"), "relative", "s3://bucket/x", f"file://{tmp_path}/b"])
    assert roots.folders == (tmp_path / "a", tmp_path / "b")
    assert roots.inside(str(tmp_path / "a")) == tmp_path / "a"
    assert roots.inside(f"file://{tmp_path}/b/c") == tmp_path / "b" / "c"


def test_a_folder_that_is_itself_a_link_is_meant_with_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    roots = Roots.of([str(tmp_path / "link")])
    assert roots.inside(str(tmp_path / "link" / "x")) == roots.inside(str(tmp_path / "real" / "x"))


@given(st.lists(st.sampled_from(["..", "a", "b", ".", "", "real", "out", "\0", "~"]), max_size=8))
def test_no_path_is_found_inside_that_is_not(tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    home = tmp_path_factory.getbasetemp() / "roots"
    (home / "real" / "a").mkdir(parents=True, exist_ok=True)
    if not (home / "real" / "out").is_symlink():
        (home / "real" / "out").symlink_to(home)
    try:
        found = Roots.of([str(home / "real")]).inside("/".join([str(home), "real", *parts]))
    except OutsideRootsError:
        return
    assert found.is_relative_to(home / "real")
    assert ".." not in parts


@pytest.mark.parametrize("name", ["", ".", "..", "a..b", "a/b", "-a", "_a", "a\0", "a\n", "é", "a" * 251])
def test_what_cannot_name_a_run(name: str) -> None:
    with pytest.raises(NotThereError):
        check_run(name)


def test_options_are_separated_by_commas_or_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__ONNX__OUTPUT_ROOTS", "\n /a ,/b\n/c,\n")
    assert configured("output_roots") == ("/a", "/b", "/c")
    assert configured("model_roots") == ()
