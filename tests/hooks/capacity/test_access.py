# SPDX-License-Identifier: Apache-2.0
"""Credentials and trust towards a cluster's web API."""

from __future__ import annotations

import base64
import json
import logging
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from airflow.sdk import Connection

from airflow_onnx_provider.exceptions import BadInputError, OnnxProviderError
from airflow_onnx_provider.hooks.capacity.access import Access, addresses_of, entries, host_of
from tests.hooks.capacity.standin import Asked, Certificates, Text, standing_in

SECRET = "s3cr3t-of-the-night"
PAGE = {"/json/": {"status": "ALIVE"}}


def access(login: str = "", password: str = "", **extra: Any) -> Access:
    connection = Connection(
        conn_id="cluster", conn_type="spark_cluster", login=login, password=password, extra=json.dumps(extra)
    )
    return Access.of(connection)


def authorization(asked: Asked) -> str:
    return asked.headers.get("authorization", "")


@pytest.mark.parametrize(
    ("given", "auth"),
    [
        ({}, "none"),
        ({"login": "nightly"}, "none"),
        ({"login": "nightly", "password": SECRET}, "basic"),
        ({"password": SECRET}, "bearer"),
        ({"login": "nightly", "password": SECRET, "auth": "none"}, "none"),
        ({"login": "nightly", "auth": "simple"}, "simple"),
    ],
)
def test_what_a_connection_has_decides_how_to_ask(given: dict[str, str], auth: str) -> None:
    assert access(**given).auth == auth


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"auth": "magic"}, "'cluster' has auth 'magic'; there is: none, basic, bearer, kerberos, simple"),
        ({"auth": "basic", "login": "nightly"}, "auth 'basic', which needs login and password"),
        ({"auth": "bearer"}, "auth 'bearer', which needs the token as password, or token_file"),
        ({"auth": "simple"}, "auth 'simple', which needs a login"),
        ({"token_file": "/no/such/token"}, "names '/no/such/token' in token_file, and no such file"),
        ({"verify": "/no/such/ca.pem"}, "names '/no/such/ca.pem' in verify, and no such file"),
        ({"cert": "/no/such/cert.pem"}, "names '/no/such/cert.pem' in cert, and no such file"),
    ],
)
def test_what_is_missing_is_named(given: dict[str, str], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        access(**given)


@pytest.mark.parametrize(
    ("field", "verify"), [(None, True), ("", True), ("True", True), (True, True), ("false", False), (False, False)]
)
def test_verify_as_the_form_and_as_json_give_it(field: Any, verify: bool) -> None:
    assert access(verify=field).verify is verify


def test_basic_bearer_and_simple_arrive(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{SECRET}\n")
    with standing_in(PAGE) as page:
        url = f"{page.address}/json/"
        access("nightly", SECRET).json(url)
        access(password=SECRET).json(url)
        access(token_file=str(tmp_path / "token")).json(url)
        access("nightly", auth="simple").json(url, states="RUNNING")
    basic, bearer, from_file, simple = page.asked
    assert base64.b64decode(authorization(basic).removeprefix("Basic ")).decode() == f"nightly:{SECRET}"
    assert authorization(bearer) == authorization(from_file) == f"Bearer {SECRET}"
    assert (authorization(simple), simple.query) == ("", {"states": "RUNNING", "user.name": "nightly"})


def test_kerberos_takes_the_package_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is a stand-in; no Kerberos is at hand."""
    gssapi = ModuleType("requests_gssapi")

    def negotiate(request: Any) -> Any:
        request.headers["Authorization"] = "Negotiate ticket"
        return request

    gssapi.HTTPSPNEGOAuth = lambda: negotiate  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "requests_kerberos", None)
    monkeypatch.setitem(sys.modules, "requests_gssapi", gssapi)
    with standing_in(PAGE) as page:
        access(auth="kerberos").json(f"{page.address}/json/")
    assert authorization(page.asked[0]) == "Negotiate ticket"


def test_kerberos_without_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("requests_kerberos", "requests_gssapi"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BadInputError, match="auth 'kerberos', which needs a package: pip install requests-kerberos"):
        access(auth="kerberos").json("http://127.0.0.1:9/json/")


def test_refused_credentials_are_bad_input_and_stay_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    asking = access("nightly", SECRET)
    with (
        standing_in(PAGE, allow=lambda _: False) as page,
        pytest.raises(BadInputError, match=r"/json/ refuses access \(401\) with auth 'basic': .* 'cluster'") as no,
    ):
        asking.json(f"{page.address}/json/")
    hidden = base64.b64encode(f"nightly:{SECRET}".encode()).decode()
    for told in (str(no.value), repr(asking), caplog.text):
        assert SECRET not in told
        assert hidden not in told


@pytest.mark.parametrize("token", [f"{SECRET}\nX-Other: header", f"{SECRET}€"])
def test_a_token_that_no_header_can_hold_is_not_told(token: str) -> None:
    with pytest.raises(BadInputError, match="has a token with line breaks or letters beyond ASCII") as no:
        access(password=token)
    assert SECRET not in str(no.value)


def test_passwords_may_have_any_letters() -> None:
    with standing_in(PAGE) as page:
        access("nächtlich", "grün€").json(f"{page.address}/json/")
    assert base64.b64decode(authorization(page.asked[0]).removeprefix("Basic ")).decode() == "nächtlich:grün€"


def test_what_went_wrong_on_the_way_tells_no_secret() -> None:
    with pytest.raises(OnnxProviderError) as no:
        access("nightly", SECRET).json("http://127.0.0.1:9/json/")
    assert "no answer" in str(no.value)
    assert no.value.__suppress_context__


def test_a_redirect_is_not_followed_with_credentials() -> None:
    with standing_in(PAGE) as other:
        elsewhere = {"/json/": Text("", 307, {"Location": f"{other.address}/json/"})}
        with standing_in(elsewhere) as page, pytest.raises(OnnxProviderError, match="/json/ answers 307") as no:
            access(password=SECRET).json(f"{page.address}/json/")
    assert no.value.retryable
    assert not other.asked


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Text("<html>login</html>", headers={"Content-Type": "text/html"}), "answers with text/html that is not JSON"),
        (Text('{"status": "AL', headers={"Content-Type": "application/json"}), "application/json that is not JSON"),
        (Text("", 503), "answers 503 Service Unavailable"),
    ],
)
def test_answers_that_cannot_be_read_can_be_waited_through(answer: Text, message: str) -> None:
    with standing_in({"/json/": answer}) as page, pytest.raises(OnnxProviderError, match=message) as no:
        access().json(f"{page.address}/json/")
    assert no.value.retryable


def test_nobody_there() -> None:
    with pytest.raises(OnnxProviderError, match=r"^no answer from http://127\.0\.0\.1:9/json/: \[Errno 111\] [^;]+;"):
        access().json("http://127.0.0.1:9/json/")


def test_a_certificate_is_checked_against_our_authority(certificates: Certificates) -> None:
    with standing_in(PAGE, tls=certificates.context()) as page:
        url = f"{page.address}/json/"
        with pytest.raises(BadInputError, match="not trusted here; put the path of its CA into verify"):
            access().json(url)
        assert access(verify=str(certificates.ca)).json(url) == {"status": "ALIVE"}
        with pytest.warns(match="Unverified HTTPS request"):
            assert access(verify="false").json(url) == {"status": "ALIVE"}


def test_a_client_certificate_opens_the_door(certificates: Certificates) -> None:
    ca, client = str(certificates.ca), str(certificates.client)
    with standing_in(PAGE, tls=certificates.context(ask_client=True)) as page:
        with pytest.raises(OnnxProviderError, match="no answer"):
            access(verify=ca).json(f"{page.address}/json/")
        assert access(verify=ca, cert=client).json(f"{page.address}/json/") == {"status": "ALIVE"}
        assert access(verify=ca, cert=client, key=client).json(f"{page.address}/json/") == {"status": "ALIVE"}


def test_web_addresses() -> None:
    assert addresses_of(None, "cluster") == ()
    found = addresses_of("https://rm1:8090/, rm2:8088", "cluster")
    assert found == ("https://rm1:8090", "http://rm2:8088")
    with pytest.raises(BadInputError, match="'cluster' has credentials in its web_address") as no:
        addresses_of(f"http://nightly:{SECRET}@rm1:8088", "cluster")
    assert SECRET not in str(no.value)


def test_lists_out_of_hadoops_json() -> None:
    assert entries(None, "node") == entries({"node": None}, "node") == []
    assert entries({"node": {"id": 1}}, "node") == entries({"node": [{"id": 1}]}, "node") == [{"id": 1}]


@pytest.mark.parametrize("url", ["spark://master:7077", "master:7077", "https://master/path", "master"])
def test_host_of(url: str) -> None:
    assert host_of(url) == "master"
