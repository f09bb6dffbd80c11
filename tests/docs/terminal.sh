# SPDX-License-Identifier: Apache-2.0
# Functions win over programs, also over those of an environment that a page has activated.
airflow() {
    if [ "${1:-}" = standalone ]; then $PAGE_STAND_INS airflow-standalone "$(type -P airflow)"; else command airflow "$@"; fi
}
