"""MLServer with adaptive batching, which speaks the Open Inference Protocol: photos in base64 within JSON."""

import asyncio

from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.types import InferenceResponse
from tagger_model import MOST_IN_BATCH, PORT, TaggerModel

BATCH_TIME = 0.005  # seconds


class Tagger(MLModel):
    async def load(self) -> bool:
        self.model = TaggerModel()
        return True

    async def predict(self, payload):
        photos = Base64Codec.decode_input(payload.inputs[0])
        scores = self.model.scores([self.model.decode(photo) for photo in photos])
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("scores", scores)])


if __name__ == "__main__":
    ports = {"http_port": PORT, "grpc_port": PORT + 1, "metrics_port": PORT + 2}
    settings = Settings(host="127.0.0.1", parallel_workers=0, debug=False, **ports)
    tagger = ModelSettings(
        name="tagger", implementation=Tagger, max_batch_size=MOST_IN_BATCH, max_batch_time=BATCH_TIME
    )
    asyncio.run(MLServer(settings).start([tagger]))
