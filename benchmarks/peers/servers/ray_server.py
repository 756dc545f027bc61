"""Ray Serve with one replica."""

import signal

import ray
from ray import serve
from starlette.requests import Request
from tagger_model import PORT, TaggerModel


@serve.deployment
class Tagger:
    def __init__(self) -> None:
        self.model = TaggerModel()

    async def __call__(self, request: Request):
        return self.model.tag(await request.body())


if __name__ == "__main__":
    ray.init(num_cpus=1, include_dashboard=False)
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    serve.run(Tagger.bind(), route_prefix="/tag")
    signal.pause()
