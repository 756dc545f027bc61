"""Triton Python backend: ONNX Runtime inside, for a Triton without its onnxruntime backend.

Of a version's graphs it runs the fastest whose loss in mAP is small enough. The parameters `precision` and `max_loss`
of config.pbtxt change that, as the options of `labelwise serve` do.
"""

import json
import os
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it takes effect only before the import
import onnxruntime as ort
from labelwise_precision import AUTO, MAX_LOSS, candidates, fastest, seconds_of


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        self._input = config["input"][0]["name"]
        self._options = ort.SessionOptions()
        # Together, the instances use each core once.
        instances = sum(group.get("count", 1) for group in config["instance_group"])
        self._options.intra_op_num_threads = max(1, len(os.sched_getaffinity(0)) // instances)
        # Otherwise its threads spin after each run and take the cores from decoding.
        self._options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        version = Path(args["model_repository"], args["model_version"])
        self._session = self._choose(version, config.get("parameters", {}))

    def _choose(self, version, parameters):
        wanted = parameters.get("precision", {}).get("string_value", AUTO)
        max_loss = float(parameters.get("max_loss", {}).get("string_value", MAX_LOSS))
        contract = version / "tagger.json"
        graphs = json.loads(contract.read_text("utf-8"))["graphs"] if contract.is_file() else []
        # A gateway that starts a Triton shows it one graph only.
        files = {graph["precision"]: version / graph["file"] for graph in graphs}
        allowed = [name for name in candidates(graphs, wanted, max_loss) if files[name].is_file()]
        if wanted != AUTO and not allowed:
            raise pb_utils.TritonModelException(f"{version.parent.name} {version.name} has no graph in {wanted}")
        if len(allowed) < 2:
            return self._open(files[allowed[0]] if allowed else version / "model.onnx")
        sessions = {name: self._open(files[name]) for name in allowed}
        runs = {name: self._run_of(session) for name, session in sessions.items()}
        for run in runs.values():
            run()  # warms up
        seconds = seconds_of(runs)
        chosen = fastest(seconds)
        times = ", ".join(f"{name} {1000 * value:.1f} ms" for name, value in seconds.items())
        pb_utils.Logger.log_info(
            f"{version.parent.name} {version.name} runs {chosen}, the fastest here: {times} a photo"
        )
        return sessions[chosen]

    def _open(self, file):
        return ort.InferenceSession(file, self._options, providers=["CPUExecutionProvider"])

    def _run_of(self, session):
        pixels = np.zeros((1, *session.get_inputs()[0].shape[1:]), np.uint8)
        return lambda: session.run(None, {self._input: pixels})

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
