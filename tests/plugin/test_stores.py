# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import ObjectStoragePath

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.model.store.aliases import Aliases
from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.plugin import stores
from airflow_onnx_provider.plugin.roots import NotThereError, OutsideRootsError
from airflow_onnx_provider.plugin.stores import Store, known_stores, read_card, shelf_of
from tests.conftest import set_connection
from tests.plugin.days import make_models, make_version


class NoConnections:
    """Stands for a session of a database without any connection."""

    def scalars(self, query: Any) -> list[str]:
        return []


@pytest.fixture
def models(tmp_path: Path) -> Path:
    make_models(tmp_path)
    return tmp_path


def test_stores_of_the_environment_and_the_settings_are_known(monkeypatch: pytest.MonkeyPatch, models: Path) -> None:
    set_connection(monkeypatch, "shelf", {"conn_type": "onnx_model_store", "extra": {"root": str(models)}})
    set_connection(monkeypatch, "broken", {"conn_type": "onnx_model_store"})
    set_connection(monkeypatch, "other", {"conn_type": "spark", "host": "local"})
    monkeypatch.setenv("AIRFLOW__ONNX__MODEL_ROOTS", f"{models},{models / 'more'}")

    broken, shelf, more = known_stores(NoConnections())  # type: ignore[arg-type]

    assert (broken.opened, "has no root" in broken.trouble) == (None, True)
    assert (shelf.name, shelf.opened) == ("shelf", ModelStore(models))
    assert more.name == str(models / "more"), "the root that a connection has as well comes once"
    assert shelf_of(more).models == ()
    assert "has no root" in shelf_of(broken).trouble


def test_a_version_that_cannot_be_read_does_not_hide_the_others(models: Path) -> None:
    version = next(path for path in (models / "price_tags").iterdir() if path.is_dir() and path.name[0] != "_")
    (version / "manifest.json").write_text("{")
    broken, products = shelf_of(Store("here", ModelStore(models))).models
    assert "is not JSON" in broken.versions[0].trouble
    assert [one.trouble for one in products.versions] == ["", ""]


def test_old_versions_are_left_out_unless_a_name_points_to_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(stores, "VERSIONS", 1)
    first = make_version(tmp_path, "m", None)
    Aliases(ModelStore(tmp_path), "m").point("production", Path(first).name, by="a test")
    for variant in ("static", "dynamic"):
        make_version(tmp_path, "m", variant)

    (model,) = shelf_of(Store("here", ModelStore(tmp_path))).models

    assert (len(model.versions), model.left_out) == (2, 1)
    assert (model.versions[1].version, model.versions[1].aliases) == (Path(first).name, ("production",))


def test_an_object_store_is_asked_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store("remote", ModelStore(ObjectStoragePath("memory://models")))
    asked: list[str] = []
    monkeypatch.setattr(stores, "_look", lambda name, of: asked.append(name) or stores.Shelf(name))
    monkeypatch.setattr(stores, "_remembered", {})
    assert shelf_of(store) == shelf_of(store)
    assert asked == ["remote"]


def test_a_store_that_is_being_asked_makes_nobody_else_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "_remembered", {})
    with stores._asking:
        assert "being asked" in shelf_of(Store("remote", ModelStore(ObjectStoragePath("memory://models")))).trouble


def test_cards_come_from_known_stores_only(models: Path, tmp_path: Path) -> None:
    here = [Store("none", None, "broken"), Store("here", ModelStore(models))]
    assert b"products" in read_card(here, f"{models}/products@production")
    with pytest.raises(OutsideRootsError):
        read_card(here, "/elsewhere/products/0123456789ab")
    with pytest.raises(NotThereError):
        read_card(here, f"{models}/products/0123456789ab")
    with pytest.raises(BadInputError):
        read_card(here, "products")


def test_a_card_that_is_a_link_out_of_the_store_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "private").write_text("private")
    version = Path(make_version(tmp_path / "models", "m", None))
    (version / "card.html").symlink_to(tmp_path / "private")
    with pytest.raises(OutsideRootsError):
        read_card([Store("here", ModelStore(tmp_path / "models"))], str(version))
