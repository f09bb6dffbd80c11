#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Spark 4 needs Java 17 or newer. Install it where that needs no question, else say what to do in one line.
set -u

java_version() {
    java_bin=java
    [ -n "${JAVA_HOME:-}" ] && java_bin="$JAVA_HOME/bin/java"
    "$java_bin" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1
}

enough() { [ "${1:-0}" -ge 17 ]; }

found=$(java_version)
enough "$found" && exit 0
have=${found:+, found Java $found}${JAVA_HOME:+ (JAVA_HOME is $JAVA_HOME)}
log=$(mktemp)
if [ "$(id -u)" = 0 ] && [ -z "${JAVA_HOME:-}" ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update >"$log" 2>&1
    for version in 17 21 25; do
        package=openjdk-$version-jre-headless
        apt-cache show "$package" >/dev/null 2>&1 || continue
        echo "Spark needs Java 17 or newer$have: installing $package"
        apt-get install -y "$package" >>"$log" 2>&1 &&
            update-alternatives --set java "$(find /usr/lib/jvm -path "*$version*/bin/java" | head -n 1)" >>"$log" 2>&1
        break
    done
    enough "$(java_version)" && exit 0
fi
echo "Spark needs Java 17 or newer$have. Install it: sudo apt-get install openjdk-17-jre-headless" >&2
[ -s "$log" ] && tail -n 3 "$log" >&2
exit 1
