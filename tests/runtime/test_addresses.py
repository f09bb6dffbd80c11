# SPDX-License-Identifier: Apache-2.0
"""No address that a row gives leads out of its root."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from airflow_onnx_provider.exceptions import RowError
from airflow_onnx_provider.runtime.addresses import read_address, resolve


def reason_of(address: str, root: str) -> str:
    with pytest.raises(RowError) as caught:
        read_address(address, root)
    return caught.value.reason


@pytest.mark.parametrize("address", ["a.jpg", "./a.jpg", "shoes/../a.jpg", "{root}/a.jpg", "file://{root}/a.jpg"])
def test_a_file_below_its_root(tmp_path: Path, address: str) -> None:
    (tmp_path / "a.jpg").write_bytes(b"picture")
    (tmp_path / "shoes").mkdir()

    assert read_address(address.format(root=tmp_path), str(tmp_path)) == b"picture"


@pytest.mark.parametrize(
    "address", ["../secret", "/etc/passwd", "{root}-beside/a.jpg", "", ".", "link/passwd", "s3://b/a"]
)
def test_a_path_that_leads_elsewhere(tmp_path: Path, address: str) -> None:
    root = tmp_path / "images"
    root.mkdir()
    (root / "link").symlink_to("/etc")
    (tmp_path / "secret").write_bytes(b"secret")

    assert reason_of(address.format(root=root), str(root)) in ("outside_root", "unreadable")
    assert reason_of("../secret", str(root)) == "outside_root"


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("shoes/a.jpg", "https://images.example/day/shoes/a.jpg"),
        ("/a.jpg", "https://images.example/day/a.jpg"),
        ("https://images.example/day/a.jpg?size=1", "https://images.example/day/a.jpg?size=1"),
    ],
)
def test_an_address_below_a_url(address: str, found: str) -> None:
    assert resolve(address, "https://images.example/day") == found


@pytest.mark.parametrize(
    "address",
    [
        "https://elsewhere.example/day/a.jpg",
        "http://images.example/day/a.jpg",
        "https://images.example/days/a.jpg",
        "https://images.example/day/../a.jpg",
        "https://images.example/day/%2e%2e/a.jpg",
        "https://images.example@elsewhere.example/day/a.jpg",
        "file:///etc/passwd",
    ],
)
def test_an_address_elsewhere(address: str) -> None:
    with pytest.raises(RowError, match="does not lie below"):
        resolve(address, "https://images.example/day")


@pytest.fixture
def shop() -> Iterator[str]:
    """A web server on loopback: one picture, one redirect out of the root."""

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/images/away.jpg":
                self.send_response(302)
                self.send_header("Location", "/private/a.jpg")
                self.end_headers()
                return
            found = self.path in ("/images/a.jpg", "/private/a.jpg")
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(b"picture" if found else b"")

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/images"
    server.shutdown()
    server.server_close()
    thread.join()


def test_pictures_from_the_web(shop: str) -> None:
    assert read_address("a.jpg", shop) == b"picture"
    with pytest.raises(RowError, match=r"missing\.jpg: HTTP 404") as caught:
        read_address("missing.jpg", shop)
    assert caught.value.reason == "unreadable"
    assert reason_of("away.jpg", shop) == "outside_root"


def test_a_server_that_is_not_there() -> None:
    assert reason_of("a.jpg", "http://127.0.0.1:9/images") == "unreadable"
