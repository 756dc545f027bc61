#!/bin/sh
# Starts Triton for the gateway (triton_load=true). Passes its arguments on: labelwise-triton --model-config-name=tensorrt
set -eu

# A key that nobody knows locks the APIs that nobody uses. Loading models stays open for the gateway, so let only gateways
# reach the gRPC port. HTTP is only for probes from inside; the metrics would otherwise take HTTP's address.
#
# A version that cannot be loaded must not stop the others: Triton starts with what it can load (exit-on-error) and stays
# ready (strict-readiness), which otherwise one failed load ends for good. Probes ask whether models are ready.
key=$(cat /proc/sys/kernel/random/uuid)

exec tritonserver \
    --model-repository="${MODELS:-/models}" \
    --model-control-mode=explicit \
    --load-model='*' \
    --disable-auto-complete-config \
    --exit-on-error=false \
    --strict-readiness=false \
    --exit-timeout-secs=30 \
    --grpc-restricted-protocol="shared-memory,trace,logging:key=$key" \
    --http-address=127.0.0.1 \
    --metrics-address=0.0.0.0 \
    --backend-config=python,shm-default-byte-size=4194304 \
    "$@"
