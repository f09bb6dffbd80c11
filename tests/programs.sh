#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What some tests drive beside Python: a browser, and Prometheus with its push gateway. Installed where that needs no
# question; without them those tests are skipped and say so.
set -u

missing=
for program in chromium:chromium prometheus:prometheus promtool:prometheus prometheus-pushgateway:prometheus-pushgateway; do
    command -v "${program%%:*}" >/dev/null 2>&1 || missing="$missing ${program##*:}"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Some tests need$missing: installing"
    apt-get update >/dev/null 2>&1
    # shellcheck disable=SC2086 # several words on purpose
    apt-get install -y --no-install-recommends $missing >/dev/null 2>&1 && exit 0
fi
echo "Some tests will be skipped. They need: sudo apt-get install$missing" >&2
