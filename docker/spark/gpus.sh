#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The GPUs of this container, as Spark asks for them, under the path that the provider names on Kubernetes.
set -euo pipefail
found=$(nvidia-smi --query-gpu=index --format=csv,noheader | sed 's/.*/"&"/' | paste -sd, -)
echo "{\"name\": \"gpu\", \"addresses\": [$found]}"
