"""FastAPI with a sync endpoint, which runs in its thread pool."""

from typing import Annotated

import uvicorn
from fastapi import Body, FastAPI
from tagger_model import PORT, TaggerModel

app = FastAPI()
model = TaggerModel()


@app.post("/tag")
def tag(photo: Annotated[bytes, Body(media_type="image/jpeg")]):
    return model.tag(photo)


if __name__ == "__main__":
    uvicorn.run(app, port=PORT)
