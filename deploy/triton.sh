#!/bin/sh
# Triton as the gateway wants it (triton_load=true); arguments are added: labelwise-triton --model-config-name=tensorrt
set -eu

# The APIs that nobody here uses get a key that nobody knows. Loading models stays open for the gateway, so let nobody
# but gateways reach the gRPC port. HTTP is for probes from inside alone, and would take the metrics' address with it.
#
# A version that cannot be loaded must not take the rest with it: Triton starts with what it can load (exit-on-error), and
# stays ready (strict-readiness), which otherwise one failed load ends for good. Probes ask whether models are ready.
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
