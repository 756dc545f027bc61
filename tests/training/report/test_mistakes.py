"""The worst mistakes are the right ones, in the right order, shown as the model sees them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labelwise.spec import ImageSpec, TrainedSpec
from tests.training.report.conftest import untrained_run
from training.config import TrainConfig
from training.data.labelled_data import ABSENT, PRESENT, UNKNOWN, LabelledData, LabelledPhotos
from training.report.mistakes import show_mistakes


def test_mistakes_come_with_the_furthest_first(config: TrainConfig, data: LabelledData, tmp_path: Path):
    spec = TrainedSpec.read(untrained_run(tmp_path, config, data)).model_copy(
        update={"thresholds": tuple([0.9, 0.2] + [0.5] * (len(data.labels) - 2))}
    )
    targets = np.full_like(data.val.targets, UNKNOWN)
    targets[:3, :2] = [[PRESENT, ABSENT], [PRESENT, PRESENT], [ABSENT, ABSENT]]
    scores = np.full_like(targets, 0.99)
    scores[:3, :2] = [[0.5, 0.3], [0.01, 0.1], [0.95, 0.2]]
    missed, alarms = show_mistakes(spec, LabelledPhotos(data.val.files, targets), scores, {})
    names = data.labels
    assert [(item.label, item.file) for item in missed.worst] == [
        (names[0], data.val.files[1].name),
        (names[0], data.val.files[0].name),
        (names[1], data.val.files[1].name),
    ]
    # A score at the threshold is raised, and the unknown ones are no mistakes however high they score.
    assert [(item.label, item.score) for item in alarms.worst] == [
        (names[0], pytest.approx(0.95)),
        (names[1], pytest.approx(0.3)),
        (names[1], pytest.approx(0.2)),
    ]
    assert (missed.count, alarms.count) == (3, 3)


@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_pictures_are_upright_and_show_what_the_model_sees(
    resize: str, config: TrainConfig, data: LabelledData, tmp_path: Path
):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.new("RGB", (60, 20), "red").save(tmp_path / "turned.jpg", exif=exif)
    spec = TrainedSpec.read(untrained_run(tmp_path / "run", config, data, threshold=1.0))
    spec = spec.model_copy(update={"image": ImageSpec(height=32, width=32, resize=resize)})
    photos = LabelledPhotos((tmp_path / "turned.jpg",), np.full((1, len(data.labels)), PRESENT, np.float32))
    missed, _ = show_mistakes(spec, photos, np.full((1, len(data.labels)), 0.5, np.float32), {})
    assert {item.width / item.height for item in missed.worst} == {1 if resize == "crop" else 20 / 60}
