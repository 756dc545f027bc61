"""LitServe. `python litserve_server.py 8` batches up to 8 photos, `1` does not batch."""

import sys
from typing import Annotated

import litserve
from fastapi import Body
from tagger_model import PORT, TaggerModel

BATCH_TIMEOUT = 0.005  # seconds


class Tagger(litserve.LitAPI):
    def setup(self, device):
        self.model = TaggerModel()

    def decode_request(self, request: Annotated[bytes, Body(media_type="image/jpeg")]):
        return self.model.decode(request)

    def batch(self, inputs):
        return inputs

    def predict(self, pixels):
        return self.model.scores(pixels if isinstance(pixels, list) else [pixels])

    def unbatch(self, output):
        return list(output)

    def encode_response(self, output):
        return self.model.answer(output.reshape(-1))


if __name__ == "__main__":
    batch = int(sys.argv[1])
    batching = {"max_batch_size": batch, "batch_timeout": BATCH_TIMEOUT} if batch > 1 else {}
    server = litserve.LitServer(Tagger(api_path="/tag", **batching), accelerator="cpu")
    server.run(host="127.0.0.1", port=PORT, generate_client_file=False)
