"""A small but complete contract, without training."""

import pytest

from labelwise.spec import DataSpec, ImageSpec, TaggerSpec, TensorSpec


@pytest.fixture(scope="session")
def spec() -> TaggerSpec:
    return TaggerSpec(
        name="pets",
        version=1,
        labels=("cat", "großer Hund"),
        thresholds=(0.25, 0.5),
        image=ImageSpec(height=32, width=48),
        input=TensorSpec(name="image", dtype="uint8", shape=(32, 48, 3)),
        outputs=(
            TensorSpec(name="scores", dtype="float32", shape=(2,)),
            TensorSpec(name="embeddings", dtype="float32", shape=(2, 8)),
        ),
        embedding_dim=8,
        attention_grid=(2, 3),
        max_batch=4,
        backbone="resnet10t",
        metrics={"mAP": 0.75},
        data=DataSpec(fingerprint="f", train_images=8, val_images=2, train_counts={"cat": 3, "großer Hund": 5}),
        training={"epochs": 1, "model": {"dim": 16}},
        producer="labelwise 0.1.0",
        weights_sha256="0" * 64,
    )
