"""Random views are of the right photo and depend only on their seed; mixup blends photos and labels in the same way."""

import random

import numpy as np
import pytest
import torch

from labelwise.spec import ImageSpec
from training.augment import draw_views, make_transform, mixup
from training.config import AugmentConfig

IMAGE = ImageSpec(height=32, width=48)


def test_views_have_the_models_size_and_differ():
    torch.manual_seed(0)
    transform = make_transform(AugmentConfig(), IMAGE)
    photo = torch.randint(0, 256, (3, 40, 60), dtype=torch.uint8)
    views = [transform(photo) for _ in range(6)]
    assert {(view.shape, view.dtype) for view in views} == {((3, 32, 48), torch.uint8)}
    assert len({view.numpy().tobytes() for view in views}) == 6


def test_with_everything_off_a_view_is_the_photo_or_its_mirror_image():
    torch.manual_seed(0)
    square = ImageSpec(height=32, width=32)
    transform = make_transform(AugmentConfig(min_crop=1, randaugment_ops=0, erase=0), square)
    photo = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    views = {transform(photo).numpy().tobytes() for _ in range(12)}
    assert views == {photo.numpy().tobytes(), photo.flip(-1).numpy().tobytes()}


def test_mixup_blends_photos_and_labels_by_the_same_share():
    torch.manual_seed(0)
    targets = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    pixels = (targets * 200).to(torch.uint8).view(4, 2, 1, 1).expand(4, 2, 3, 3)  # a photo that shows its targets
    mixed_pixels, mixed_targets = mixup(pixels, targets, alpha=1.0)
    torch.testing.assert_close(mixed_pixels, (mixed_targets * 200).view(4, 2, 1, 1).expand(4, 2, 3, 3))
    torch.testing.assert_close(mixed_targets.sum(dim=0), targets.sum(dim=0))
    assert ((mixed_targets > 0) & (mixed_targets < 1)).any()


@pytest.mark.parametrize("alpha", [0.2, 5.0])
def test_mixup_keeps_unknown_what_is_unknown_in_either_photo(alpha: float):
    torch.manual_seed(1)
    targets = torch.tensor([[-1.0, 1.0, 0.0], [1.0, -1.0, 0.0], [1.0, 1.0, 1.0]])
    for _ in range(20):
        _, mixed = mixup(torch.zeros(3, 3, 2, 2, dtype=torch.uint8), targets, alpha)
        assert (mixed[targets < 0] == -1).all()
        assert (((mixed >= 0) & (mixed <= 1)) | (mixed == -1)).all()
        assert (mixed[:, 2] >= 0).all()


def test_views_are_of_the_photo_and_each_is_drawn_again():
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    numbers = iter(range(10))
    views = draw_views(pixels, lambda photo: photo + next(numbers), 2, 0)
    assert torch.equal(views[0], torch.from_numpy(pixels).permute(2, 0, 1))
    assert torch.equal(views[1], views[0] + 1)


def test_views_depend_on_their_seed_alone_and_leave_the_generators_as_they_were():
    def transform(photo: torch.Tensor) -> torch.Tensor:
        noise = torch.randint(0, 9, photo.shape) + random.randrange(9) + np.random.randint(9)
        return noise.to(torch.uint8)

    def state() -> tuple[float, float, float]:
        before = random.getstate(), np.random.get_state(), torch.get_rng_state()
        drawn = random.random(), np.random.rand(), torch.rand(()).item()
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
        return drawn

    photo = np.zeros((4, 6, 3), np.uint8)
    before = state()
    first, again, other = (draw_views(photo, transform, 2, 0, 1, index) for index in (5, 5, 6))
    assert state() == before
    assert first.shape == (2, 3, 4, 6)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])
