# SPDX-License-Identifier: Apache-2.0
"""How a cluster's web API is spoken to: who asks, whom to believe, and what may be repeated of the answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from airflow.sdk import Connection

from airflow_onnx_provider.exceptions import BadInputError, OnnxProviderError

AUTHS = ("none", "basic", "bearer", "kerberos", "simple")
TIMEOUT_SECONDS = (5, 20)
"""To connect, and to wait for each piece of an answer."""

Answer = TypeVar("Answer")


class NotLeadingError(OnnxProviderError):
    """A master answers, but another one leads, or none does yet."""


@dataclass(frozen=True)
class Access:
    """Credentials and trust of one connection; it prints no secret.

    :param conn_id: the connection, for messages
    :param auth: ``none``, ``basic``, ``bearer``, ``kerberos`` (SPNEGO, with the ticket cache of this process), or
        ``simple`` (Hadoop's ``user.name``)
    :param login: for ``basic`` and ``simple``
    :param secret: password or token
    :param verify: whether certificates are checked, or the path of a CA bundle to check them with
    :param cert: paths of a client certificate and of its key (PEM), which may be one file
    """

    conn_id: str
    auth: str = "none"
    login: str = ""
    secret: str = field(default="", repr=False)
    verify: bool | str = True
    cert: tuple[str, str] | None = None

    @classmethod
    def of(cls, connection: Connection) -> Access:
        """Read a connection's login, password and extra ``auth``, ``token_file``, ``verify``, ``cert``, ``key``.

        Without ``auth``: ``basic`` if there are login and password, ``bearer`` if there is a password or a token file
        alone, else ``none``.

        :raises BadInputError: naming the field that is unusable
        """
        extra, conn_id = connection.extra_dejson, str(connection.conn_id)
        login, secret = connection.login or "", connection.password or ""
        token_file = extra.get("token_file")
        guess = "bearer" if token_file or (secret and not login) else "basic" if secret else "none"
        auth = str(extra.get("auth") or guess).lower()
        if auth not in AUTHS:
            raise BadInputError(f"the connection {conn_id!r} has auth {auth!r}; there is: {', '.join(AUTHS)}")
        if auth == "bearer" and token_file:
            secret = _file(token_file, "token_file", conn_id).read_text()
        secret = secret.strip() if auth == "bearer" else secret
        lacking = {
            "basic": "" if login and secret else "login and password",
            "bearer": "" if secret else "the token as password, or token_file",
            "simple": "" if login else "a login",
        }.get(auth)
        if lacking:
            raise BadInputError(f"the connection {conn_id!r} has auth {auth!r}, which needs {lacking}")
        if auth == "bearer" and not (secret.isascii() and secret.isprintable()):
            raise BadInputError(f"the connection {conn_id!r} has a token with line breaks or letters beyond ASCII")
        verify = extra.get("verify", True)
        if isinstance(verify, str):
            plain = {"": True, "true": True, "false": False}.get(verify.strip().lower())
            verify = str(_file(verify, "verify", conn_id)) if plain is None else plain
        pair = {name: str(_file(extra[name], name, conn_id)) for name in ("cert", "key") if extra.get(name)}
        cert = (pair["cert"], pair.get("key", pair["cert"])) if "cert" in pair else None
        return cls(conn_id, auth, login, secret, True if verify is None else verify, cert)

    def json(self, url: str, **params: str) -> Any:
        """The JSON that a GET brings. Redirects are not followed: they would carry credentials elsewhere.

        :raises BadInputError: if the credentials are refused or the certificate is not trusted
        :raises OnnxProviderError: if there is no answer, or none that can be read
        """
        import requests

        try:
            answer = requests.get(
                url,
                params=params | ({"user.name": self.login} if self.auth == "simple" else {}),
                auth=self.requests_auth(),
                verify=self.verify,
                cert=self.cert,
                timeout=TIMEOUT_SECONDS,
                allow_redirects=False,
            )
        except (requests.RequestException, OSError) as error:
            elsewhere = f"; if its web page is elsewhere, put web_address into the connection {self.conn_id!r}"
            raise self.no_answer(url, error, elsewhere) from None  # its traceback may hold what no message must
        if answer.status_code in {401, 403}:
            raise self.refused(url, answer.status_code)
        if answer.status_code != 200:
            raise OnnxProviderError(f"{url} answers {answer.status_code} {answer.reason}")
        try:
            return answer.json()
        except ValueError:
            raise OnnxProviderError(
                f"{url} answers with {answer.headers.get('Content-Type') or 'something'} that is not JSON"
            ) from None

    def refused(self, url: str, status: int) -> BadInputError:
        """The error for credentials that were not accepted."""
        return BadInputError(
            f"{url} refuses access ({status}) with auth {self.auth!r}: check auth, login and password of the "
            f"connection {self.conn_id!r}"
        )

    def no_answer(self, url: str, error: BaseException, way_out: str = "") -> OnnxProviderError:
        """The error for a request that brought nothing, in words that hold no secret."""
        text = self.clean(_root_of(error))
        if "CERTIFICATE_VERIFY_FAILED" in text:
            return BadInputError(
                f"{url} shows a certificate that is not trusted here; put the path of its CA into verify of the "
                f"connection {self.conn_id!r}"
            )
        return OnnxProviderError(f"no answer from {url}: {text}{way_out}")

    def clean(self, text: str) -> str:
        """The text without this connection's secret."""
        return text.replace(self.secret, "***") if self.secret else text

    def requests_auth(self) -> Any:
        """What ``requests`` takes as ``auth``."""
        if self.auth == "basic":
            return (self.login.encode(), self.secret.encode())
        if self.auth == "bearer":
            return self._add_bearer
        return _spnego(self.conn_id) if self.auth == "kerberos" else None

    def _add_bearer(self, request: Any) -> Any:
        request.headers["Authorization"] = f"Bearer {self.secret}"
        return request


def addresses_of(text: str | None, conn_id: str) -> tuple[str, ...]:
    """Web addresses from a comma-separated field; ``host:port`` alone means http.

    :raises BadInputError: if one holds a password, which would show in logs
    """
    found = [one.strip().rstrip("/") for one in (text or "").split(",") if one.strip()]
    if any("@" in one for one in found):
        raise BadInputError(
            f"the connection {conn_id!r} has credentials in its web_address; put them into login and password instead"
        )
    return tuple(one if "://" in one else f"http://{one}" for one in found)


def first_leading(pages: Sequence[str], ask: Callable[[str], Answer]) -> tuple[Answer | None, str]:
    """Ask one page after the other until one leads.

    :return: its answer, or None if those that answer only stand by; and what the others said
    :raises OnnxProviderError: if no page answers
    """
    said: list[str] = []
    standing_by = False
    for page in pages:
        try:
            return ask(page), "; ".join(said)
        except OnnxProviderError as error:
            if not error.retryable:
                raise
            standing_by = standing_by or isinstance(error, NotLeadingError)
            said.append(str(error))
    if not standing_by:
        raise OnnxProviderError("; ".join(said))
    return None, "; ".join(said)


@contextmanager
def expecting(page: str, what: str) -> Iterator[None]:
    """Turn the failure to find a value in an answer into an error that says whose answer it was."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise OnnxProviderError(f"{page} does not answer as {what} does: {type(error).__name__} {error}") from error


def entries(holder: Mapping[str, Any] | None, name: str) -> list[Any]:
    """A list out of Hadoop's JSON, where an empty one is null and a single entry may stand alone."""
    found = (holder or {}).get(name) or []
    return found if isinstance(found, list) else [found]


def host_of(url: str) -> str:
    """The host of a URL, without port."""
    return re.sub(r"^.*://", "", url).split("/")[0].rsplit(":", 1)[0]


def _root_of(error: BaseException) -> str:
    """``Connection refused`` out of the three errors that wrap it."""
    while inner := next(
        (one for one in (*error.args, getattr(error, "reason", None)) if isinstance(one, Exception)), error.__cause__
    ):
        error = inner
    return str(error) or type(error).__name__


def _file(path: str, name: str, conn_id: str) -> Path:
    if not Path(path).is_file():
        raise BadInputError(f"the connection {conn_id!r} names {path!r} in {name}, and no such file is on this machine")
    return Path(path)


def _spnego(conn_id: str) -> Any:
    try:
        from requests_kerberos import HTTPKerberosAuth
    except ImportError:
        try:
            from requests_gssapi import HTTPSPNEGOAuth
        except ImportError:
            raise BadInputError(
                f"the connection {conn_id!r} has auth 'kerberos', which needs a package: pip install requests-kerberos"
            ) from None
        return HTTPSPNEGOAuth()
    return HTTPKerberosAuth()
