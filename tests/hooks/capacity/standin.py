# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for the web APIs of clusters: real HTTP on loopback, answers from a table."""

from __future__ import annotations

import ipaddress
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Asked:
    """One request that a stand-in saw."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]


@dataclass(frozen=True)
class Text:
    """An answer that is not JSON, or not a 200."""

    body: str = ""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "text/plain"})


Answer = Mapping[str, Any] | Text


@dataclass
class StandIn:
    """A running stand-in: its address, its table (to be changed at will) and what it was asked."""

    address: str
    answers: dict[str, Answer | Callable[[Asked], Answer]]
    asked: list[Asked] = field(default_factory=list)


@contextmanager
def standing_in(
    answers: Mapping[str, Answer | Callable[[Asked], Answer]],
    allow: Callable[[Asked], bool] = lambda _: True,
    tls: ssl.SSLContext | None = None,
) -> Iterator[StandIn]:
    """Serve the table; a request that `allow` turns down is answered 401, an unknown path 404."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            one = Asked(url.path, dict(parse_qsl(url.query)), {k.lower(): v for k, v in self.headers.items()})
            server.asked.append(one)
            answer = server.answers.get(url.path, Text("Not Found", 404)) if allow(one) else Text("Unauthorized", 401)
            if callable(answer):
                answer = answer(one)
            if not isinstance(answer, Text):
                answer = Text(json.dumps(answer), 200, {"Content-Type": "application/json"})
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body.encode())

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    http.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that breaks TLS off is a test's subject
    if tls:
        http.socket = tls.wrap_socket(http.socket, server_side=True)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    server = StandIn(f"{'https' if tls else 'http'}://127.0.0.1:{http.server_port}", dict(answers))
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


@dataclass(frozen=True)
class Certificates:
    """A certificate authority of our own, a server's certificate for 127.0.0.1, and a client's."""

    ca: Path
    server: Path
    client: Path

    def context(self, ask_client: bool = False) -> ssl.SSLContext:
        """For a server; it may insist on a client certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server)
        if ask_client:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.ca)
        return context


def make_certificates(folder: Path) -> Certificates:
    """Write the three as PEM files; those of server and client hold their keys too."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    def sign(name: str, issuer: tuple[Any, Any] | None) -> tuple[Any, Any]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        start = datetime.now(UTC) - timedelta(hours=1)
        uses = dict.fromkeys(
            (
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "encipher_only",
                "decipher_only",
            ),
            False,
        )
        # Python 3.13 and newer trust no authority that does not say what its key is for.
        usage = x509.KeyUsage(
            digital_signature=issuer is not None, key_cert_sign=issuer is None, crl_sign=issuer is None, **uses
        )
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        above = x509.AuthorityKeyIdentifier.from_issuer_public_key((issuer[1] if issuer else key).public_key())
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer[0].subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
            .add_extension(usage, critical=True)
            .add_extension(own, False)
            .add_extension(above, False)
        )
        return builder.sign(issuer[1] if issuer else key, hashes.SHA256()), key

    def write(name: str, certificate: Any, key: Any) -> Path:
        pem = serialization.Encoding.PEM
        private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (folder / name).write_bytes(certificate.public_bytes(pem) + private)
        return folder / name

    authority = sign("an authority of tests", None)
    return Certificates(
        ca=write("ca.pem", *authority),
        server=write("server.pem", *sign("127.0.0.1", authority)),
        client=write("client.pem", *sign("airflow", authority)),
    )
