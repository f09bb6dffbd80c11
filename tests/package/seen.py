# SPDX-License-Identifier: Apache-2.0
"""What Airflow sees of the provider; run by a bare environment's own Python, in one process to be quick.

Prints a JSON object. Each command is one of Airflow's own command line.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from typing import Any


def command(*arguments: str) -> Any:
    """What ``airflow …`` prints, as JSON."""
    from airflow.cli import cli_parser

    given = cli_parser.get_parser().parse_args([*arguments, "--output", "json"])
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        given.func(given)
    return json.loads(printed.getvalue())


def public_names() -> dict[str, bool]:
    """Each public name, and whether it is documented."""
    import airflow_onnx_provider

    return {name: bool(getattr(airflow_onnx_provider, name).__doc__) for name in airflow_onnx_provider.__all__}


def forms() -> dict[str, Any]:
    """What the UI's forms are made of: the answer of the API server's ``/ui/connections/hook_meta``."""
    from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService

    return {form.connection_type: form.model_dump(mode="json") for form in HookMetaService.hook_meta_data()}


def examples() -> dict[str, Any]:
    """The DAGs that ``load_examples`` adds for this provider."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import DagBag

    bundles = DagBundlesManager().get_all_dag_bundles()
    (bundle,) = (one for one in bundles if one.name.startswith("airflow-onnx-provider"))
    bag = DagBag(bundle.path, bundle_path=bundle.path, bundle_name=bundle.name)
    return {"path": str(bundle.path), "errors": bag.import_errors, "dags": sorted(bag.dags)}


def main() -> None:
    import airflow_onnx_provider

    seen = {
        "file": airflow_onnx_provider.__file__,
        "names": public_names(),
        "providers": command("providers", "list"),
        "plugins": command("plugins"),
        "examples": examples(),
        "forms": forms(),
        "imported": sorted(sys.modules),
    }
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
