"""Triton Python backend: ONNX Runtime inside, for a Triton without its onnxruntime backend."""

import json
import os
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it takes effect only before the import
import onnxruntime as ort


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        self._input = config["input"][0]["name"]
        options = ort.SessionOptions()
        # Together, the instances use each core once.
        instances = sum(group.get("count", 1) for group in config["instance_group"])
        options.intra_op_num_threads = max(1, len(os.sched_getaffinity(0)) // instances)
        # Otherwise its threads spin after each run and take the cores from decoding.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        file = Path(args["model_repository"], args["model_version"], "model.onnx")
        self._session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        """Runs all requests of a batch at once, for all outputs that they name, and answers each with its own share."""
        batches = [pb_utils.get_input_tensor_by_name(request, self._input).as_numpy() for request in requests]
        names = sorted({name for request in requests for name in request.requested_output_names()})
        outputs = self._session.run(names, {self._input: np.concatenate(batches)})
        ends = np.cumsum([len(batch) for batch in batches])[:-1]
        shares = {name: np.split(output, ends) for name, output in zip(names, outputs, strict=True)}
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor(name, shares[name][index]) for name in request.requested_output_names()]
            )
            for index, request in enumerate(requests)
        ]
