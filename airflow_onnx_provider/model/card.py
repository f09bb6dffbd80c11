# SPDX-License-Identifier: Apache-2.0
"""The model card: one page per version, made from its manifest and those of the versions that it was made from.

Without Airflow: ``python -m airflow_onnx_provider.model.card <store>/<name>/<version>`` writes the pages beside the
version and prints where; with ``--markdown`` it prints the Markdown instead and writes nothing.
"""

from __future__ import annotations

import argparse
import html
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_onnx_provider.exceptions import BadInputError, OnnxProviderError
from airflow_onnx_provider.model.cards.plot import charts
from airflow_onnx_provider.model.cards.view import card_view
from airflow_onnx_provider.model.store.address import Address
from airflow_onnx_provider.model.store.storage import join, write
from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.pages.templates import templates
from airflow_onnx_provider.runtime.manifest import ModelManifest

HTML_NAME = "card.html"
MARKDOWN_NAME = "card.md"
MARKDOWN_BYTES = 20_000
"""Most that a card's Markdown may have: it travels as an XCom."""

GENERATIONS = 50
"""Most versions that a lineage is followed back."""


@dataclass(frozen=True)
class CardFiles:
    """Where a card's pages are, and the shorter one itself.

    :param html: address of the page
    :param markdown: address of the Markdown
    :param text: the Markdown, 20 kB at most
    """

    html: str
    markdown: str
    text: str


def write_card(store: ModelStore, address: str, aliases: Sequence[str] | None = None) -> CardFiles:
    """Write ``card.html`` and ``card.md`` beside a version. They are no part of it: its digest stays.

    :param address: of the version; an alias is resolved
    :param aliases: names that point to it; None: the store is asked
    :raises BadInputError: if there is no such version, or jinja2 or matplotlib is missing
    """
    address = store.resolve(address)
    manifest = store.manifest(address)
    lineage = lineage_of(store, manifest)
    if aliases is None:
        aliases = aliases_of(store, manifest)
    home = store.root / manifest.name / manifest.version
    sizes = [_size(join(home, file)) for file in manifest.files]
    size = sum(one for one in sizes if one is not None) if None not in sizes else None
    text = card_markdown(manifest, lineage, aliases, size)
    write(home / HTML_NAME, card_html(manifest, lineage, aliases, size).encode())
    write(home / MARKDOWN_NAME, text.encode())
    return CardFiles(str(home / HTML_NAME), str(home / MARKDOWN_NAME), text)


def card_html(
    manifest: ModelManifest,
    lineage: Sequence[ModelManifest] = (),
    aliases: Sequence[str] | None = None,
    size_bytes: int | None = None,
) -> str:
    """The card as one page that needs nothing else: no script, no network; the same manifests give the same bytes.

    :param lineage: the versions that it was made from, oldest first, with or without itself
    :param aliases: names that point to it; None: not known
    :param size_bytes: of the version's files; None: not known beyond what was measured
    :raises BadInputError: if jinja2 or matplotlib is missing
    """
    template = _templates().get_template("card.html.jinja")
    return str(template.render(card=card_view(manifest, lineage, aliases, size_bytes), charts=charts))


def card_markdown(
    manifest: ModelManifest,
    lineage: Sequence[ModelManifest] = (),
    aliases: Sequence[str] | None = None,
    size_bytes: int | None = None,
) -> str:
    """The card as Markdown without plots, 20 kB at most.

    :param lineage: the versions that it was made from, oldest first, with or without itself
    :param aliases: names that point to it; None: not known
    :param size_bytes: of the version's files; None: not known beyond what was measured
    :raises BadInputError: if jinja2 is missing
    """
    template = _templates().get_template("card.md.jinja")
    rendered = re.sub(r" +\n", "\n", template.render(card=card_view(manifest, lineage, aliases, size_bytes)))
    text = re.sub(r"\n{3,}", "\n\n", rendered).strip() + "\n"
    data = text.encode()
    if len(data) <= MARKDOWN_BYTES:
        return text
    note = "\n\n(The rest is on the page card.html.)\n"
    whole_lines = data[: MARKDOWN_BYTES - len(note)].decode(errors="ignore").rpartition("\n")[0]
    return whole_lines + note


def lineage_of(store: ModelStore, manifest: ModelManifest) -> tuple[ModelManifest, ...]:
    """The versions that one was made from, oldest first, itself last; ends where one is no longer in the store."""
    chain = [manifest]
    while (parent := chain[0].origin.get("parent")) and len(chain) < GENERATIONS:
        if any(parent == one.version for one in chain):
            break
        try:
            chain.insert(0, store.manifest(f"{store.root}/{_parent_name(chain[0])}/{parent}"))
        except BadInputError:  # removed since, or no name of a version
            break
    return tuple(chain)


def _parent_name(manifest: ModelManifest) -> str:
    whole = manifest.recipe.get("whole")  # of a stage of a split model, which has a name of its own
    return str(whole.get("name", manifest.name)) if isinstance(whole, Mapping) else manifest.name


def aliases_of(store: ModelStore, manifest: ModelManifest) -> tuple[str, ...]:
    """The names that point to a version in its store."""
    from airflow_onnx_provider.model.store.aliases import Aliases

    pointing = Aliases(store, manifest.name).all()
    return tuple(sorted(alias for alias, version in pointing.items() if version == manifest.version))


def _size(path: Any) -> int | None:
    try:
        return int(path.stat().st_size)  # object storage's paths have it, too
    except ValueError:  # but not those of stores that Airflow has no provider for
        return None


def _templates() -> Any:
    environment = templates("airflow_onnx_provider.model", "cards", "a model card")
    # The Markdown's filter escapes for HTML, too.
    environment.filters["md"] = _markdown_text
    return environment


def _markdown_text(text: Any) -> str:
    """Text that Markdown shows as it is, on one line and in one table cell."""
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", html.escape(str(text), quote=False))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m airflow_onnx_provider.model.card", description="Write model cards")
    parser.add_argument("model", help="<store>/<name>/<version> or <store>/<name>@<alias>, in a local folder")
    parser.add_argument("--markdown", action="store_true", help="print the Markdown, write nothing")
    given = parser.parse_args(arguments)
    try:
        root = Address.parse(given.model).root
        if "://" in root:
            raise BadInputError(f"{root} is no local folder; OnnxModelCardOperator writes cards in object stores")
        store = ModelStore(Path(root))
        if given.markdown:
            manifest = store.manifest(given.model)
            print(card_markdown(manifest, lineage_of(store, manifest), aliases_of(store, manifest)), end="")
        else:
            print(write_card(store, given.model).html)
    except OnnxProviderError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
