"""The examples in the OpenAPI document: answers like those of the bundled model, and the text of each error."""

from typing import Any

from labelwise.spec import DataSpec, GraphSpec, ImageSpec, TaggerSpec, TaughtLabel, TensorSpec
from labelwise.tagging import Tag
from serving.gateway.answers.embedding import EmbedAnswer, LabelEmbedding
from serving.gateway.answers.explaining import ExplainAnswer, Grid, ImageInfo, SeenLabel
from serving.gateway.answers.tagging import BatchAnswer, BatchItem, ItemError, TagAnswer
from serving.gateway.answers.teaching import (
    DoubtfulPhoto,
    LeftOutPhoto,
    PublishedVersion,
    TaughtAnswer,
    TeachAnswer,
    VersionAnswer,
    VersionsAnswer,
)
from serving.gateway.feedback.service import FeedbackAnswer, FeedbackCounts, LabelAnswers

REQUEST_ID = "8d83e2c45f604f16a8aa6c65912f27dc"

_SUNSET = Tag(label="sunset", score=0.991061, threshold=0.5438515)
_BROKEN = "The image is damaged or incomplete and cannot be decoded; send it again whole."

TAG = TagAnswer(model="scenes", version=1, tags=[_SUNSET], scores=None, request_id=REQUEST_ID)
BATCH = BatchAnswer(
    model="scenes",
    version=1,
    results=[
        BatchItem(id="sunset-bay-palm.jpg", tags=[_SUNSET]),
        BatchItem(
            id="half.jpg",
            error=ItemError(code="image_broken", title="The image cannot be decoded", status=422, detail=_BROKEN),
        ),
    ],
    request_id=REQUEST_ID,
)

EXPLAIN = ExplainAnswer(
    model="scenes",
    version=1,
    image=ImageInfo(width=640, height=480, orientation=1),
    grid=Grid(height=2, width=2, box=(0, 0, 640, 480)),
    labels=[SeenLabel(**vars(_SUNSET), attention=[[0.4, 0.3], [0.2, 0.1]])],
    request_id=REQUEST_ID,
)
EMBED = EmbedAnswer(
    model="scenes",
    version=1,
    dimension=4,
    embeddings=[LabelEmbedding(label="sunset", values=[0.5, -0.5, 0.1, 0.7])],
    request_id=REQUEST_ID,
)

FEEDBACK = FeedbackAnswer(photo="0" * 64, model="scenes", version=1, stored=2, request_id=REQUEST_ID)
COUNTS = FeedbackCounts(labels=[LabelAnswers(label="sea", yes=12, no=30)])

_PUBLISHED: dict[str, Any] = {"model": "everyday", "version": 2, "previous_version": 1, "request_id": REQUEST_ID}
TEACH = TeachAnswer(
    **_PUBLISHED,
    label="climbing helmet",
    improved=False,
    photos_with=20,
    photos_without=60,
    average_precision=0.98,
    average_precision_spread=0.03,
    f1=0.85,
    f1_spread=0.11,
    threshold=0.455438,
    advice=None,
    doubtful=[DoubtfulPhoto(photo="cyclist.jpg", index=12, given="yes", score=0.33)],
    left_out=[LeftOutPhoto(photo="half.jpg", index=3, reason=_BROKEN)],
)
TEACH_LINES = """{"step": "look", "done": 0, "of": 80}
{"step": "look", "done": 32, "of": 80}
{"step": "fit"}
{"step": "publish"}
{"result": {"model": "everyday", "version": 2, "previous_version": 1, "label": "climbing helmet", "...": "..."}}
"""
UNDONE = VersionAnswer(**_PUBLISHED)
_TAUGHT = TaughtLabel(
    version=2,
    **{name: value for name, value in vars(TEACH).items() if name in TaughtLabel.model_fields.keys() - {"version"}},
)
TAUGHT = TaughtAnswer(model="everyday", version=2, taught={"climbing helmet": _TAUGHT})
VERSIONS = VersionsAnswer(
    model="everyday",
    versions=[
        PublishedVersion(version=1, served=False, labels=284, taught=[]),
        PublishedVersion(version=2, served=True, labels=285, taught=["climbing helmet"]),
    ],
)

