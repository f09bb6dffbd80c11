# SPDX-License-Identifier: Apache-2.0
"""What names a model version: ``<store>/<name>/<version>``, or ``<store>/<name>@<alias>`` for what an alias names."""

from __future__ import annotations

import re
from dataclasses import dataclass

from airflow_onnx_provider.exceptions import BadInputError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,49}")
URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?:(?P<user>[^/]*)@)?(?P<rest>[^/@]*(?:/.*)?)")
CONNECTION = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class Address:
    """An address in its parts.

    :param root: the store: a folder, or a URL such as ``s3://connection@bucket/models``
    :param name: of the model
    :param version: or None if an alias is given
    :param alias: or None if a version is given
    """

    root: str
    name: str
    version: str | None = None
    alias: str | None = None

    @classmethod
    def parse(cls, address: str) -> Address:
        """Take an address apart.

        :raises BadInputError: if it has neither form, or holds more than the name of a connection before its ``@``
        """
        rest, _, last = address.rstrip("/").rpartition("/")
        if "@" in last:
            name, _, alias = last.partition("@")
            found = cls(rest or "/", name, alias=alias)
            whole = bool(NAME.fullmatch(name) and ALIAS.fullmatch(alias)) and "/" in address
        else:
            root, _, name = rest.rpartition("/")
            found = cls(root or "/", name, version=last)
            whole = all(NAME.fullmatch(part) for part in (name, last)) and "/" in rest
        if not whole or found.root.endswith(":/"):
            raise BadInputError(
                f"{hidden(address)!r} is no model address; one looks like <store>/<name>/<version> or "
                "<store>/<name>@<alias>"
            )
        check_root(found.root)
        return found


def split_address(address: str) -> tuple[str, str, str]:
    """``<root>/<name>/<version>`` as (root, name, version).

    :raises BadInputError: if the address has no such form
    """
    found = Address.parse(address)
    if found.version is None:
        raise BadInputError(
            f"{address} follows the alias {found.alias!r}, which may move at any time; give a version here: "
            "ModelStore.resolve(address)"
        )
    return found.root, found.name, found.version


def check_name(name: str) -> str:
    """Return ``name`` if it can be a model's or version's folder name.

    :raises BadInputError: otherwise
    """
    if not NAME.fullmatch(name):
        raise BadInputError(
            f"{name!r} cannot name a model: use up to 100 letters, digits, '.', '_' and '-', not starting with a sign"
        )
    return name


def check_alias(alias: str) -> str:
    """Return ``alias`` if it can be an alias's name.

    :raises BadInputError: otherwise
    """
    if not ALIAS.fullmatch(alias):
        raise BadInputError(
            f"{alias!r} cannot be an alias: use up to 50 letters, digits, '.', '_' and '-', starting with a letter"
        )
    return alias


def check_root(root: str) -> str:
    """Return ``root`` if it can be the beginning of an address, which XComs, logs and manifests show.

    :raises BadInputError: for a URL with something other than the name of an Airflow connection before its ``@``
    """
    found = URL.fullmatch(root)
    if found and found["user"] is not None and not CONNECTION.fullmatch(found["user"]):
        raise BadInputError(
            f"{hidden(root)}: only the id of an Airflow connection (letters, digits, '_', '.', '-') can stand before "
            "the @. Keep credentials in a connection"
        )
    return root


def hidden(text: str) -> str:
    """``text`` without what stands before the ``@`` of a URL, if that could be a secret."""
    found = URL.fullmatch(text)
    if found is None or found["user"] is None or CONNECTION.fullmatch(found["user"]):
        return text
    return f"{found['scheme']}://***@{found['rest']}"
