"""Labelled photos in, a checkpoint out: data, model, losses and the two-stage loop. Needs the `train` extra."""

import os

import labelwise.no_telemetry  # noqa: F401 - before any module here imports ONNX Runtime

# Before any module here imports torch, whose OpenMP reads it once. Its threads wait for one another thousands of times
# per step, and by default keep the core busy for milliseconds before they let another process have it: a worker of the
# loader, another run, or the very thread that they wait for. OpenMP itself is this brief if there are fewer cores than
# threads.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
