# SPDX-License-Identifier: Apache-2.0
from benchmarks.harness import Turn
from benchmarks.report import RATIOS, Spread, markdown, share
from benchmarks.ways import TITLES
from benchmarks.works import FILES, WORKS

MACHINE = {"date": "2026-01-01", "cpu": "a CPU", "cores": "2", "memory": "8 GiB", "system": "Linux", "pyspark": "4.2.0"}


def turn(way, number, warm, cold=None):
    return Turn("mobilenet", way, number, 100, cold, warm, 2**20, 2**21, 1.0 if number == 0 else None)


def test_a_share_is_paired_by_round_so_that_a_slow_round_slows_both():
    limit = [turn("limit", 0, 1.0), turn("limit", 1, 4.0)]
    product = [turn("product", 0, 2.0), turn("product", 1, 5.0)]
    assert share(product, limit) == Spread(0.65, 0.5, 0.8)


def test_a_round_that_only_one_of_both_has_is_left_out():
    assert share([turn("ray", 0, 2.0)], [turn("limit", 0, 1.0), turn("limit", 1, 9.0)]) == Spread(0.5, 0.5, 0.5)
    assert share([turn("ray", 0, 2.0)], []) is None


def test_the_page_has_a_row_for_each_way_that_ran():
    page = markdown("quick", MACHINE, [turn("limit", 0, 1.0, 2.0), turn("product", 0, 2.0, 4.0)])
    assert (
        "| this product | 100 | 50.0 (50.0 to 50.0) | 50% | 25.0 (25.0 to 25.0) | 25% | 1 MiB | 2 MiB | 100.0% |"
        in page
    )
    assert "pyspark 4.2.0" in page
    assert "Ray Data map_batches |" not in page


def test_each_way_has_a_title_and_at_most_all_files_and_the_limit_comes_first():
    for work in WORKS:
        assert next(iter(work.ways)) == "limit"
        assert set(work.ways) <= set(TITLES)
        assert max(work.ways.values()) <= FILES


def test_each_ratio_is_of_ways_that_run():
    cells = {(work.name, way) for work in WORKS for way in work.ways}
    assert {cell for ratio in RATIOS.values() for cell in ratio} <= cells
