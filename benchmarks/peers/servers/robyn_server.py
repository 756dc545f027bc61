"""Robyn, a web framework in Rust, with a sync handler."""

from robyn import Request, Robyn
from tagger_model import PORT, TaggerModel

app = Robyn(__file__)
model = TaggerModel()


@app.post("/tag")
def tag(request: Request):
    return model.tag(request.body)


if __name__ == "__main__":
    app.start(port=PORT)
