"""Random views: of the right photo, and the same from the same seed."""

import random

import numpy as np
import torch

from training.data.views import draw_views


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
