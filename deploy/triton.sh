#!/bin/sh
# Starts Triton for the gateway (triton_load=true). Passes its arguments on: labelwise-triton
# --model-config-name=tensorrt
set -eu

# A random key, which is not kept, locks the APIs that labelwise does not use. The gateway loads models, so that API
# stays open: let only gateways reach the gRPC port. HTTP listens only inside the container, for probes. The metrics
# have their own address, because they would otherwise share that of HTTP.
#
# A version that cannot be loaded must not stop the others. With --exit-on-error=false Triton starts with the models
# that it can load. With --strict-readiness=false it stays ready; otherwise one failed load would end that for good.
# Probes ask whether models are ready.
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
