"""Triton Python backend: ONNX Runtime inside, for a Triton without its onnxruntime backend.

Of a version's graphs it runs the fastest whose loss in mAP is small enough, on the device of its instance. Parameters
of config.pbtxt change that, as the options of `labelwise serve` do: `precision`, `max_loss` and `device`. With `device`
auto, an instance on a GPU runs on the CPU if CUDA does not load; with cuda or tensorrt-rtx it does not load then.
"""

import ctypes
import importlib
import json
import os
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it takes effect only before the import
import onnxruntime as ort
from labelwise_precision import AUTO, MAX_LOSS, candidates, fastest, seconds_of

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_RTX, _RTX_PACKAGE = "NvTensorRTRTXExecutionProvider", "onnxruntime_ep_nv_tensorrt_rtx"


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config.get("parameters", {}).items()}
        self._called = f"{config['name']} {args['model_version']}"
        self._input, self._batch = config["input"][0]["name"], 1
        # Together, the instances use each core once.
        instances = sum(group.get("count", 1) for group in config["instance_group"])
        self._threads = max(1, len(os.sched_getaffinity(0)) // instances)
        self._gpu = int(args["model_instance_device_id"]) if args["model_instance_kind"] == "GPU" else None
        self._device = parameters.get("device", AUTO)
        if self._gpu is not None:
            self._batch = min(8, config["max_batch_size"])
            ort.preload_dlls()
            if self._device == "tensorrt-rtx":
                _register_rtx()
        self._session = self._choose(Path(args["model_repository"], args["model_version"]), parameters)
        pb_utils.Logger.log_info(f"{self._called} runs on {self._session.get_providers()[0]}")

    def _choose(self, version, parameters):
        wanted, max_loss = parameters.get("precision", AUTO), float(parameters.get("max_loss", MAX_LOSS))
        contract = version / "tagger.json"
        graphs = json.loads(contract.read_text("utf-8"))["graphs"] if contract.is_file() else []
        # A gateway that starts a Triton shows it one graph only.
        files = {graph["precision"]: version / graph["file"] for graph in graphs}
        allowed = [name for name in candidates(graphs, wanted, max_loss) if files[name].is_file()]
        if wanted != AUTO and not allowed:
            raise pb_utils.TritonModelException(f"{self._called} has no graph in {wanted}")
        if len(allowed) < 2:
            return self._open(files[allowed[0]] if allowed else version / "model.onnx")
        sessions = {name: self._open(files[name]) for name in allowed}
        runs = {name: self._run_of(session) for name, session in sessions.items()}
        for run in runs.values():
            run()  # warms up
        seconds = seconds_of(runs)
        chosen = fastest(seconds)
        times = ", ".join(f"{name} {1000 * value / self._batch:.1f} ms" for name, value in seconds.items())
        pb_utils.Logger.log_info(f"{self._called} runs {chosen}, the fastest here: {times} a photo")
        return sessions[chosen]

    def _open(self, file):
        if self._gpu is not None:
            session, fault = self._open_on_gpu(file)
            if session is not None and session.get_providers()[0] != _CPU:  # to which ONNX Runtime falls back by itself
                return session
            problem = (
                f"{self._called} cannot use GPU {self._gpu}: {fault}pip install 'labelwise[gpu]', or set device=cpu"
            )
            if self._device != AUTO:
                raise pb_utils.TritonModelException(problem)
            pb_utils.Logger.log_warn(f"{problem}. It runs on the CPU.")
        return ort.InferenceSession(file, self._options(), providers=[_CPU])

    def _open_on_gpu(self, file):
        """Returns a session, or None with the reason."""
        options = self._options()
        try:
            if self._device == "tensorrt-rtx":
                devices = [device for device in ort.get_ep_devices() if device.ep_name == _RTX]
                options.add_provider_for_devices([devices[self._gpu]], {})
                return ort.InferenceSession(file, options), ""
            provider = (_CUDA, {"device_id": self._gpu, "cudnn_conv_algo_search": "HEURISTIC"})
            return ort.InferenceSession(file, options, providers=[provider], enable_fallback=False), ""
        except Exception as error:  # onnxruntime raises its own unrelated classes
            return None, " ".join(str(error).split())[:200] + ": "

    def _options(self):
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        # Otherwise its threads spin after each run and take the cores from decoding.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return options

    def _run_of(self, session):
        pixels = np.zeros((self._batch, *session.get_inputs()[0].shape[1:]), np.uint8)
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


def _register_rtx():
    """Its plugin does not find its own copy of CUDA's runtime, so this loads it first."""
    package = importlib.import_module(_RTX_PACKAGE)
    library = Path(package.get_library_path())
    for file in sorted(library.parent.glob("libcudart.so.*")):
        ctypes.CDLL(str(file), mode=ctypes.RTLD_GLOBAL)
    ort.register_execution_provider_library(_RTX, str(library))
