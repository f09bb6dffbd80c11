# SPDX-License-Identifier: Apache-2.0
"""The bill of materials says what is installed, and nothing of where."""

from __future__ import annotations

from typing import Any

import pytest

from release.sbom import places, without_prose


def bill(**component: Any) -> dict[str, Any]:
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "components": [{"name": "numpy", "version": "2.4.6", "purl": "pkg:pypi/numpy@2.4.6", **component}],
    }


def test_what_projects_say_of_themselves_is_left_out() -> None:
    links = [{"type": "distribution", "url": "https://example.org/numpy.tar.gz"}]

    assert without_prose(bill(description="see https://example.org", externalReferences=links)) == bill()


@pytest.mark.parametrize(
    "purl",
    [
        "pkg:pypi/numpy@2.4.6?download_url=somewhere",
        "pkg:pypi/numpy@2.4.6?file_name=a&repository_url=mirror",
        "https://example.org/numpy.whl",
        "file:///home/someone/numpy.whl",
        "/tmp/build/numpy",
    ],
)
def test_a_place_is_found(purl: str) -> None:
    assert places(bill(purl=purl)) == [purl]


def test_a_clean_bill_names_none() -> None:
    assert places(bill(licenses=[{"expression": "BSD-3-Clause AND MIT"}])) == []
