#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Is this a living master, or a worker with a master? ``health.py [master|worker]``; with neither, any will do."""

import http.client
import json
import os
import sys

HOST = os.environ.get("SPARK_LOCAL_IP", "127.0.0.1")
"""Without that variable Spark listens on all addresses."""

ROLES = {
    "master": ("SPARK_MASTER_WEBUI_PORT", "8080", lambda page: page["status"] == "ALIVE"),
    "worker": ("SPARK_WORKER_WEBUI_PORT", "8081", lambda page: page["masterurl"].startswith("spark://")),
}


def healthy(role: str) -> bool:
    variable, port, well = ROLES[role]
    connection = http.client.HTTPConnection(HOST, int(os.environ.get(variable, port)), timeout=4)
    try:
        connection.request("GET", "/json/")
        return bool(well(json.load(connection.getresponse())))
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        print(f"{role}: {error}", file=sys.stderr)
        return False


sys.exit(not any(healthy(role) for role in sys.argv[1:] or ROLES))
