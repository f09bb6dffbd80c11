#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# One image, four roles: `master` and `worker` of a standalone cluster, and `driver` and `executor` as Spark's client and
# scheduler on Kubernetes call them, with their variables. Anything else is run as it stands.
set -euo pipefail

umask 0002 # what is written on shared volumes stays writable for Airflow, which is of the same group
# Hadoop asks for its user's name. A platform that chooses the user's number leaves the group 0, which may write this file.
whoami > /dev/null 2>&1 || echo "anonymous:x:$(id -u):0::/opt/spark/work-dir:/usr/sbin/nologin" >> /etc/passwd

role=${1:-}
case $role in
    master) shift && set -- spark-class org.apache.spark.deploy.master.Master "$@" ;;
    worker) shift && set -- spark-class org.apache.spark.deploy.worker.Worker "$@" ;;
    driver) shift && set -- spark-submit --deploy-mode client --conf "spark.driver.bindAddress=$SPARK_DRIVER_BIND_ADDRESS" "$@" ;;
    executor)
        options=()
        for name in "${!SPARK_JAVA_OPT_@}"; do options+=("${!name}"); done
        set -- java "${options[@]}" "-Xms$SPARK_EXECUTOR_MEMORY" "-Xmx$SPARK_EXECUTOR_MEMORY" \
            -cp "${SPARK_CLASSPATH:-}:${SPARK_CONF_DIR:-/opt/spark/conf}:/opt/spark/jars/*:$PWD" \
            org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend \
            --driver-url "$SPARK_DRIVER_URL" --executor-id "$SPARK_EXECUTOR_ID" --cores "$SPARK_EXECUTOR_CORES" \
            --app-id "$SPARK_APPLICATION_ID" --hostname "$SPARK_EXECUTOR_POD_IP" \
            --resourceProfileId "$SPARK_RESOURCE_PROFILE_ID" --podName "$SPARK_EXECUTOR_POD_NAME"
        ;;
    *) exec "$@" ;;
esac
exec tini -s -- "$@" # Spark starts Python processes and does not always collect them
