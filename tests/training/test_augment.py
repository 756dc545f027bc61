"""Random views are of the right kind and differ; mixup blends photos and labels alike."""

import pytest
import torch

from labelwise.spec import ImageSpec
from training.augment import make_transform, mixup
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
