# SPDX-License-Identifier: Apache-2.0
"""The Pythons of pages: one process that has imported Airflow, and a fork of it for each page.

The import takes seconds, a fork none. A fork gets its page's variables, folder and database, runs blocks in one
namespace, and answers each with None or a traceback.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any


def main(repository: str, socket: str) -> None:
    sys.path[0] = repository  # for the contexts of pages
    import airflow.dag_processing.dagbag
    import airflow.serialization.serialized_objects  # noqa: F401

    import airflow_onnx_provider

    _ = [getattr(airflow_onnx_provider, name) for name in airflow_onnx_provider.__all__]
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with Listener(socket) as listener:
        while True:
            connection = listener.accept()
            if not os.fork():
                serve(connection)
                os._exit(0)
            connection.close()


def serve(connection: Connection) -> None:
    """Be the Python of one page until it hangs up."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    work, variables, log = connection.recv()
    os.chdir(work)
    os.environ.clear()
    os.environ.update(variables)
    said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)
    use_database(Path(work, "airflow.db"))
    names: dict[str, Any] = {"__name__": "__main__", "looks_right": looks_right}
    while True:
        try:
            page, first, text = connection.recv()
        except EOFError:
            return
        failed = None
        try:
            # Empty lines before it make its own lines those of the page.
            exec(compile("\n" * (first - 1) + text, page, "exec"), names)  # noqa: S102
        except BaseException:  # whatever it is, the page failed
            failed = traceback.format_exc()
        sys.stdout.flush()
        connection.send(failed)


def use_database(file: Path) -> None:
    """Airflow read its settings before the fork."""
    from airflow import settings

    os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = f"sqlite:///{file}"
    settings.configure_vars()
    settings.configure_orm()


def looks_right(file: str) -> None:
    """A file that was saved is Python; in a folder of DAGs, and of Airflow, it is a DAG."""
    text = Path(file).read_text()
    compile(text, file, "exec")
    if "dags" in Path(file).parts and "import dag" in text:
        from airflow.dag_processing.dagbag import DagBag

        bag = DagBag(file)
        assert not bag.import_errors, bag.import_errors
        assert bag.dags, f"{file} has no DAG"


if __name__ == "__main__":
    main(*sys.argv[1:])
