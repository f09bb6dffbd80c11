#!/bin/sh
# Spark 4 needs Java 17 or newer. Install it where that needs no question, else say what to do in one line.
set -u

java_bin=java
[ -n "${JAVA_HOME:-}" ] && [ -x "$JAVA_HOME/bin/java" ] && java_bin="$JAVA_HOME/bin/java"
found=$("$java_bin" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
[ "${found:-0}" -ge 17 ] && exit 0

install="apt-get update && apt-get install -y openjdk-17-jre-headless"
if [ -n "${JAVA_HOME:-}" ] && [ -n "$found" ]; then
    echo "JAVA_HOME is $JAVA_HOME, which is Java $found; Spark needs Java 17 or newer: unset it or point it to one." >&2
    exit 1
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Java ${found:-is missing and Java} 17 is needed: installing openjdk-17-jre-headless"
    if sh -c "$install" >/tmp/java-install.log 2>&1 && update-alternatives --set java \
        "$(find /usr/lib/jvm -path '*17*/bin/java' | head -n 1)" >>/tmp/java-install.log 2>&1; then
        exit 0
    fi
    tail -n 5 /tmp/java-install.log >&2
fi
echo "Java ${found:-is missing, and Java} 17 or newer is needed${found:+, found $found}. Install it: sudo sh -c '$install'" >&2
exit 1
