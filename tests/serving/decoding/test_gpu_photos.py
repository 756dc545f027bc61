"""`--decode gpu` without a GPU: Pillow stands in for nvImageCodec, and what follows it is the real code, on the CPU."""

import asyncio
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from PIL import Image

from export.tolerances import TOLERANCES
from labelwise.devices.choice import fault_of
from labelwise.errors import LabelwiseError
from labelwise.image import MAX_PIXELS, ImageError, Photo, load_photo
from labelwise.repository import Repository
from serving.decoding import gpu_photos
from serving.decoding.gpu_photos import GpuPhotos, open_gpu_photos
from serving.decoding.resizing import LONGEST_SIDE, DevicePixels, Resizer
from serving.gateway.app import create_app
from serving.gateway.requests.deadline import Deadline
from serving.gateway.requests.decoders import Decoders
from serving.settings import Settings
from tests.conftest import ROOT
from tests.labelwise.devices.test_choice import without_gpu

PHOTOS = sorted((ROOT / "tests/assets").glob("photos*/*.jpg"))
PLAIN = PHOTOS[0].read_bytes()
SIDE = 224
NVJPEG_FAULT = fault_of("nvjpeg")


class StandIn:
    """Decodes as nvImageCodec should: at full scale, not turned, into memory that has an address."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, data: bytes) -> DevicePixels:
        self.sizes.append(len(data))
        pixels = np.asarray(Image.open(io.BytesIO(data)))
        return DevicePixels(pixels.shape, pixels.ctypes.data, pixels)


def encoded(image: Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=92, **options)
    return stream.getvalue()


def tagged(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def loader() -> tuple[GpuPhotos, StandIn]:
    decode = StandIn()
    return GpuPhotos(decode, Resizer("cpu")), decode


def largest(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(float) - other).max())


def require_scores_of_the_cpu(photos: GpuPhotos) -> None:
    pairs = [
        (photos.load_photo(data, SIDE, SIDE), load_photo(data, SIDE, SIDE)) for data in map(Path.read_bytes, PHOTOS)
    ]
    assert [one.size for one, _ in pairs] == [other.size for _, other in pairs]
    session = ort.InferenceSession(
        ROOT / "model_repository/scenes_model/1/model.onnx", providers=["CPUExecutionProvider"]
    )
    scores = [session.run(["scores"], {"image": np.stack([pair[way].pixels for pair in pairs])})[0] for way in (0, 1)]
    assert largest(*scores) <= TOLERANCES["fp16"]["scores"].limit


def test_real_photos_have_the_scores_of_the_cpu() -> None:
    photos, decode = loader()
    require_scores_of_the_cpu(photos)
    assert len(decode.sizes) == len(PHOTOS)


@pytest.mark.skipif(bool(NVJPEG_FAULT), reason=f"nvJPEG does not work here: {NVJPEG_FAULT}")
def test_a_gpu_gives_the_scores_of_the_cpu_and_refuses_what_is_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    photos = open_gpu_photos()
    with caplog.at_level(logging.WARNING, "labelwise.decoder"):
        require_scores_of_the_cpu(photos)
    assert caplog.messages == []  # the GPU decoded all of them
    for tenths in range(2, 10):
        with pytest.raises(ImageError):
            photos.load_photo(PLAIN[: len(PLAIN) * tenths // 10] + b"\xff\xd9", SIDE, SIDE)


@pytest.mark.parametrize("resize", ["squash", "crop"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_and_cropped_as_on_the_cpu(orientation: int, resize: str) -> None:
    photos, decode = loader()
    data = encoded(Image.open(io.BytesIO(PLAIN)), exif=tagged(orientation))
    found, expected = (load(data, 96, 160, resize) for load in (photos.load_photo, load_photo))
    assert decode.sizes == [len(data)]
    assert (found.size, found.orientation, found.notes) == (expected.size, expected.orientation, expected.notes)
    assert found.pixels.flags.c_contiguous
    assert (
        largest(found.pixels, expected.pixels) <= 8
    )  # the CPU may decode at a reduced scale, and reduces in two steps
    assert np.abs(found.pixels.astype(int) - expected.pixels).mean() < 0.6


def test_what_follows_the_picture_does_not_reach_the_gpu() -> None:
    photos, decode = loader()
    found = photos.load_photo(PLAIN + b"a video" * 1000, SIDE, SIDE)
    assert decode.sizes == [len(PLAIN)]
    assert (found.pixels == photos.load_photo(PLAIN, SIDE, SIDE).pixels).all()


def test_pixels_are_held_while_the_gpu_decodes() -> None:
    photos, decode = loader()
    held: list[tuple[int, int]] = []

    @contextmanager
    def hold(pixels: int) -> Iterator[None]:
        before = len(decode.sizes)
        yield
        held.append((pixels, len(decode.sizes) - before))

    photos.load_photo(PLAIN, SIDE, SIDE, hold=hold)
    assert held == [(600 * 400, 1)]


@pytest.mark.parametrize("fault", ["refuses", "raises", "wrong size", "grey"])
def test_what_the_gpu_does_not_decode_the_cpu_does(fault: str, caplog: pytest.LogCaptureFixture) -> None:
    def decode(data: bytes) -> DevicePixels | None:
        if fault == "raises":
            raise RuntimeError("CUDA Runtime failure")
        pixels = np.array(Image.open(io.BytesIO(data)))
        pixels[-8:] = 128
        pixels = np.ascontiguousarray(pixels[:, 1:] if fault == "wrong size" else pixels)
        return None if fault == "refuses" else DevicePixels(pixels.shape, pixels.ctypes.data, pixels)

    with caplog.at_level(logging.WARNING, "labelwise.decoder"):
        found = GpuPhotos(decode, Resizer("cpu")).load_photo(PLAIN, SIDE, SIDE)
    assert (found.pixels == load_photo(PLAIN, SIDE, SIDE).pixels).all()
    assert caplog.messages[0].startswith(f"the CPU decodes a photo of {len(PLAIN)} bytes, not the GPU: ")


def test_a_side_with_too_many_weights_is_for_the_cpu() -> None:
    photos, decode = loader()
    data = encoded(Image.new("RGB", (LONGEST_SIDE + 1, 8), "red"))
    assert photos.load_photo(data, SIDE, SIDE).size == (LONGEST_SIDE + 1, 8)
    assert decode.sizes == []


def test_a_photo_that_is_cut_off_is_refused() -> None:
    photos, decode = loader()
    with pytest.raises(ImageError):
        photos.load_photo(PLAIN[: len(PLAIN) // 2], SIDE, SIDE)
    assert decode.sizes == []


def test_the_check_at_the_start_finds_other_pixels() -> None:
    photos, decode = loader()
    photos.require_same()
    assert len(decode.sizes) == len(gpu_photos._DRAWN)

    def swapped(data: bytes) -> DevicePixels:
        pixels = np.ascontiguousarray(np.asarray(Image.open(io.BytesIO(data)))[:, :, ::-1])
        return DevicePixels(pixels.shape, pixels.ctypes.data, pixels)

    with pytest.raises(LabelwiseError, match=r"a drawn photo of 640x480 pixels differs by [\d.]+ levels of 255"):
        GpuPhotos(swapped, Resizer("cpu")).require_same()
    with pytest.raises(LabelwiseError, match="is not decoded: nvImageCodec refused it"):
        GpuPhotos(lambda data: None, Resizer("cpu")).require_same()


def test_the_gateway_loads_ordinary_photos_with_it() -> None:
    photos, decode = loader()
    spec = Repository.open(ROOT / "model_repository", only="scenes").taggers["scenes"][1].spec
    stream = io.BytesIO()
    Image.open(io.BytesIO(PLAIN)).save(stream, "BMP")

    async def load() -> list[Photo]:
        decoders = Decoders(1, MAX_PIXELS, MAX_PIXELS, load=photos.load_photo)
        try:
            return [await decoders.photo(data, spec, Deadline(60)) for data in (PLAIN, stream.getvalue())]
        finally:
            await decoders.close()

    one, other = asyncio.run(load())
    assert decode.sizes == [len(PLAIN)]
    assert (one.size, other.size) == ((600, 400), (600, 400))
    assert largest(one.pixels, other.pixels) <= 1


@without_gpu
def test_without_a_gpu_the_gateway_does_not_start() -> None:
    engine: Any = None
    with pytest.raises(LabelwiseError, match=r"^--decode gpu does not work here: [^\n]*$"):
        create_app(Settings(decode="gpu"), engine)


@without_gpu
def test_without_a_gpu_it_says_why_and_what_to_do() -> None:
    with pytest.raises(
        LabelwiseError, match=r"--decode gpu does not work here: there is no NVIDIA driver .* What to do: "
    ):
        open_gpu_photos()