CONTRACT = TaggerSpec(
    name="scenes",
    version=1,
    graphs=(
        GraphSpec(
            precision="fp32",
            file="model.onnx",
            sha256="0" * 64,
            differences={"scores": 1.5e-6, "embeddings": 2.1e-6, "attention": 1.2e-6},
            map_change=0.0,
            labelled_photos=380,
        ),
    ),
    labels=("sea", "sunset"),
    thresholds=(0.4890415, 0.5438515),
    image=ImageSpec(height=224, width=224),
    input=TensorSpec(name="image", dtype="uint8", shape=(224, 224, 3)),
    outputs=(
        TensorSpec(name="scores", dtype="float32", shape=(2,)),
        TensorSpec(name="embeddings", dtype="float32", shape=(2, 128)),
        TensorSpec(name="attention", dtype="float32", shape=(2, 7, 7)),
    ),
    embedding_dim=128,
    attention_grid=(7, 7),
    max_batch=32,
    backbone="tf_efficientnet_lite0",
    metrics={"mAP": 0.9},
    data=DataSpec(fingerprint="0" * 64, train_images=1480, val_images=380, train_counts={"sea": 400, "sunset": 310}),
    training={"epochs": 7},
    producer="labelwise 0.2.0",
    weights_sha256="0" * 64,
)

DETAILS: dict[str, str] = {
    "invalid_request": "labels: scenes has no such label: moon; see /v1/models.",
    "malformed_body": "The multipart form has no file in the field `file`.",
    "unauthorized": "This needs a key: send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`.",
    "forbidden": "Feedback is switched off here: `labelwise serve --feedback FILE.db` switches it on.",
    "unknown_model": "scenes has no version 9 here; it has 1.",
    "upload_timeout": "The upload was too slow and was given up; try again.",
    "body_too_large": "Send at most 20 MiB.",
    "too_many_images": "Send at most 64 photos in one request.",
    "image_too_many_pixels": "The image is 40000x40000 pixels: send at most 64 megapixels.",
    "content_type_unsupported": "Send the photo itself as image/*, or a multipart form with it as `file`.",
    "image_format_unsupported": "The bytes are not an image of an accepted format (JPEG, PNG, WEBP, …).",
    "image_empty": "There is no photo in the request: send its bytes as the body.",
    "image_broken": _BROKEN,
    "image_too_small": "The image is 1x1 pixels; send at least 8x8.",
    "image_too_complex": "The image has more than 4096 segments; save it again, which drops what is not needed.",
    "decoder_failed": "The image ended the process that decoded it; try again, or save it in another format.",
    "url_not_allowed": "Photos are fetched from the hosts that this server lists, and no others.",
    "url_not_fetched": "The host answered with status 404.",
    "not_found": "everyday was not taught 'climbing helmet'.",
    "not_teachable": "scenes cannot be taught, because its labels share weights; here everyday can be.",
    "lesson_refused": "'climbing helmet' has 1 photo with it: give at least 3 with it and 3 without it.",
    "lesson_failed": "Not published: the model repository cannot be written: No space left on device.",
    "output_not_offered": "shapes offers no embeddings, only scores.",
    "overloaded": "As many requests are being worked on as this server takes; try again shortly.",
    "internal": "The server failed; its log has the details under this request id.",
    "engine_failed": "The model failed on this input; the log here says why.",
    "engine_unavailable": "The engine is down or starting; try again shortly.",
    "store_full": "The server has no room for corrections; nothing was stored.",
    "store_unavailable": "The server cannot store corrections now; its log says why. Try again shortly.",
    "shutting_down": "The server is shutting down; try again shortly.",
    "deadline_exceeded": "There was not enough time for this request; try again, or send less at once.",
}
