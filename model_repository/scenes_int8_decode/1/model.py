"""Triton Python backend: encoded photos to uint8 pixels, with the decoder that the tagger was exported with."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import triton_python_backend_utils as pb_utils
from labelwise_image import ImageError, load_photo


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        settings = {key: value["string_value"] for key, value in config["parameters"].items()}
        for key in ("height", "width", "max_pixels"):
            settings[key] = int(settings[key])
        self._settings = settings
        self._output = config["output"][0]["name"]
        # Pillow releases the interpreter lock while it decodes, so threads in one process are enough.
        self._pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))

    def execute(self, requests):
        batches = [pb_utils.get_input_tensor_by_name(request, "IMAGE").as_numpy().ravel() for request in requests]
        decoded = [[self._pool.submit(self._decode, bytes(photo)) for photo in batch] for batch in batches]
        return [self._respond(photos) for photos in decoded]

    def finalize(self):
        self._pool.shutdown()

    def _decode(self, photo):
        try:
            decoded = load_photo(photo, **self._settings)
        except ImageError as error:
            return f"{error.code}: {error}"
        for note in decoded.notes:
            pb_utils.Logger.log_warn(note)
        return decoded.pixels

    def _respond(self, photos):
        results = [photo.result() for photo in photos]
        for index, result in enumerate(results):
            if isinstance(result, str):
                message = f"image {index + 1} of {len(results)}: {result}"
                return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, pb_utils.TritonError.INVALID_ARG))
        return pb_utils.InferenceResponse([pb_utils.Tensor(self._output, np.stack(results))])
